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
        segments: list[list[tf.Tensor]],
        loss_leaf: int,
        pack: Callable[[list], Any],
    ) -> None:
        self.step, self.num_steps, self.variables, self.seconds = step, num_steps, variables, seconds
        # The leaves of each segment since the last call. They are joined if they are asked for only: of steps that take
        # nanoseconds there are many megabytes.
        self._segments, self._loss_leaf, self._pack = segments, loss_leaf, pack

    @functools.cached_property
    def loss(self) -> float | np.ndarray:
        """The loss of the last step; an array if it is no scalar."""
        last = np.asarray(self._segments[-1][self._loss_leaf][-1])
        return last if last.ndim else last.item()

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """The losses of the steps since the last call, a row each."""
        return np.concatenate([np.asarray(leaves[self._loss_leaf]) for leaves in self._segments])

    @functools.cached_property
    def trace(self) -> Any:
        """The rows of the steps since the last call, in the structure of what `trace_fn` returns."""
        return self._pack(_joined(self._segments))

    def __repr__(self):
        return f"RunState(step={self.step}, loss={self.loss!r})"


class Callbacks:
    """Calls the callbacks of a run, with the rows since the last call.

    Args:
      callbacks: functions of a RunState, each of which may return "stop".
      make_state: function from `(step, segments)` to a RunState, `segments` being the leaves of each.
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
        segments, self._rows = self._rows, []
        state = self._make_state(taken, segments)
        # All of them, also where one wants to stop.
        wishes = [_wants_to_stop(callback(state), callback) for callback in self._callbacks]
        return any(wishes)

    def pending(self) -> list[tf.Tensor]:
        """The rows since the last call, or []."""
        if len(self._rows) > 1:
            self._rows = [_joined(self._rows)]
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


def _joined(segments: list[list[tf.Tensor]]) -> list[tf.Tensor]:
    """Leaves with the rows of all segments."""
    return segments[0] if len(segments) == 1 else [tf.concat(leaf, 0) for leaf in zip(*segments, strict=True)]


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
