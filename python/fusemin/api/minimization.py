"""`minimize`, the drop-in for `tfp.math.minimize`."""

import datetime
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fusemin import graphs
from fusemin.api.divergence import warn_of_divergence
from fusemin.api.minimizer import Minimizer
from fusemin.arguments import check_not_swapped
from fusemin.loop.traceable import trace_loss
from fusemin.runs.checkpoint import Checkpoint
from fusemin.runs.options import as_run_options
from fusemin.runs.result import Status
from fusemin.types import ConvergenceCriterion, Loss, NumSteps, Optimizer, Seed, Trace


@graphs.without_autograph
def minimize(
    loss_fn: Loss,
    num_steps: NumSteps,
    optimizer: Optimizer,
    convergence_criterion: ConvergenceCriterion | None = None,
    batch_convergence_reduce_fn: Callable[[Any], Any] = tf.reduce_all,
    trainable_variables: Any = None,
    trace_fn: Callable[..., Any] = trace_loss,
    return_full_length_trace: bool = True,
    jit_compile: bool | str | None = False,
    seed: Seed | None = None,
    name: str = "minimize",
    *,
    progress: bool | str = False,
    callbacks: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
    every: int | datetime.timedelta | None = None,
    time_limit: float | None = None,
    on_nonfinite: str = "continue",
    keep_best: bool | Callable[[Any], Any] = False,
    restore_best: bool = False,
    trace_every: int = 1,
    trace_last: int | None = None,
    trace_to: str | os.PathLike[str] | None = None,
    checkpoint: Checkpoint | None = None,
    data: tf.data.Dataset | None = None,
) -> Trace:
    """Minimizes a loss with an optimizer and returns the trace of the optimization. Drop-in for `tfp.math.minimize`.

    Each of the `num_steps` steps differentiates `loss_fn()` with respect to the trainable variables, and updates them.
    What `trace_fn` returns for each step is stacked. Variables, and the optimizer's slots and iteration count, are left
    as the optimizer itself would leave them, so training can go on without fusemin. If fusemin knows the optimizer
    (see `explain`), one op updates all variables and writes the trace. Otherwise `optimizer.apply_gradients` runs in
    the same loop.

    Args:
      loss_fn: function `loss_fn()` that returns a floating `Tensor`, of any shape, or a list of them of one shape; the
        sum of all elements is minimized. If its signature has a `seed`, it is called with `seed=` an int32 `Tensor` of
        shape [2] that is new at every step, or None if no `seed` is given here. Python in it runs while it is traced,
        not at every step.
      num_steps: how many steps to take at most, a whole number, or a scalar `Tensor` or variable of one. With 0 the
        trace is empty.
      optimizer: an optimizer of `keras.optimizers`, `tf_keras.optimizers`, `tf_keras.optimizers.legacy` or
        `tf.compat.v1.train`, or any object with `apply_gradients(grads_and_vars)`.
      convergence_criterion: None, or an object with `bootstrap` and `one_step`, such as
        `fusemin.LossNotDecreasing` or one of `fusemin.convergence`. The loop ends at the first step that has converged.
      batch_convergence_reduce_fn: function from the bool `Tensor` of the criterion, of the shape of the loss, to a bool
        scalar: whether to stop. Without a criterion all elements of the `Tensor` are False.
      trainable_variables: list, or other iterable or nested structure, of `tf.Variable`s or Keras variables, floating
        or complex, on any devices, or of what consists of them, such as a `tfp.util.TransformedVariable`. None for all
        trainable variables that `loss_fn` reads; those without a gradient, integers for example, are left out with a
        warning.
      trace_fn: function of a `MinimizeTraceableQuantities` that returns a `Tensor` or a nested structure of them: what
        to record of each step. Variables that it reads have their values after the update. It may also have the older
        form `trace_fn(loss, grads, variables)`; the number of arguments decides. It is called a few times to be traced,
        and not at all afterwards: its ops run at every step, Python in it does not. To print, use `tf.print`; for a
        progress bar, `progress`.
      return_full_length_trace: whether to repeat the last row up to `num_steps` rows after convergence. If False the
        trace has a row for each step that was taken.
      jit_compile: True to compile the whole loop with XLA, the fused update included; "loss" to compile the loss and
        its gradients only, for loops with other parts that XLA cannot compile; "auto" to compile the whole loop if XLA
        can, and if there are enough steps to win back the time that it takes. Any other value counts by its truth, so
        None is False. Under a `tf.GradientTape` that is outside of what XLA compiles, True is taken as False.
      seed: int, or int32 `Tensor` of shape [2], or a function that returns one, for a `loss_fn` that takes a `seed`.
        The same seed gives the seeds, and so the trace, that `tfp.math.minimize` gives.
      name: name scope of the ops.
      progress, callbacks, every, time_limit, on_nonfinite, keep_best, restore_best, trace_every, trace_last, trace_to,
        checkpoint, data: see `Minimizer.run`. If a run may end early, call that: it also returns how the run ended.

    Returns:
      What `trace_fn` returns, each `Tensor` with a leading dimension of steps.

    Raises:
      TypeError: an argument is of a wrong type, `loss_fn` or `trace_fn` do not return tensors as described, or a listed
        variable is neither floating nor complex.
      ValueError: `num_steps` is negative; `trainable_variables` is empty; the loss does not depend on one of them or,
        if they are not given, on any variable that it reads; `optimizer` was built for other variables; `jit_compile`
        is a str other than "auto" and "loss"; or, in the scope of a strategy, a variable, or an optimizer of Keras 3,
        was made outside of it.
      NotImplementedError: it is called inside of `run` of a `tf.distribute` strategy, or in the scope of one that is
        not named below; or outside of the scope, on variables of which a strategy keeps several copies; or in a scope,
        with something that is refused there (see below).
      RuntimeError: one of the keywords after `name` is given in a graph, under a tape, or with
        `tf.config.run_functions_eagerly(True)`.
      KeyboardInterrupt: Ctrl-C was pressed. With one of the keywords after `name`, or if one op updates all variables
        and the loop is not compiled, it is raised after a whole step, soon. Else it is raised after all steps.
      NonFiniteError, CheckpointMismatchError: see `Minimizer.run`.
      tf.errors.FailedPreconditionError: a variable is not initialized.
      tf.errors.InvalidArgumentError: with `jit_compile`, XLA cannot compile an op; the message names it.

    Warns:
      UserWarning: `trainable_variables` is not given, and `loss_fn` reads no variable, or one without a gradient, or
        the weights of a frozen Keras layer, which are trained.
      RuntimeWarning: the last loss of the default trace is not finite.

    Under a `tf.GradientTape` the trace can be differentiated: a row has the gradients of the loss, gradient or
    variable that was recorded in it. None flow through the updates, as in `tfp.math.minimize`: for that there is
    `minimize_stateless`.

    In the scope of a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`, on variables and with an
    optimizer made there, `loss_fn` runs on each replica and returns its part. Losses and gradients are summed over the
    replicas. `loss_fn` learns by `tf.distribute.get_replica_context().replica_id_in_sync_group` which replica it is on.
    With a `seed` each replica gets one of its own, and with `data` its share of the rows of each batch. All replicas,
    on all machines, have the same variables, to the bit. Refused there are `jit_compile=True`, a tape around the call,
    `tf.config.run_functions_eagerly(True)`, and optimizers of `tf.compat.v1` or of other libraries. In the scope of a
    `OneDeviceStrategy` all is as without one.

    Called eagerly, the optimization runs at once:

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> losses = fusemin.minimize(
    ...     lambda: (x - 5.0) ** 2, num_steps=200, optimizer=keras.optimizers.Adam(learning_rate=0.1))
    >>> losses.shape, round(float(x), 1)
    (TensorShape([200]), 5.0)

    Inside a `tf.function`, what depends on the trace waits for the optimization:

    >>> @tf.function
    ... def fit():
    ...     losses = fusemin.minimize(lambda: (x - 1.0) ** 2, num_steps=200, optimizer=optimizer)
    ...     with tf.control_dependencies([losses]):
    ...         return tf.identity(x)
    >>> optimizer = keras.optimizers.Adam(learning_rate=0.1)
    >>> round(float(fit()), 1)
    1.0

    Any quantity can be traced:

    >>> trace = fusemin.minimize(
    ...     lambda: (x - 5.0) ** 2, num_steps=10, optimizer=keras.optimizers.Adam(learning_rate=0.1),
    ...     trace_fn=lambda traced: {"loss": traced.loss, "x": x, "gradient": traced.gradients[0]})
    >>> sorted(trace), trace["x"].shape
    (['gradient', 'loss', 'x'], TensorShape([10]))
    """
    check_not_swapped(num_steps, optimizer)
    options = as_run_options(
        progress,
        callbacks,
        every,
        time_limit,
        on_nonfinite,
        keep_best,
        restore_best,
        trace_every,
        trace_last,
        trace_to,
        checkpoint,
        data,
    )
    minimizer = Minimizer(
        loss_fn,
        optimizer,
        convergence_criterion=convergence_criterion,
        batch_convergence_reduce_fn=batch_convergence_reduce_fn,
        trainable_variables=trainable_variables,
        trace_fn=trace_fn,
        return_full_length_trace=return_full_length_trace,
        jit_compile=jit_compile,
        name=name,
    )
    if options.asked_for:
        result = minimizer.run_with(num_steps, seed, options)
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt(result.message)
        trace = result.trace
    else:
        trace = minimizer.run_once(num_steps, seed)
    if trace_fn is trace_loss:
        warn_of_divergence(trace)
    return trace
