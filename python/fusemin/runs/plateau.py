"""A callback that lowers the learning rate where the loss no longer falls."""

from typing import Any

import numpy as np
import tensorflow as tf

from fusemin.runs.callbacks import RunState


class ReduceOnPlateau:
    """Multiplies the learning rate by a factor whenever the loss has not fallen for some calls.

    The loss is the mean over the steps since the last call, so that the noise of single steps does not count; `every`
    says how many steps these are. As `keras.callbacks.ReduceLROnPlateau`, which looks once an epoch.

    Args:
      learning_rate: an optimizer with an attribute `learning_rate` that can be set, or a scalar `tf.Variable` that the
        optimizer reads.
      factor: float in (0, 1).
      patience: how many calls without a fall are waited for.
      min_delta: by how much, in units of the loss, the loss must be below the smallest one so far to count as a fall.
      cooldown: how many calls to wait after the learning rate was lowered before calls count again.
      min_learning_rate: the learning rate is not lowered below it.

    Raises:
      ValueError: `factor` is not in (0, 1).

    >>> import keras, tensorflow as tf, fusemin
    >>> x, adam = tf.Variable(0.0), keras.optimizers.Adam(learning_rate=1.0)
    >>> losses = fusemin.minimize(
    ...     lambda: tf.abs(x - 5.0), 1000, adam, every=10,
    ...     callbacks=fusemin.ReduceOnPlateau(adam, factor=0.5, patience=2))
    >>> float(adam.learning_rate) < 0.1
    True
    """

    def __init__(
        self,
        learning_rate: Any,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
    ) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(f"`factor` must be between 0 and 1, it is {factor!r}")
        self._learning_rate = learning_rate
        self._factor, self._patience, self._min_delta = factor, patience, min_delta
        self._cooldown, self._min_learning_rate = cooldown, min_learning_rate
        self._best, self._waited, self._cooling = float("inf"), 0, 0

    def __call__(self, state: RunState) -> None:
        loss = float(np.mean(state.losses, dtype=np.float64))
        if self._cooling:
            self._cooling, self._waited = self._cooling - 1, 0
        if loss < self._best - self._min_delta:
            self._best, self._waited = loss, 0
            return
        if self._cooling:
            return
        self._waited += 1
        if self._waited >= self._patience:
            self._set(max(self._get() * self._factor, self._min_learning_rate))
            self._waited, self._cooling = 0, self._cooldown

    def _get(self) -> float:
        found = self._learning_rate
        # Of a strategy, too, whose copies are the same.
        return float(tf.convert_to_tensor(found if isinstance(found, tf.Variable) else found.learning_rate))

    def _set(self, value: float) -> None:
        if isinstance(self._learning_rate, tf.Variable):
            self._learning_rate.assign(value)
        else:
            self._learning_rate.learning_rate = value

    def state_dict(self) -> dict:
        return {"best": self._best, "waited": self._waited, "cooling": self._cooling}

    def load_state_dict(self, state: dict) -> None:
        self._best, self._waited, self._cooling = state["best"], state["waited"], state["cooling"]
