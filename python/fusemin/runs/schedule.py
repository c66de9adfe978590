"""When the host is called: how long segments are, and every how many steps or seconds something is due."""

import datetime
import numbers
import time

# How long a segment is to take: the host is called a few times a second. A call costs about a millisecond.
SEGMENT_SECONDS = 0.3
# The first segment has one step, since nothing is known of its time; no segment has more than so many times the steps
# of the one before.
MOST_GROWTH = 64


def as_every(value, name: str) -> int | float | None:
    """A number of steps as an int, a `datetime.timedelta` as a float of seconds, or None.

    Raises:
      TypeError, ValueError: it is nothing of these, or not positive.
    """
    if value is None:
        return None
    if isinstance(value, datetime.timedelta):
        if value.total_seconds() <= 0:
            raise ValueError(f"`{name}` must be positive, it is {value!r}")
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number of steps or a datetime.timedelta, it is {value!r}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1 step, it is {value}")
    return int(value)


class Due:
    """Says when something is due.

    Args:
      every: steps, an int; or seconds, a float; or None for after each segment.
      taken: how many steps were taken before the run.
    """

    def __init__(self, every: int | float | None, taken: int):
        self.every = every
        self._last_step, self._last_time = taken, time.monotonic()

    def steps_left(self, taken: int) -> int | None:
        """How many steps a segment may have at most, or None."""
        return self.every - taken % self.every if isinstance(self.every, int) else None

    def seconds(self) -> float | None:
        """How long a segment may take, or None."""
        return self.every if isinstance(self.every, float) else None

    def is_due(self, taken: int) -> bool:
        """Whether it is due now. Then it counts as done."""
        now = time.monotonic()
        if isinstance(self.every, int):
            due = taken % self.every == 0
        else:
            due = self.every is None or now - self._last_time >= self.every
        due = due and taken > self._last_step
        if due:
            self._last_step, self._last_time = taken, now
        return due

    def is_late(self, taken: int) -> bool:
        """Whether steps came since it was done last."""
        return taken > self._last_step


class SegmentLength:
    """How many steps the next segment has.

    Args:
      most: how many it may have.
      dues: what is due in between.
    """

    def __init__(self, most: int, dues: list[Due]):
        self._most, self._dues = most, dues
        self._steps = 0
        self._seconds: float | None = None

    def next(self, taken: int, num_steps: int, seconds_left: float | None) -> int:
        """The number of steps after `taken` of `num_steps`, where there are so many seconds left."""
        steps = 1
        if self._seconds is not None:
            limits = [SEGMENT_SECONDS, seconds_left, *(due.seconds() for due in self._dues)]
            target = min(limit for limit in limits if limit is not None)
            rate = self._steps / max(self._seconds, 1e-9)
            steps = int(min(max(target, 0.0) * rate, MOST_GROWTH * self._steps))
        ends = [self._most, num_steps - taken, *(due.steps_left(taken) for due in self._dues)]
        return max(1, min([steps, *(end for end in ends if end is not None)]))

    def took(self, steps: int, seconds: float) -> None:
        """What the segment took."""
        self._steps, self._seconds = steps, seconds
