"""What tests of compiled steps share: forms of the update, a criterion, and many optimizers at once in one compiled
function, each in a loop of its own, since one compilation takes less than many."""

import contextlib
import os

import tensorflow as tf

from fusemin.update.fused_step import fused_step
from tests.support.side_by_side import Start, set_up, state_of

# How the update is compiled: see docs/xla.md.
FORMS = ("hlo", "loops", "call")


@contextlib.contextmanager
def form_of_update(form):
    """Has the update compiled in one form, whatever its size. None for the one that is chosen by size."""
    kept = os.environ.pop("FUSEMIN_XLA_FORM", None)
    if form is not None:
        os.environ["FUSEMIN_XLA_FORM"] = form
    try:
        yield
    finally:
        os.environ.pop("FUSEMIN_XLA_FORM", None)
        if kept is not None:
            os.environ["FUSEMIN_XLA_FORM"] = kept


def run_all(rows, starts: list[Start], dtype: tf.DType, fused: bool, jit_compile: bool, form=None) -> list[dict]:
    """The states after all steps, one for each row. Every row has as many steps as its start has gradients.

    Args:
      rows: of optimizer_table.py.
      starts: one for each row.
      dtype: of the variables.
      fused: whether the op does the steps, or each optimizer's own `apply_gradients`.
      jit_compile: whether XLA compiles them.
      form: see `form_of_update`.
    """
    bound = [
        set_up(lambda row=row: row.make(learning_rate=0.01), s, dtype) for row, s in zip(rows, starts, strict=True)
    ]
    gradients = [
        [tf.constant([step[i] for step in start.gradients], dtype) for i in range(len(start.params))]
        for start in starts
    ]

    def take_steps(optimizer, update, stacked):
        def step(i):
            of_step = [g[i] for g in stacked]
            if fused:
                fused_step(update, of_step, loss=None, in_loop=True)
            else:
                optimizer.apply_gradients(zip(of_step, update.variables, strict=True))
            return i + 1

        num_steps = stacked[0].shape[0]
        tf.while_loop(lambda i: i < num_steps, step, [tf.constant(0)], parallel_iterations=1)

    @tf.function(autograph=False, jit_compile=jit_compile or None)
    def run():
        for (optimizer, update), stacked in zip(bound, gradients, strict=True):
            take_steps(optimizer, update, stacked)

    with form_of_update(form):
        run()
    return [state_of(update) for _, update in bound]


class ConvergedAt:
    """A convergence criterion that is met at a certain step."""

    def __init__(self, step):
        self.step = step

    def bootstrap(self, loss, grads, parameters):
        return ()

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        return tf.fill(tf.shape(loss), step >= self.step), ()
