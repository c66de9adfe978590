"""Convergence criteria of the gradient, of the parameters, of a loss that no longer improves, and of several together.

All follow the protocol of `fusemin.loop.convergence`, which is TensorFlow Probability's, so `tfp.math.minimize` takes
them too. They know batches: where a loss has the shape `[b1, ..., bn]`, a gradient or parameter whose shape begins with
these dimensions is judged member by member; one that does not belongs to all members.
"""

import collections
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusemin.arguments import check_convergence_criterion
from fusemin.types import ConvergenceCriterion

ParametersSettledState = collections.namedtuple("ParametersSettledState", ["previous_parameters"])
LossPlateauState = collections.namedtuple("LossPlateauState", ["best_loss", "num_steps_since"])


def _check_threshold(name: str, value) -> None:
    if isinstance(value, bool) or (isinstance(value, int | float) and not value >= 0):
        raise ValueError(f"`{name}` must be a number from 0 on, it is {value!r}")


class GradientNorm:
    """Converged when the norm of the gradient of all parameters together is below a threshold.

    Args:
      atol: float or `Tensor` that broadcasts with the loss: the threshold, in units of the loss per
        unit of a parameter.
      ord: 2 for the L2 norm of all elements of all gradients, or `float("inf")` for the largest magnitude.
      min_num_steps: int, steps below it never count as converged.
      name: str, name scope of the ops.

    Raises:
      ValueError: `atol` is negative, or `ord` is another.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable([0.0, 1.0])
    >>> losses = fusemin.minimize(
    ...     lambda: tf.reduce_sum((x - 5.0) ** 2), num_steps=10_000,
    ...     optimizer=keras.optimizers.SGD(learning_rate=0.1),
    ...     convergence_criterion=fusemin.convergence.GradientNorm(1e-2), return_full_length_trace=False)
    >>> len(losses)
    34
    """

    def __init__(self, atol: Any, ord: float = 2, min_num_steps: int = 0, name: str = "GradientNorm") -> None:
        _check_threshold("atol", atol)
        if ord not in (2, float("inf")):
            raise ValueError(f'`ord` must be 2 or float("inf"), it is {ord!r}')
        self.atol = atol
        self.ord = ord
        self.min_num_steps = min_num_steps
        self.name = name

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The state at step 0: none."""
        del loss, grads, parameters
        return ()

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, state)` at a step from 1 on."""
        del parameters
        with tf.name_scope(self.name):
            norm = _norm(tf.nest.flatten(grads), tf.convert_to_tensor(loss), self.ord)
            return (norm < tf.cast(self.atol, norm.dtype)) & (step >= self.min_num_steps), auxiliary_state


class ParametersSettled:
    """Converged when a step moves the parameters by little, measured by their own size.

    With all parameters together as one vector `p[t]` after step `t`, and L2 norms, the loop has converged at a step
    `t >= min_num_steps` where `norm(p[t] - p[t - 1]) <= atol + rtol norm(p[t - 1])`. This is the `xtol` of many
    solvers. Keeps a copy of the parameters.

    Args:
      rtol: float or `Tensor` that broadcasts with the loss: threshold as a fraction of the norm of the parameters.
      atol: float or such a `Tensor`: threshold in units of the parameters.
      min_num_steps: int, steps below it never count as converged.
      name: str, name scope of the ops.

    Raises:
      ValueError: `rtol` or `atol` is negative, or both are 0.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable([0.0, 1.0])
    >>> losses = fusemin.minimize(
    ...     lambda: tf.reduce_sum((x - 5.0) ** 2), num_steps=10_000,
    ...     optimizer=keras.optimizers.SGD(learning_rate=0.1),
    ...     convergence_criterion=fusemin.convergence.ParametersSettled(rtol=1e-4), return_full_length_trace=False)
    >>> len(losses)
    35
    """

    def __init__(
        self, rtol: Any = 0.0, atol: Any = 0.0, min_num_steps: int = 1, name: str = "ParametersSettled"
    ) -> None:
        _check_threshold("rtol", rtol)
        _check_threshold("atol", atol)
        if all(isinstance(tolerance, int | float) and tolerance == 0 for tolerance in (rtol, atol)):
            raise ValueError("one of `rtol` and `atol` must be more than 0")
        self.rtol = rtol
        self.atol = atol
        self.min_num_steps = min_num_steps
        self.name = name

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The state at step 0."""
        del loss, grads
        return ParametersSettledState([tf.convert_to_tensor(p) for p in tf.nest.flatten(parameters)])

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, state)` at a step from 1 on."""
        del grads
        with tf.name_scope(self.name):
            loss = tf.convert_to_tensor(loss)
            parameters = [tf.convert_to_tensor(p) for p in tf.nest.flatten(parameters)]
            previous = auxiliary_state.previous_parameters
            moved = _norm([new - old for new, old in zip(parameters, previous, strict=True)], loss)
            size = _norm(previous, loss)
            threshold = tf.cast(self.atol, size.dtype) + tf.cast(self.rtol, size.dtype) * size
            return (moved <= threshold) & (step >= self.min_num_steps), ParametersSettledState(parameters)


class LossPlateau:
    """Converged when the loss has not improved for some steps: early stopping, as `keras.callbacks.EarlyStopping`.

    Args:
      patience: int, after so many steps without a loss below `best - min_delta` the loop has converged.
      min_delta: float or `Tensor` that broadcasts with the loss, in its units: what less than this brings is no
        improvement.
      min_num_steps: int, steps below it never count as converged.
      name: str, name scope of the ops.

    Raises:
      ValueError: `patience` is below 1, or `min_delta` negative.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> losses = fusemin.minimize(
    ...     lambda: tf.abs(x - 1.0), num_steps=10_000, optimizer=keras.optimizers.SGD(learning_rate=0.125),
    ...     convergence_criterion=fusemin.convergence.LossPlateau(patience=5), return_full_length_trace=False)
    >>> len(losses)
    14
    """

    def __init__(self, patience: Any, min_delta: Any = 0.0, min_num_steps: int = 0, name: str = "LossPlateau") -> None:
        if isinstance(patience, bool) or (isinstance(patience, int | float) and not patience >= 1):
            raise ValueError(f"`patience` must be a count of steps, from 1 on, it is {patience!r}")
        _check_threshold("min_delta", min_delta)
        self.patience = patience
        self.min_delta = min_delta
        self.min_num_steps = min_num_steps
        self.name = name

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The state at step 0."""
        del grads, parameters
        loss = tf.convert_to_tensor(loss)
        return LossPlateauState(loss, tf.zeros(tf.shape(loss), tf.int32))

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, state)` at a step from 1 on."""
        del grads, parameters
        with tf.name_scope(self.name):
            loss = tf.convert_to_tensor(loss)
            best, since = auxiliary_state
            # Nothing is below a NaN: a loss that began as one improves with its first number.
            improves = (loss < best - tf.cast(self.min_delta, loss.dtype)) | (
                tf.math.is_nan(best) & ~tf.math.is_nan(loss)
            )
            since = tf.where(improves, 0, since + 1)
            has_converged = (since >= self.patience) & (step >= self.min_num_steps)
            return has_converged, LossPlateauState(tf.where(improves, loss, best), since)


class _Several:
    """Criteria of one loop, each with its own state."""

    _join: Callable[..., Any]

    def __init__(self, *criteria: ConvergenceCriterion, name: str | None = None) -> None:
        if not criteria:
            raise ValueError(f"`{type(self).__name__}` needs at least one criterion")
        if None in criteria:
            raise TypeError(f"each argument of `{type(self).__name__}` must be a convergence criterion, one is None")
        for criterion in criteria:
            check_convergence_criterion(criterion)
        self.criteria = criteria
        self.name = name or type(self).__name__

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The states at step 0, a tuple."""
        return tuple(criterion.bootstrap(loss, grads, parameters) for criterion in self.criteria)

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, states)` at a step from 1 on."""
        with tf.name_scope(self.name):
            answers = [
                criterion.one_step(step, loss, grads, parameters, state)
                for criterion, state in zip(self.criteria, auxiliary_state, strict=True)
            ]
            shape = tf.shape(loss)
            flags = [tf.broadcast_to(has_converged, shape) for has_converged, _ in answers]
            return self._join(tf.stack(flags), axis=0), tuple(state for _, state in answers)


class AnyOf(_Several):
    """Converged when one of several criteria is met.

    Args:
      *criteria: convergence criteria.
      name: str, name scope of the ops.

    Raises:
      TypeError: one of them is no criterion.
      ValueError: there is none.

    >>> from fusemin import convergence
    >>> criterion = convergence.AnyOf(convergence.GradientNorm(1e-6), convergence.LossPlateau(patience=100))
    """

    _join = staticmethod(tf.reduce_any)


class AllOf(_Several):
    """Converged when several criteria are met at the same step.

    Args:
      *criteria: convergence criteria.
      name: str, name scope of the ops.

    Raises:
      TypeError: one of them is no criterion.
      ValueError: there is none.

    >>> from fusemin import convergence
    >>> criterion = convergence.AllOf(convergence.GradientNorm(1e-3), convergence.ParametersSettled(rtol=1e-6))
    """

    _join = staticmethod(tf.reduce_all)


def _norm(tensors, loss, ord=2):
    """The norm of all elements of `tensors` that are a member's, in the shape of the loss. In float32 for halves."""
    dtype = loss.dtype if loss.dtype == tf.float64 else tf.float32
    total = tf.zeros(tf.shape(loss), dtype)
    for tensor in tensors:
        magnitudes = tf.cast(tf.abs(tensor), dtype)
        rank = loss.shape.rank
        has_members = tensor.shape.rank >= rank and tensor.shape[:rank].is_compatible_with(loss.shape)
        axes = list(range(rank if has_members else 0, tensor.shape.rank))
        if ord == 2:
            total += tf.reduce_sum(magnitudes**2, axes)
        else:
            total = tf.maximum(total, tf.reduce_max(magnitudes, axes))
    return tf.sqrt(total) if ord == 2 else total
