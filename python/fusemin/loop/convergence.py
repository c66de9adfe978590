"""Convergence criteria: when a loop may stop before `num_steps`.

A criterion is any object with the two methods of `tfp.optimizer.convergence_criteria.ConvergenceCriterion`:
`bootstrap(loss, grads, parameters)`, called at step 0, returns its state; `one_step(step, loss, grads, parameters,
auxiliary_state)`, called at every later step, returns `(has_converged, state)`.
"""

import collections
from typing import Any

import tensorflow as tf

LossNotDecreasingState = collections.namedtuple(
    "LossNotDecreasingState", ["previous_loss", "average_decrease_in_loss", "average_initial_decrease_in_loss"]
)


class LossNotDecreasing:
    """Converged when a moving average of the decrease of the loss from step to step falls below a threshold.

    With `decrease[t] = loss[t - 1] - loss[t]` the average is

        average[t] = decrease[t] + (1 - 1 / window_size) (average[t - 1] - decrease[t])

    and the loop has converged at a step `t >= min_num_steps` where `average[t] < max(atol, rtol average[window_size])`.
    The same rule as `tfp.optimizer.convergence_criteria.LossNotDecreasing`.

    Args:
      atol: float, absolute threshold, in units of the loss.
      rtol: float, threshold as a fraction of the average decrease over the first `window_size` steps. With both, the
        larger threshold counts. All arguments may be tensors that broadcast with a batch of losses.
      window_size: int, the effective number of steps in the average.
      min_num_steps: int, steps below it never count as converged. Should exceed `window_size`.
      name: str, name scope of the ops.

    Raises:
      ValueError: neither `atol` nor `rtol` is given.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> losses = fusemin.minimize(
    ...     lambda: (x - 5.0) ** 2, num_steps=10_000, optimizer=keras.optimizers.SGD(learning_rate=0.1),
    ...     convergence_criterion=fusemin.LossNotDecreasing(atol=1e-3), return_full_length_trace=False)
    >>> len(losses) < 100
    True
    """

    def __init__(
        self,
        atol: Any = None,
        rtol: Any = None,
        window_size: int = 10,
        min_num_steps: int = 20,
        name: str = "LossNotDecreasing",
    ) -> None:
        if atol is None and rtol is None:
            raise ValueError("at least one of `atol` and `rtol` must be given")
        self.atol = atol
        self.rtol = rtol
        self.window_size = window_size
        self.min_num_steps = min_num_steps
        self.name = name

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The state at step 0."""
        del grads, parameters
        loss = tf.convert_to_tensor(loss)
        return LossNotDecreasingState(loss, tf.zeros_like(loss), tf.zeros_like(loss))

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, state)` at a step from 1 on."""
        del grads, parameters
        with tf.name_scope(self.name):
            loss = tf.convert_to_tensor(loss)
            decay = 1.0 - 1.0 / tf.cast(self.window_size, loss.dtype)
            decrease = auxiliary_state.previous_loss - loss
            average = decrease + decay * (auxiliary_state.average_decrease_in_loss - decrease)
            initial = auxiliary_state.average_initial_decrease_in_loss
            threshold = tf.maximum(
                tf.cast(0.0 if self.atol is None else self.atol, loss.dtype),
                tf.cast(0.0 if self.rtol is None else self.rtol, loss.dtype) * initial,
            )
            has_converged = (average < threshold) & (step >= self.min_num_steps)
            in_window = tf.cast(step, tf.float32) <= tf.cast(self.window_size, tf.float32)
            return has_converged, LossNotDecreasingState(loss, average, tf.where(in_window, average, initial))


class _Never:
    """A criterion that is never met."""

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        del loss, grads, parameters
        return ()

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        del step, grads, parameters, auxiliary_state
        return tf.zeros(tf.shape(loss), tf.bool), ()


def criterion_or_none(criterion, batch_convergence_reduce_fn):
    """The criterion, or one that is never met where only a user's own `batch_convergence_reduce_fn` ends the loop."""
    if criterion is None and batch_convergence_reduce_fn not in (tf.reduce_all, tf.reduce_any):
        return _Never()
    return criterion
