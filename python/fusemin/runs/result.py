"""What a run returns."""

import dataclasses
import enum
from typing import Any

import tensorflow as tf

from fusemin.runs.leaf_names import leaf_names


class Status(enum.Enum):
    """How a run ended."""

    FINISHED = "finished"
    CONVERGED = "converged"
    STOPPED = "stopped by a callback"
    INTERRUPTED = "interrupted"
    TIME_LIMIT = "time limit"
    NOT_FINITE = "not finite"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Best:
    """The best step of a run.

    Attributes:
      value: the smallest loss, the sum of its elements; or the smallest value of what was monitored.
      step: the index of its step, counted from 0.
      parameters: of the trainable variables, a tensor each: what the loss was computed of, before the update of the
        step; for a monitored value, what is after the update.
    """

    value: float
    step: int
    parameters: list[tf.Tensor]
    _variables: list = dataclasses.field(default_factory=list)

    def restore(self) -> None:
        """Assigns the parameters to the variables."""
        for variable, value in zip(self._variables, self.parameters, strict=True):
            variable.assign(value)

    def __repr__(self):
        return f"Best(value={self.value:.6g}, step={self.step})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a run did.

    Attributes:
      trace: what `trace_fn` returned, each tensor with a leading dimension of rows; with `trace_to` arrays that are
        mapped from files.
      steps: how many steps were taken, those before it was resumed among them.
      status: how it ended.
      message: the same in a sentence.
      seconds: how long it took, without what came before it was resumed.
      best: with `keep_best` the best step, if there is one.
      skipped: with on_nonfinite="skip", how many of the steps were skipped.
      trace_every: of how many steps the trace has a row.
      first_row: the index of the step of the first row of the trace.
    """

    trace: Any
    steps: int
    status: Status
    message: str
    seconds: float
    best: Best | None = None
    skipped: int = 0
    trace_every: int = 1
    first_row: int = 0

    def plot(self, axes: Any = None) -> Any:
        """Plots the scalar leaves of the trace by matplotlib: the loss, logarithmic where it is positive, and a running
        median where it is noisy.

        Args:
          axes: for each leaf to plot axes of matplotlib; None for a new figure.

        Returns:
          The figure.

        Raises:
          ImportError: matplotlib is not installed.
          ValueError: no leaf is a scalar, or there are no rows.
        """
        from fusemin.runs.plot import plot_trace

        return plot_trace(self.trace, self.first_row, self.trace_every, axes)

    def __repr__(self):
        leaves = tf.nest.flatten(self.trace)
        shapes = [
            f"{name} {tuple(leaf.shape)}".strip()
            for name, leaf in zip(leaf_names(self.trace, alone=""), leaves, strict=True)
        ]
        lines = [
            f"Result: {self.status.value}",
            f"  {self.message}",
            f"  steps    {self.steps:,} in {self.seconds:.3g} s",
            f"  trace    {', '.join(shapes)}",
        ]
        if self.best is not None:
            lines.append(f"  best     {self.best.value:.6g} at step {self.best.step:,}")
        if self.skipped:
            steps = "step" if self.skipped == 1 else "steps"
            lines.append(f"  skipped  {self.skipped:,} {steps} with a gradient that was not finite")
        return "\n".join(lines)
