"""`minimize_stateless`, the drop-in for `tfp.math.minimize_stateless`."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.api.divergence import warn_of_divergence
from fusemin.arguments import (
    as_flag,
    as_scope_name,
    check_callable,
    check_convergence_criterion,
    check_not_swapped,
    check_num_steps,
    check_pure_optimizer,
)
from fusemin.loop import seeds
from fusemin.loop.auto_compilation import decide, find_failure, not_here
from fusemin.loop.compilation import AUTO, as_jit_compile, can_compile_loop, explained_failure
from fusemin.loop.convergence import criterion_or_none
from fusemin.loop.differentiation import as_loss, check_gradients
from fusemin.loop.loop import Options
from fusemin.loop.placement import gpus_here
from fusemin.loop.seed_argument import seeded
from fusemin.loop.segment import run_loop
from fusemin.loop.step_protocol import StepResult
from fusemin.loop.traceable import explained_trace_fn, trace_loss
from fusemin.loop.tracing_errors import explained_tracing
from fusemin.types import ConvergenceCriterion, Loss, NumSteps, PureOptimizer, Seed, Trace

_LOGGER = logging.getLogger("fusemin")


class StatelessStep:
    """The step of `minimize_stateless`: the loop carries parameters and optimizer state.

    Args:
      loss_fn: the user's loss.
      optimizer: a pure optimizer.
      initial_state: parameters and the optimizer's state, structures of tensors.
      use_seed: whether the step will be given seeds.
    """

    has_sparse_gradients = False

    def __init__(self, loss_fn, optimizer, initial_state, use_seed):
        self._loss_fn = seeded(loss_fn)
        self._optimizer = optimizer
        self.initial_state = initial_state
        self.gpus = gpus_here()
        self._step = graphs.trace(
            self._step_as_is,
            *tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self.initial_state),
            tf.TensorSpec([2], tf.int32) if use_seed else None,
        )
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._step.structured_outputs)
        self.loss, self.gradients, self.parameters, self.optimizer_state = specs

        self.effects = graphs.has_effects(self._step.graph.get_operations())

    def num_ops(self) -> int:
        return len(self._step.graph.get_operations())

    def loss_operations(self) -> list[tf.Operation]:
        return self._step.graph.get_operations()

    def trace_source(self, leaf, quantities, effects) -> None:
        """No variable is updated, so no leaf is written by an update op."""

    def __call__(
        self, state, *, seed, inputs, sources, buffers, row, row_offset, in_loop, needs_parameters, before_update, gate
    ) -> StepResult:
        loss, gradients, parameters, optimizer_state = self._step(*state, seed)
        # The loop carries the structure that it began with, such as a tuple where `update` returns a list.
        state = tf.nest.pack_sequence_as(state, tf.nest.flatten((parameters, optimizer_state)))
        return StepResult(state, loss, gradients, parameters, optimizer_state, buffers)

    def _step_as_is(self, parameters, optimizer_state, seed):
        flat = tf.nest.flatten(parameters)
        arguments = parameters if isinstance(parameters, tuple | list) else [parameters]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            with explained_tracing("loss_fn"):
                loss = self._loss_fn(*arguments, seed=seed)
                # Of a list the gradients are those of the sum.
                loss = tf.nest.map_structure(as_loss, loss) if isinstance(loss, list | tuple) else as_loss(loss)
        gradients = tape.gradient(loss, flat)
        names = ["`init`"] if len(flat) == 1 else [f"`init[{i}]`" for i in range(len(flat))]
        check_gradients(gradients, names, ", and let `loss_fn` capture it as a constant")
        gradients = tf.nest.pack_sequence_as(parameters, [tf.convert_to_tensor(g) for g in gradients])
        updates, optimizer_state = self._optimizer.update(gradients, optimizer_state, parameters)
        parameters = tf.nest.map_structure(lambda p, u: p + u, parameters, updates)
        return loss, gradients, parameters, tf.nest.map_structure(tf.convert_to_tensor, optimizer_state)


def _as_parameters(init):
    """`init` in tensors: what has a dtype keeps it, Python numbers become float32.

    Raises:
      TypeError: it holds what is no tensor.
    """

    def convert(value):
        hint = None if isinstance(value, np.ndarray | np.generic) else tf.float32
        try:
            return tf.convert_to_tensor(value, dtype_hint=hint)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`init` must be a tensor or a nested structure of them, it holds {value!r}") from error

    return tf.nest.map_structure(convert, init)


@graphs.without_autograph
def minimize_stateless(
    loss_fn: Loss,
    init: Any,
    num_steps: NumSteps,
    optimizer: PureOptimizer,
    convergence_criterion: ConvergenceCriterion | None = None,
    batch_convergence_reduce_fn: Callable[[Any], Any] = tf.reduce_all,
    trace_fn: Callable[..., Any] = trace_loss,
    return_full_length_trace: bool = True,
    jit_compile: bool | str | None = False,
    seed: Seed | None = None,
    name: str = "minimize_stateless",
) -> tuple[Any, Trace]:
    """Minimizes a loss that is a pure function of its parameters. Drop-in for `tfp.math.minimize_stateless`.

    Args:
      loss_fn: function `loss_fn(*init)`, or `loss_fn(init)` if `init` is not a tuple or list, which returns a floating
        `Tensor`, or a list of them, whose sum is minimized. If its signature has a `seed`, it is called with `seed=` an
        int32 `Tensor` of shape [2] that is new at every step, or None.
      init: initial parameters, a floating or complex `Tensor` or a nested structure of them. Arrays of NumPy keep their
        dtype; numbers of Python become float32.
      num_steps: see `minimize`.
      optimizer: a pure optimizer, with `init(parameters)`, which returns a state, and `update(grads, state,
        parameters)`, which returns `(updates, state)`; the updates are added to the parameters.
      convergence_criterion: see `minimize`.
      batch_convergence_reduce_fn: see `minimize`.
      trace_fn: function of a `MinimizeTraceableQuantities`.
      return_full_length_trace: see `minimize`.
      jit_compile: True to compile the whole loop with XLA; "auto" to do so where it can and where it pays, see
        `minimize`. Any other value counts by its truth.
      seed: see `minimize`.
      name: name scope of the ops.

    Returns:
      `(final_parameters, trace)`: the parameters in the structure of `init`, and the trace, see `minimize`.

    Raises:
      TypeError, ValueError: an argument is not as described; the message names it.

    Warns:
      RuntimeWarning: the last loss of the default trace is not finite.

    The result can be differentiated with respect to `init` and all tensors that loss and optimizer hold, also twice:
    the gradient goes back through every step, so each is kept until then. With `jit_compile` the tape must be inside of
    what XLA compiles; around it, the loop is not compiled.

    >>> import tensorflow as tf, fusemin
    >>> class GradientDescent:
    ...     def init(self, parameters):
    ...         return ()
    ...     def update(self, grads, state, parameters):
    ...         return tf.nest.map_structure(lambda g: -0.1 * g, grads), state
    >>> x, losses = fusemin.minimize_stateless(
    ...     lambda x: (x - 5.0) ** 2, init=0.0, num_steps=100, optimizer=GradientDescent())
    >>> round(float(x), 3), losses.shape
    (5.0, TensorShape([100]))

    How the result depends on the data:

    >>> y = tf.constant(5.0)
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(y)
    ...     x, _ = fusemin.minimize_stateless(
    ...         lambda x: (x - y) ** 2, init=0.0, num_steps=100, optimizer=GradientDescent())
    >>> round(float(tape.gradient(x, y)), 3)
    1.0
    """
    check_callable(loss_fn, "loss_fn")
    check_not_swapped(num_steps, optimizer)
    check_pure_optimizer(optimizer)
    check_convergence_criterion(convergence_criterion)
    check_callable(batch_convergence_reduce_fn, "batch_convergence_reduce_fn")
    num_steps = check_num_steps(num_steps)
    seed = None if seed is None else seeds.sanitize_seed(seed)
    name = as_scope_name(name)
    options = Options(
        criterion_or_none(convergence_criterion, batch_convergence_reduce_fn),
        batch_convergence_reduce_fn,
        as_flag(return_full_length_trace, "return_full_length_trace"),
    )
    explained = explained_trace_fn(trace_fn)

    step = None

    def minimize(initial_state, seed):
        nonlocal step
        with tf.name_scope(name):
            step = StatelessStep(loss_fn, optimizer, initial_state, seed is not None)
            (parameters, _), trace = run_loop(step, num_steps, seed, explained, options)
            return parameters, trace

    mode = as_jit_compile(jit_compile)
    parameters = _as_parameters(init)
    # Outside of the function that is traced, as in TFP: an `init` may ask the parameters for their values.
    state = tf.nest.map_structure(tf.convert_to_tensor, optimizer.init(parameters))
    # By whether XLA compiles it.
    functions = {
        compiles: tf.function(minimize, autograph=False, jit_compile=compiles or None) for compiles in (False, True)
    }
    arguments = (parameters, state), seed

    def trace_step():
        functions[False].get_concrete_function(*arguments)
        return step

    def lower():
        _compat.lower_to_hlo(functions[True].get_concrete_function(*arguments))

    if mode == AUTO:
        decision = not_here() or decide(num_steps, trace_step, lambda: find_failure(lower))
        _LOGGER.debug("%s", decision)
        compiles = decision.compiles
    else:
        # There is no mode for the loss alone.
        compiles = bool(mode) and can_compile_loop()
    with explained_failure(True, has_loss_mode=False) if compiles else contextlib.nullcontext():
        parameters, trace = functions[compiles](*arguments)
    if trace_fn is trace_loss:
        warn_of_divergence(trace)
    return parameters, trace
