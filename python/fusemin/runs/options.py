"""What a run is asked for beside the optimization: the keywords of `Minimizer.run` and `minimize`, checked."""

import dataclasses
import datetime
import numbers
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusemin.arguments import as_flag, check_callable
from fusemin.loop.watch import POLICIES, Policy
from fusemin.runs.checkpoint import Checkpoint
from fusemin.runs.schedule import as_every


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The keywords, see `Minimizer.run`."""

    progress: bool | str = False
    callbacks: tuple[Callable, ...] = ()
    every: int | float | None = None
    time_limit: float | None = None
    on_nonfinite: Policy = "continue"
    keep_best: Any = False
    restore_best: bool = False
    trace_every: int = 1
    trace_last: int | None = None
    trace_to: str | None = None
    checkpoint: Checkpoint | None = None
    data: tf.data.Dataset | None = None

    @property
    def asked_for(self) -> list[str]:
        """The keywords that are not left at their defaults."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]


def as_run_options(
    progress=False,
    callbacks=(),
    every=None,
    time_limit=None,
    on_nonfinite="continue",
    keep_best=False,
    restore_best=False,
    trace_every=1,
    trace_last=None,
    trace_to=None,
    checkpoint=None,
    data=None,
) -> RunOptions:
    """The keywords as RunOptions.

    Raises:
      TypeError, ValueError: one is not as described; the message names it.
    """
    if not (isinstance(progress, str) and progress == "always"):
        progress = as_flag(progress, "progress")
    callbacks = tuple(callbacks) if isinstance(callbacks, list | tuple) else (callbacks,)
    for callback in callbacks:
        check_callable(callback, "callbacks")
    if time_limit is not None:
        if isinstance(time_limit, datetime.timedelta):
            time_limit = time_limit.total_seconds()
        if isinstance(time_limit, bool) or not isinstance(time_limit, int | float) or not time_limit > 0:
            raise ValueError(f"`time_limit` must be a positive number of seconds, it is {time_limit!r}")
    if on_nonfinite not in POLICIES:
        raise ValueError(f"`on_nonfinite` must be one of {', '.join(map(repr, POLICIES))}, it is {on_nonfinite!r}")
    if not callable(keep_best):
        keep_best = as_flag(keep_best, "keep_best")
    restore_best = as_flag(restore_best, "restore_best")
    if restore_best and not keep_best:
        raise ValueError("`restore_best` needs `keep_best`, which is False")
    trace_every = _as_count(trace_every, "trace_every")
    if trace_last is not None:
        trace_last = _as_count(trace_last, "trace_last")
        if trace_every != 1 or trace_to is not None:
            other = "trace_every" if trace_every != 1 else "trace_to"
            raise ValueError(f"`trace_last` and `{other}` exclude each other")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"`checkpoint` must be a fusemin.Checkpoint, it is {checkpoint!r}")
    if data is not None and not isinstance(data, tf.data.Dataset):
        raise TypeError(f"`data` must be a tf.data.Dataset, it is {data!r}")
    return RunOptions(
        progress,
        callbacks,
        as_every(every, "every"),
        time_limit,
        on_nonfinite,
        keep_best,
        restore_best,
        trace_every,
        trace_last,
        None if trace_to is None else os.fspath(trace_to),
        checkpoint,
        data,
    )


def _as_count(value, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, it is {value!r}")
    return int(value)
