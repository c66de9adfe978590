"""What callbacks are given, and how they are called."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

STOP = "stop"


class RunState:
    """A run between two segments, as callbacks see it.

    Attributes:
      step: how many steps have been taken.
      num_steps: how many there are to be.
      variables: the trainable variables.
      seconds: since the run began, or was resumed.
    """

    def __init__(
        self,
        step: int,
        num_steps: int,
        variables: list,
        seconds: float,
        leaves: list,
        loss_leaf: int,
        pack: Callable[[list], Any],
    ) -> None:
        self.step, self.num_steps, self.variables, self.seconds = step, num_steps, variables, seconds
        self._leaves, self._loss_leaf, self._pack = leaves, loss_leaf, pack

    @property
    def loss(self) -> float | np.ndarray:
        """The loss of the last step; an array if it is no scalar."""
        return self.losses[-1].item() if self.losses.ndim == 1 else self.losses[-1]

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """The losses of the steps since the last call, a row each."""
        return np.asarray(self._leaves[self._loss_leaf])

    @functools.cached_property
    def trace(self) -> Any:
        """The rows of the steps since the last call, in the structure of what `trace_fn` returns."""
        return self._pack(self._leaves)

    def __repr__(self):
        return f"RunState(step={self.step}, loss={self.loss!r})"


class Callbacks:
    """Calls the callbacks of a run, with the rows since the last call.

    Args:
      callbacks: functions of a RunState, each of which may return "stop".
      make_state: function from `(step, leaves)` to a RunState.
    """

    def __init__(self, callbacks, make_state):
        self._callbacks, self._make_state = callbacks, make_state
        self._rows: list[list[tf.Tensor]] = []

    def after_segment(self, taken: int, leaves: list[tf.Tensor], is_due: bool) -> bool:
        """After each segment, with its rows; they are called if they are due. Returns whether the run is to stop."""
        if not self._callbacks:
            return False
        if leaves and leaves[0].shape[0]:
            self._rows.append(leaves)
        if not self._rows or not is_due:
            return False
        rows, self._rows = self.pending(), []
        state = self._make_state(taken, rows)
        # All of them, also where one wants to stop.
        wishes = [_wants_to_stop(callback(state), callback) for callback in self._callbacks]
        return any(wishes)

    def pending(self) -> list[tf.Tensor]:
        """The rows since the last call, or []."""
        if len(self._rows) > 1:
            self._rows = [[tf.concat(leaf, 0) for leaf in zip(*self._rows, strict=True)]]
        return self._rows[0] if self._rows else []

    def restore_pending(self, leaves: list[tf.Tensor]) -> None:
        self._rows = [leaves] if leaves else []

    def state_dicts(self) -> list:
        """What the callbacks that have a state want to find again when the run is resumed."""
        return [callback.state_dict() if hasattr(callback, "state_dict") else None for callback in self._callbacks]

    def load_state_dicts(self, states: list) -> None:
        for callback, state in zip(self._callbacks, states, strict=False):
            if state is not None and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(state)


def _wants_to_stop(returned, callback) -> bool:
    if isinstance(returned, str) and returned != STOP:
        raise ValueError(f"a callback may return 'stop', {callback!r} returned {returned!r}")
    return isinstance(returned, str)


class Clock:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start
