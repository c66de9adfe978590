"""Schedule-free AdamW."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from fusemin.families.family import Adapter
from fusemin.families.own import fused_by
from fusemin.optimizers.base import Optimizer, check_fraction, excluded_from_decay, load, wide


@fused_by(
    Adapter(
        rule=lambda o: "schedule_free_adamw",
        slots={"z": "_z", "velocity": "_velocity"},
        scalars={"weight_sum": "_weight_sum", "largest_rate": "_largest_rate"},
        hyperparameters=lambda o: {
            "beta_1": o.beta_1,
            "beta_2": o.beta_2,
            "epsilon": o.epsilon,
            "weight_decay": o.weight_decay or 0.0,
            "warmup_steps": o.warmup_steps,
            "r": o.r,
            "weight_lr_power": o.weight_lr_power,
        },
        unsupported=excluded_from_decay,
    )
)
class ScheduleFreeAdamW(Optimizer):
    """AdamW without a schedule of the learning rate: Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682.

    Algorithm 1 of the paper. The variables hold y, where gradients are taken; with t from 1:

        lr_t = learning_rate min(1, t / warmup_steps) sqrt(1 - beta_2^t)
        w_t = t^r max(lr_1 ... lr_t)^weight_lr_power;  c = w_t / (w_1 + ... + w_t)
        v <- beta_2 v + (1 - beta_2) g^2;  u = g / (sqrt(v) + epsilon) + weight_decay y
        z <- z - lr_t u;  x <- (1 - c) x + c z;  y <- (1 - beta_1) z + beta_1 x

    The answer is x, the average, which is computed when it is asked for: `with optimizer.evaluation():` the variables
    hold it, or between `optimizer.eval()` and `optimizer.train()`. In `Model.fit` the callback `EvaluateAverage` does
    so for validation.

    Args:
      learning_rate: float, variable, schedule of `keras.optimizers.schedules`, or callable. It needs no schedule.
      beta_1: where between z (0) and x (1) gradients are taken, in (0, 1).
      beta_2: what the mean of squares keeps at a step, in [0, 1).
      epsilon: added to the root, for stability.
      weight_decay: float. Parameters decay at y, by learning_rate * weight_decay a step.
      warmup_steps: in so many steps the learning rate grows to its value.
      r: power of the number of a step in its weight in the average.
      weight_lr_power: power of the largest learning rate so far in the weight of a step.
      **kwargs: `clipnorm`, `use_ema` and all others of `keras.optimizers.Optimizer`.

    Raises:
      ValueError: a beta is out of its range, or `warmup_steps` is negative.

    >>> import tensorflow as tf, fusemin
    >>> x = tf.Variable([3.0, -2.0])
    >>> optimizer = fusemin.optimizers.ScheduleFreeAdamW(learning_rate=0.1)
    >>> losses = fusemin.minimize(lambda: tf.reduce_sum((x - 1.0) ** 2), num_steps=300, optimizer=optimizer)
    >>> with optimizer.evaluation():
    ...     bool(tf.reduce_max(tf.abs(x - 1.0)) < 0.05)
    True
    """

    slot_names = ("z", "velocity")
    slots_from_variable = ("z",)

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        name: str = "schedule_free_adamw",
        **kwargs: Any,
    ) -> None:
        check_fraction("beta_1", beta_1)
        check_fraction("beta_2", beta_2)
        if beta_1 == 0.0:
            raise ValueError("`beta_1` must be in (0, 1), it is 0: the average x could not be found from y and z")
        if warmup_steps < 0:
            raise ValueError(f"`warmup_steps` must be a count of steps, it is {warmup_steps}")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.warmup_steps = warmup_steps
        self.r = r
        self.weight_lr_power = weight_lr_power

    def _build_scalars(self):
        self._weight_sum = self._add_scalar("weight_sum", 0.0)
        self._largest_rate = self._add_scalar("largest_rate", 0.0)
        # It is for the host, which would wait for a GPU.
        with tf.device("CPU:0"):
            self._holds_average = self.add_variable((), "zeros", "bool", name="holds_average")

    def find_step_reason(self):
        if self.built and self._is_average():
            return "its variables hold the average of the iterates. Call `train()` first, or leave `evaluation()`"
        return None

    def _is_average(self) -> bool:
        with tf.init_scope():
            # In a graph of TensorFlow 1 nobody can know.
            return tf.executing_eagerly() and bool(self._holds_average.numpy())

    def eval(self) -> None:
        """Has the variables hold x, the average, until `train`. Before the first step they do already."""
        self._move(to_average=True)

    def train(self) -> None:
        """Has the variables hold y again, to rounding, after `eval`."""
        self._move(to_average=False)

    def _move(self, to_average: bool) -> None:
        if not self.built or self._is_average() == to_average:
            return
        for variable, z in zip(self._trainable_variables, self._z, strict=True):
            # y = (1 - beta_1) z + beta_1 x.
            share = 1.0 - 1.0 / self.beta_1 if to_average else 1.0 - self.beta_1
            now, end = load(variable), load(z)
            self.assign(variable, now + (end - now) * tf.constant(share, now.dtype))
        self._holds_average.assign(to_average)

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[list]:
        """A context in which the variables hold x, the average. Afterwards they hold what they held before, to the bit.

        Yields:
          The variables.
        """
        before = [tf.identity(tf.convert_to_tensor(v)) for v in self._trainable_variables] if self.built else []
        held = self.built and self._is_average()
        self.eval()
        try:
            yield list(self._trainable_variables) if self.built else []
        finally:
            for variable, value in zip(self._trainable_variables if before else [], before, strict=True):
                variable.assign(value)
            if before:
                self._holds_average.assign(held)

    def _rate(self, learning_rate):
        step = self._next_step()
        warmup = tf.minimum(step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        return learning_rate * warmup * tf.sqrt(1.0 - wide(self.beta_2) ** step)

    def _weight(self):
        return self._next_step() ** wide(self.r) * wide(self._largest_rate.value) ** wide(self.weight_lr_power)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        rate = self._rate(wide(learning_rate))
        self.assign(self._largest_rate, tf.maximum(tf.convert_to_tensor(self._largest_rate), rate))
        self.assign_add(self._weight_sum, self._weight())
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _numbers(self, learning_rate, decays):
        rate, beta_2 = self._rate(learning_rate), wide(self.beta_2)
        weight = tf.math.divide_no_nan(self._weight(), wide(self._weight_sum.value))
        return {
            "beta_2": beta_2,
            "one_minus_beta_2": 1.0 - beta_2,
            "epsilon": wide(self.epsilon),
            "weight_decay": wide((self.weight_decay or 0.0) if decays else 0.0),
            "weight": weight,
            "rate": rate,
            "param_rate": rate * (1.0 - wide(self.beta_1) * (1.0 - weight)),
        }

    def _updated(self, c, gradient, param, z, velocity):
        velocity = velocity * c.beta_2 + tf.square(gradient) * c.one_minus_beta_2
        descent = gradient / (tf.sqrt(velocity) + c.epsilon) + param * c.weight_decay
        param = param + (z - param) * c.weight - descent * c.param_rate
        return param, z - descent * c.rate, velocity

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "warmup_steps": self.warmup_steps,
            "r": self.r,
            "weight_lr_power": self.weight_lr_power,
        }


class EvaluateAverage(keras.callbacks.Callback):
    """Evaluates a Keras model at the average of a `ScheduleFreeAdamW`: for `Model.fit` with validation data, and for
    `Model.evaluate` and `Model.predict`. Training goes on as without it, to the bit.

    >>> import keras, numpy as np, fusemin
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> model.compile(fusemin.optimizers.ScheduleFreeAdamW(0.1), "mse")
    >>> x = np.ones([8, 1], np.float32)
    >>> history = model.fit(
    ...     x, 2 * x, validation_data=(x, 2 * x), epochs=2, verbose=0, callbacks=[fusemin.optimizers.EvaluateAverage()])
    >>> sorted(history.history)
    ['loss', 'val_loss']
    """

    def _begin(self, logs=None):
        self._context = self.model.optimizer.evaluation()
        self._context.__enter__()

    def _end(self, logs=None):
        self._context.__exit__(None, None, None)

    on_test_begin = _begin
    on_predict_begin = _begin
    on_test_end = _end
    on_predict_end = _end
