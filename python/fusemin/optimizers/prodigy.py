"""Prodigy."""

import math
from typing import Any

import tensorflow as tf

from fusemin.families.family import Adapter
from fusemin.families.own import fused_by
from fusemin.optimizers.base import Optimizer, check_fraction, excluded_from_decay, load, wide


@fused_by(
    Adapter(
        rule=lambda o: "prodigy",
        slots={"momentum": "_momentum", "velocity": "_velocity", "s": "_s", "start": "_start"},
        scalars={"d": "_d", "d_ratio": "_d_ratio", "r": "_r"},
        hyperparameters=lambda o: {
            "beta_1": o.beta_1,
            "beta_2": o.beta_2,
            "beta_3": o.decay_of_sums,
            "epsilon": o.epsilon,
            "weight_decay": o.weight_decay or 0.0,
            "d_coef": o.d_coef,
            "use_bias_correction": o.use_bias_correction,
        },
        unsupported=excluded_from_decay,
    )
)
class Prodigy(Optimizer):
    """Adam that finds its own learning rate: Mishchenko & Defazio 2023, arXiv 2306.06101, Algorithm 4.

    d_t estimates from below how far the solution is from the start x0. With g the gradient, and gamma the learning
    rate, which is 1 unless it has a schedule:

        m <- beta_1 m + (1 - beta_1) d_t g;  v <- beta_2 v + (1 - beta_2) d_t^2 g^2
        r <- beta_3 r + (1 - beta_3) gamma d_t^2 <g, x0 - x>;  s <- beta_3 s + (1 - beta_3) gamma d_t^2 g
        x <- x - gamma d_t (m / (sqrt(v) + d_t epsilon) + weight_decay x);  d_{t+1} = max(d_t, d_coef r / |s|_1)

    <,> and |.|_1 are over all variables. x0 are the values that the variables have when the slots are created. The
    slots hold m / d_t, v / d_t^2 and s / d_t^2, which are of the size of gradients, also in float16.

    Args:
      learning_rate: multiplies the one that is found. Leave it at 1, or give it a schedule.
      beta_1: what the mean of the gradient keeps at a step, in [0, 1).
      beta_2: what the mean of squares keeps, in [0, 1).
      beta_3: what r and s keep, in [0, 1); None for the root of `beta_2`.
      epsilon: added to the root, for stability.
      weight_decay: float. Parameters decay by learning_rate * d * weight_decay a step, as in AdamW.
      d0: the first estimate, less than any distance that may be meant.
      d_coef: multiplies the estimate: 0.5 for smaller steps, 2 for larger ones.
      use_bias_correction: whether gamma is multiplied with sqrt(1 - beta_2^t) / (1 - beta_1^t).
      **kwargs: `clipnorm`, `use_ema` and all others of `keras.optimizers.Optimizer`.

    Raises:
      ValueError: a beta is not in [0, 1), or `d0` is not positive.

    >>> import tensorflow as tf, fusemin
    >>> x = tf.Variable([300.0, -2.0])
    >>> losses = fusemin.minimize(
    ...     lambda: tf.reduce_sum((x - 1.0) ** 2), num_steps=1000, optimizer=fusemin.optimizers.Prodigy())
    >>> bool(losses[-1] < 1e-3)
    True
    """

    slot_names = ("momentum", "velocity", "s", "start")
    slots_from_variable = ("start",)

    def __init__(
        self,
        learning_rate: Any = 1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float | None = None,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        use_bias_correction: bool = False,
        name: str = "prodigy",
        **kwargs: Any,
    ) -> None:
        for argument, value in (("beta_1", beta_1), ("beta_2", beta_2), ("beta_3", beta_3)):
            check_fraction(argument, value or 0.0)
        if not d0 > 0.0:
            raise ValueError(f"`d0` must be positive, it is {d0}")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.beta_3 = beta_3
        self.epsilon = epsilon
        self.d0 = d0
        self.d_coef = d_coef
        self.use_bias_correction = use_bias_correction

    @property
    def decay_of_sums(self) -> float:
        """`beta_3`, or what it is by default."""
        return math.sqrt(self.beta_2) if self.beta_3 is None else self.beta_3

    def _build_scalars(self):
        self._d = self._add_scalar("d", self.d0)
        self._d_ratio = self._add_scalar("d_ratio", 1.0)
        self._r = self._add_scalar("r", 0.0)

    def _gamma(self, learning_rate):
        if not self.use_bias_correction:
            return learning_rate
        step = self._next_step()
        return learning_rate * tf.sqrt(1.0 - wide(self.beta_2) ** step) / (1.0 - wide(self.beta_1) ** step)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError(
                f"Prodigy '{self.name}' has sums over the gradients of all variables, which replicas have in parts; it "
                "is for one replica"
            )
        indices = [self._get_variable_index(v) for v in trainable_variables]
        descents = [
            _sum(load(g) * (load(self._start[i]) - load(v)))
            for g, v, i in zip(grads, trainable_variables, indices, strict=True)
        ]
        super()._backend_update_step(grads, trainable_variables, learning_rate)
        magnitude = tf.add_n([_sum(tf.abs(load(self._s[i]))) for i in indices])
        d, ratio, decay = wide(self._d.value), wide(self._d_ratio.value), wide(self.decay_of_sums)
        taken = (1.0 - decay) * self._gamma(wide(learning_rate))
        r = wide(self._r.value) * decay * ratio**2 + tf.add_n(descents) * taken
        estimate = tf.where(magnitude > 0.0, self.d_coef * r / magnitude, 0.0)
        # Not the maximum: an estimate that is NaN must not stay.
        next_d = tf.where(d < estimate, estimate, d)
        self.assign(self._r, r)
        self.assign(self._d_ratio, d / next_d)
        self.assign(self._d, next_d)

    def _numbers(self, learning_rate, decays):
        beta_1, beta_2, beta_3 = wide(self.beta_1), wide(self.beta_2), wide(self.decay_of_sums)
        gamma, ratio = self._gamma(learning_rate), wide(self._d_ratio.value)
        rate = gamma * wide(self._d.value)
        return {
            "keeps_momentum": beta_1 * ratio,
            "one_minus_beta_1": 1.0 - beta_1,
            "keeps_velocity": beta_2 * ratio**2,
            "one_minus_beta_2": 1.0 - beta_2,
            "keeps_s": beta_3 * ratio**2,
            "takes_s": (1.0 - beta_3) * gamma,
            "epsilon": wide(self.epsilon),
            "rate": rate,
            "keeps_param": 1.0 - rate * ((self.weight_decay or 0.0) if decays else 0.0),
        }

    def _updated(self, c, gradient, param, momentum, velocity, s, start):
        momentum = momentum * c.keeps_momentum + gradient * c.one_minus_beta_1
        velocity = velocity * c.keeps_velocity + tf.square(gradient) * c.one_minus_beta_2
        s = s * c.keeps_s + gradient * c.takes_s
        param = param * c.keeps_param - momentum * c.rate / (tf.sqrt(velocity) + c.epsilon)
        return param, momentum, velocity, s, start

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "beta_3": self.beta_3,
            "epsilon": self.epsilon,
            "d0": self.d0,
            "d_coef": self.d_coef,
            "use_bias_correction": self.use_bias_correction,
        }


def _sum(x) -> tf.Tensor:
    """Over all elements, in float64."""
    return tf.reduce_sum(tf.cast(x, tf.float64))
