"""Interleaved rounds and their statistics.

The speed of a machine drifts: by its clock, its neighbours, its caches. So all rivals of a comparison take turns,
A B C A B C ..., and meet the same drift. A figure is the median of its rounds; its spread is from the first to the
third quartile. A ratio of two rivals is the median of the ratios of the rounds, whose times were neighbours.
"""

import contextlib
import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


@dataclasses.dataclass
class Row:
    """What was measured of one rival in one case.

    Attributes:
      case: what was run, such as a workload.
      rival: what ran it.
      unit: "s" or "B".
      samples: a value for each round.
      facts: what else stands in tables, by name.
      notes: what else plots, summaries and acceptance lines need, by name.
    """

    case: str
    rival: str
    unit: str
    samples: list[float]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.samples)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


# Worker threads of OpenMP and of TensorFlow spin for some milliseconds after their last work. The next rival waits.
PAUSE = 0.02


class Time(NamedTuple):
    """What a call took, in seconds.

    Attributes:
      wall: what a user waits, and what is compared.
      cpu: the time of all threads of the process. Above `wall` if threads worked, or only spun, at the same time; far
        below `wall` if other processes had the cores.
    """

    wall: float
    cpu: float

    def __truediv__(self, number):
        return Time(self.wall / number, self.cpu / number)


@contextlib.contextmanager
def _no_garbage_collection():
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def measure(function: Callable[[], Any]) -> Time:
    """The time of one call, without that of Python's garbage collector."""
    with _no_garbage_collection():
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        return Time(time.perf_counter() - wall, time.process_time() - cpu)


def interleave(measurements: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list]:
    """Calls each function in turn, `rounds` times round, and returns the values of each."""
    samples = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, function in measurements.items():
            time.sleep(PAUSE)
            samples[name].append(function())
    return samples


def ratios(numerator: Row, denominator: Row) -> list[float]:
    """The ratio of two rivals in each round."""
    return [a / b for a, b in zip(numerator.samples, denominator.samples, strict=True)]


def median_ratio(numerator: Row, denominator: Row) -> float:
    return statistics.median(ratios(numerator, denominator))


def fastest(rows: Sequence[Row], **notes) -> Row | None:
    """The row with the smallest median among those with these notes, or None."""
    fitting = [row for row in rows if all(row.notes.get(name) == value for name, value in notes.items())]
    return min(fitting, key=lambda row: row.median, default=None)


def cases(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by case, in order."""
    found = {}
    for row in rows:
        found.setdefault(row.case, []).append(row)
    return found
