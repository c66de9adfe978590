"""Steps and early exit compiled by XLA (`jit_compile=True`), beside `tfp.math.minimize` compiled and jax + optax.

The times of steps are taken as in the question "steps"; runs have more steps, since the call itself counts here. The
fastest stock TFP is the compiled one with the smallest median of the row. "fusemin, keras Adam" without "jit" is
the default mode, for comparison. "loss and gradient alone, jit" does no update: a quarter of the gradient
takes the place of the variable. How long compiling takes is the question "first_call".

"early exit": a fit of 50 variables of 100 whose convergence criterion says at step 35 of at most 100,000 that
it has converged, beside one of 50 steps, both compiled, with the trace of the losses.

How times are taken stands in `race.py`:

"""

import functools

from benchmarks import plots, race
from benchmarks.problems import FIFTY, FOUR_MILLION, PERCEPTRON, SCALAR, TWO_HUNDRED, Quadratic
from benchmarks.question import Question
from benchmarks.report import progress
from benchmarks.rivals import keras_adam, restore_variables, rivals_for, tf_math, tf_variables
from benchmarks.timing import Row, cases, fastest, interleave, measure, median_ratio

__doc__ += race.__doc__

JAX = "jax + optax, scan, jit"
RIVALS = {
    "fusemin, keras Adam",
    "fusemin, keras Adam, jit",
    "fusemin, tf_keras legacy Adam, jit",
    "fusemin, tf.compat.v1 Adam, jit",
    "tfp, keras Adam, jit",
    "tfp, tf_keras legacy Adam, jit",
    "tfp, tf.compat.v1 Adam, jit",
    JAX,
    "loss and gradient alone, jit",
}
# Of each workload: how many steps a run has in default mode, and compiled.
WORKLOADS = [
    (SCALAR, 2000, 200_000),
    (FIFTY, 200, 2000),
    (PERCEPTRON, 100, 100),
    (FOUR_MILLION, 20, 20),
    (TWO_HUNDRED, 20, 50),
]
SMOKE_WORKLOADS = [(Quadratic("2 variables of 10", 2, (10,)), 20, 20)]
EARLY_EXIT = (FIFTY, 100_000, 35, 50)
SMOKE_EARLY_EXIT = (Quadratic("2 variables of 10", 2, (10,)), 100, 5, 10)

# Workloads, the early exit, seconds of a sample, and the number of rounds.
SIZES = {"smoke": (SMOKE_WORKLOADS, SMOKE_EARLY_EXIT, 0.0, 2), "full": (WORKLOADS, EARLY_EXIT, 0.15, 7)}


class _ConvergesAt:
    """A convergence criterion that has converged at a step."""

    def __init__(self, step):
        self._step = step

    def bootstrap(self, loss, grads, parameters):
        del loss, grads, parameters
        return ()

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        import tensorflow as tf

        del grads, parameters
        return tf.fill(tf.shape(loss), step >= self._step), auxiliary_state


def _early_exit(problem, most, converges_at, fixed, rounds, repeated) -> list[Row]:
    import numpy as np
    import tensorflow as tf

    import fusemin

    def build(num_steps, criterion):
        variables, loss = tf_variables(problem), problem.bind(tf_math())
        optimizer = keras_adam(1e-3)

        @functools.partial(tf.function, autograph=False)
        def run():
            return fusemin.minimize(
                lambda: loss(variables),
                num_steps,
                optimizer,
                trainable_variables=variables,
                convergence_criterion=criterion,
                jit_compile=True,
            )

        start = [tf.constant(v) for v in problem.start()]

        def seconds():
            total = 0.0
            for _ in range(repeated):
                restore_variables(variables, start)
                total += measure(lambda: run().numpy()).wall
            return total / repeated

        losses = run().numpy()
        seconds()
        return seconds, losses

    fits = {
        f"{fixed} steps": build(fixed, None),
        f"converges at {converges_at} of {most:,}": build(most, _ConvergesAt(converges_at)),
    }
    _, losses = fits[f"converges at {converges_at} of {most:,}"]
    # After the exit the trace repeats its last row.
    np.testing.assert_array_equal(losses[converges_at:], losses[converges_at])
    progress("xla: early exit is ready")
    samples = interleave({name: seconds for name, (seconds, _) in fits.items()}, rounds)
    return [Row("early exit", name, "s", samples[name], {}, {"group": "early exit"}) for name in fits]


def _run(size, rounds):
    workloads, early_exit, duration, usual_rounds = SIZES[size]
    rounds = rounds or usual_rounds
    rows = []
    for problem, default, jit in workloads:
        here = race.race("xla", problem, rivals_for(problem, RIVALS), default, duration, rounds, jit)
        race.compare(here, "stock, jit", "times stock, jit")
        rows += race.compare(here, "other, jit", "times jax + optax")
    return rows + _early_exit(*early_exit, rounds, repeated=20 if size == "full" else 1)


def _summarize(rows):
    lines = []
    for case, here in cases(rows).items():
        ours, stock, jax = (fastest(here, group=group) for group in ("fusemin, jit", "stock, jit", "other, jit"))
        for rival in (stock, jax):
            if ours and rival:
                ratio = median_ratio(rival, ours)
                lines.append(f"{case}: {ours.rival} takes {ratio:.2f} times as many steps per second as {rival.rival}")
        if case == "early exit":
            fixed, early = here
            lines.append(f"{early.rival}: {median_ratio(early, fixed):.2f} of the time of {fixed.rival}")
    return lines


QUESTION = Question(
    name="xla",
    title="How long does a step take, compiled by XLA?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    # The default mode would hide the rest.
    plot=functools.partial(plots.bars, label="µs", scale=1e6, only=lambda row: row.notes["group"].endswith("jit")),
)
