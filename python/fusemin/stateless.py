"""`minimize_stateless`, the drop-in for `tfp.math.minimize_stateless`."""

import tensorflow as tf

from fusemin import graphs, seeds
from fusemin.arguments import (
    check_callable,
    check_convergence_criterion,
    check_flag,
    check_gradients,
    check_loss,
    check_num_steps,
)
from fusemin.compilation import can_compile_loop
from fusemin.loop import Options, run_loop
from fusemin.step_result import StepResult
from fusemin.traceable import accepts_seed, trace_loss

_SALT = "minimize"


class StatelessStep:
    """The step of `minimize_stateless`: the loop carries parameters and optimizer state."""

    def __init__(self, loss_fn, optimizer, init, use_seed):
        self._loss_fn = loss_fn
        self._passes_seed = accepts_seed(loss_fn)
        self._optimizer = optimizer
        parameters = tf.nest.map_structure(lambda x: tf.convert_to_tensor(x, dtype_hint=tf.float32), init)
        state = tf.nest.map_structure(tf.convert_to_tensor, optimizer.init(parameters))
        self.initial_state = (parameters, state)
        self._step = graphs.trace(
            self._step_as_is,
            *tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self.initial_state),
            tf.TensorSpec([2], tf.int32) if use_seed else None,
        )
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._step.structured_outputs)
        self.loss, self.gradients, self.parameters, self.optimizer_state = specs

    def num_ops(self) -> int:
        return len(self._step.graph.get_operations())

    def trace_source(self, leaf, quantities) -> None:
        """No variable is updated, so no leaf is written by an update op."""

    def __call__(self, state, seed, sources, buffers, row, row_offset, in_loop, needs_parameters) -> StepResult:
        loss, gradients, parameters, optimizer_state = self._step(*state, seed)
        return StepResult((parameters, optimizer_state), loss, gradients, parameters, optimizer_state, buffers)

    def _step_as_is(self, parameters, optimizer_state, seed):
        flat = tf.nest.flatten(parameters)
        arguments = parameters if isinstance(parameters, tuple | list) else [parameters]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            loss = self._loss_fn(*arguments, seed=seed) if self._passes_seed else self._loss_fn(*arguments)
        check_loss(loss)
        gradients = tape.gradient(loss, flat)
        check_gradients(gradients, [f"init[{i}]" for i in range(len(flat))])
        gradients = tf.nest.pack_sequence_as(parameters, [tf.convert_to_tensor(g) for g in gradients])
        updates, optimizer_state = self._optimizer.update(gradients, optimizer_state, parameters)
        parameters = tf.nest.map_structure(lambda p, u: p + u, parameters, updates)
        return loss, gradients, parameters, tf.nest.map_structure(tf.convert_to_tensor, optimizer_state)


@tf.autograph.experimental.do_not_convert
def minimize_stateless(
    loss_fn,
    init,
    num_steps,
    optimizer,
    convergence_criterion=None,
    batch_convergence_reduce_fn=tf.reduce_all,
    trace_fn=trace_loss,
    return_full_length_trace=True,
    jit_compile=False,
    seed=None,
    name="minimize_stateless",
):
    """Minimizes a loss that is a pure function of its parameters. Drop-in for `tfp.math.minimize_stateless`.

    Args:
      loss_fn: function `loss_fn(*init)`, or `loss_fn(init)` if `init` is not a tuple or list, which returns a floating
        `Tensor`. If its signature has a `seed`, it is called with `seed=` an int32 `Tensor` of shape [2] that is new at
        every step, or None.
      init: initial parameters, a floating `Tensor` or a nested structure of them.
      num_steps: int or int32 scalar `Tensor`, how many steps to take at most.
      optimizer: a pure optimizer, with `init(parameters)`, which returns a state, and `update(grads, state,
        parameters)`,
        which returns `(updates, state)`; the updates are added to the parameters.
      convergence_criterion, batch_convergence_reduce_fn, return_full_length_trace, jit_compile: see `minimize`.
      trace_fn: function of a `MinimizeTraceableQuantities`.
      seed: int or int32 `Tensor` of shape [2].
      name: name scope of the ops.

    Returns:
      `(final_parameters, trace)`: the parameters in the structure of `init`, and the trace, see `minimize`.

    Raises:
      TypeError, ValueError: an argument is not as described; the message names it.

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
    check_callable(trace_fn, "trace_fn")
    for method in ("init", "update"):
        if not callable(getattr(optimizer, method, None)):
            raise TypeError(f"`optimizer` must have the methods init and update, {optimizer!r} has no {method}")
    check_convergence_criterion(convergence_criterion)
    check_callable(batch_convergence_reduce_fn, "batch_convergence_reduce_fn")
    check_flag(return_full_length_trace, "return_full_length_trace")
    check_flag(jit_compile, "jit_compile")
    num_steps = check_num_steps(num_steps)
    seed = None if seed is None else seeds.sanitize_seed(seed, _SALT)
    options = Options(convergence_criterion, batch_convergence_reduce_fn, return_full_length_trace)

    def run(init, seed):
        with tf.name_scope(name):
            step = StatelessStep(loss_fn, optimizer, init, seed is not None)
            (parameters, _), trace = run_loop(step, num_steps, seed, trace_fn, options)
            return parameters, trace

    init = tf.nest.map_structure(lambda x: tf.convert_to_tensor(x, dtype_hint=tf.float32), init)
    compiles_loop = jit_compile and can_compile_loop()
    return tf.function(run, autograph=False, jit_compile=compiles_loop or None)(init, seed)
