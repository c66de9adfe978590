"""Adan."""

from typing import Any

import tensorflow as tf

from fusemin.families.family import Adapter
from fusemin.families.own import fused_by
from fusemin.optimizers.base import Optimizer, check_fraction, excluded_from_decay, wide


@fused_by(
    Adapter(
        rule=lambda o: "adan",
        slots={
            "momentum": "_momentum",
            "difference": "_difference",
            "velocity": "_velocity",
            "previous_gradient": "_previous_gradient",
        },
        hyperparameters=lambda o: {
            "beta_1": o.beta_1,
            "beta_2": o.beta_2,
            "beta_3": o.beta_3,
            "epsilon": o.epsilon,
            "weight_decay": o.proximal_decay,
        },
        unsupported=excluded_from_decay,
    )
)
class Adan(Optimizer):
    """Adaptive Nesterov momentum: Xie et al. 2022, arXiv 2208.06677, Algorithm 1.

    With g the gradient, d its difference from that of the step before (0 at the first step), and t from 1:

        m <- beta_1 m + (1 - beta_1) g;  v <- beta_2 v + (1 - beta_2) d
        n <- beta_3 n + (1 - beta_3) (g + beta_2 d)^2
        x <- (x - lr (m / (1 - beta_1^t) + beta_2 v / (1 - beta_2^t)) / (sqrt(n / (1 - beta_3^t)) + epsilon))
             / (1 + lr weight_decay)

    The betas are 1 minus those of the paper, and the corrections by powers of beta those of the authors' code.

    Args:
      learning_rate: float, variable, schedule of `keras.optimizers.schedules`, or callable.
      beta_1: what the mean of the gradients keeps at a step, in [0, 1).
      beta_2: what the mean of their differences keeps, in [0, 1).
      beta_3: what the mean of squares keeps, in [0, 1).
      epsilon: added to the root, for stability.
      weight_decay: float. Proximal: parameters are divided by 1 + learning_rate * weight_decay after the step.
      no_prox: whether weight decay multiplies parameters with 1 - learning_rate * weight_decay before the step instead,
        as in `keras.optimizers.AdamW`.
      **kwargs: `clipnorm`, `use_ema` and all others of `keras.optimizers.Optimizer`.

    Raises:
      ValueError: a beta is not in [0, 1).

    >>> import tensorflow as tf, fusemin
    >>> x = tf.Variable([3.0, -2.0])
    >>> losses = fusemin.minimize(
    ...     lambda: tf.reduce_sum((x - 1.0) ** 2), num_steps=400, optimizer=fusemin.optimizers.Adan(learning_rate=0.1))
    >>> bool(losses[-1] < 0.01)
    True
    """

    slot_names = ("momentum", "difference", "velocity", "previous_gradient")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.98,
        beta_2: float = 0.92,
        beta_3: float = 0.99,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        no_prox: bool = False,
        name: str = "adan",
        **kwargs: Any,
    ) -> None:
        for argument, value in (("beta_1", beta_1), ("beta_2", beta_2), ("beta_3", beta_3)):
            check_fraction(argument, value)
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.beta_3 = beta_3
        self.epsilon = epsilon
        self.no_prox = no_prox

    @property
    def decays_in_rule(self):
        return not self.no_prox

    @property
    def proximal_decay(self) -> float:
        """The weight decay that is part of the rule."""
        return (self.weight_decay or 0.0) if self.decays_in_rule else 0.0

    def _numbers(self, learning_rate, decays):
        step = self._next_step()
        beta_1, beta_2, beta_3 = wide(self.beta_1), wide(self.beta_2), wide(self.beta_3)
        return {
            "beta_1": beta_1,
            "one_minus_beta_1": 1.0 - beta_1,
            "beta_2": beta_2,
            "one_minus_beta_2": 1.0 - beta_2,
            "beta_3": beta_3,
            "one_minus_beta_3": 1.0 - beta_3,
            "epsilon": wide(self.epsilon),
            "has_previous": tf.where(step > 1.0, wide(1.0), wide(0.0)),
            "momentum_rate": learning_rate / (1.0 - beta_1**step),
            "difference_rate": learning_rate * beta_2 / (1.0 - beta_2**step),
            "root_correction": tf.sqrt(1.0 - beta_3**step),
            "shrinkage": 1.0 / (1.0 + learning_rate * (self.proximal_decay if decays else 0.0)),
        }

    def _updated(self, c, gradient, param, momentum, difference, velocity, previous_gradient):
        step = (gradient - previous_gradient) * c.has_previous
        momentum = momentum * c.beta_1 + gradient * c.one_minus_beta_1
        difference = difference * c.beta_2 + step * c.one_minus_beta_2
        velocity = velocity * c.beta_3 + tf.square(gradient + step * c.beta_2) * c.one_minus_beta_3
        descent = (momentum * c.momentum_rate + difference * c.difference_rate) / (
            tf.sqrt(velocity) / c.root_correction + c.epsilon
        )
        return (param - descent) * c.shrinkage, momentum, difference, velocity, gradient

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "beta_3": self.beta_3,
            "epsilon": self.epsilon,
            "no_prox": self.no_prox,
        }
