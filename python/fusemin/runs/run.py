"""A run: segment after segment, and in between what the host has to do."""

import contextlib
import os
import time
from typing import Any

import numpy as np
import tensorflow as tf

from fusemin.loop.interruption import Interruption
from fusemin.loop.segmented_run import SegmentedRun, SegmentProgram
from fusemin.runs.agreement import Agreement
from fusemin.runs.background import Background
from fusemin.runs.callbacks import Callbacks, Clock, RunState
from fusemin.runs.data import Batches
from fusemin.runs.identity import describe
from fusemin.runs.leaf_names import leaf_names
from fusemin.runs.nonfinite import NonFiniteError, culprit, described
from fusemin.runs.options import RunOptions
from fusemin.runs.progress import Progress
from fusemin.runs.result import Best, Result, Status
from fusemin.runs.saving import Saver
from fusemin.runs.schedule import Due, SegmentLength
from fusemin.runs.thin_traces import LastRows, MemoryTrace, every_row, repeated
from fusemin.runs.trace_files import FollowedTraceFiles, KeptTraceFiles, TraceFiles

# Of the rows and batches of a segment. So much is in memory beside what the run keeps; with more, steps that take
# microseconds would not fill a segment inside XLA, where its traces have memory of fixed size.
SEGMENT_BYTES = 1 << 25
XLA_SEGMENT_BYTES = 1 << 24


def most_steps(row_bytes: int, in_xla: bool) -> int:
    """How many steps a segment may have, of rows and batches of so many bytes a step; at least 1, inside XLA 2."""
    return max(2 if in_xla else 1, (XLA_SEGMENT_BYTES if in_xla else SEGMENT_BYTES) // max(row_bytes, 1))


class Run:
    """One run.

    Args:
      program: what takes the steps.
      optimizer: as the user gave it.
      num_steps: how many to take at most.
      seed: int32 tensor of shape [2], or None.
      options: what is asked for.
      batches: the batches of `options.data`, or None.
      fills: whether the trace is filled up to `num_steps` after convergence.
      identity: by name what must agree to resume, beside what the program says.
    """

    def __init__(
        self,
        program: SegmentProgram,
        optimizer,
        num_steps: int,
        seed,
        options: RunOptions,
        batches: Batches | None,
        fills: bool,
        criterion,
        identity: dict,
    ):
        self._program, self._num_steps, self._options, self._batches = program, num_steps, options, batches
        self._fills, self._clock, self._agreement = fills, Clock(), Agreement()
        self._run = SegmentedRun(program, seed)
        self._background = Background()
        self._names = leaf_names(program.structure)
        self._specs = program.leaf_specs[: program.num_leaves]
        self._trace = self._make_trace()
        self._callbacks = Callbacks(options.callbacks, self._state)
        self._saver = None
        if options.checkpoint is not None:
            settings = {
                "trace_every": options.trace_every,
                "trace_last": options.trace_last,
                "on_nonfinite": options.on_nonfinite,
                "keep_best": bool(options.keep_best),
                "data": None if batches is None else str(batches.spec),
                **identity,
            }
            described_run = describe(program, optimizer, criterion, self._names, settings)
            self._saver = Saver(
                options.checkpoint,
                self._run,
                self._trace,
                self._callbacks,
                batches,
                described_run,
                self._background,
                self._agreement,
            )

    def _make_trace(self):
        options = self._options
        if options.trace_last is not None:
            return LastRows(self._specs, options.trace_last)
        if options.trace_to is None and options.checkpoint is None:
            return MemoryTrace(self._specs)
        if options.trace_to is not None and self._agreement.number > 1:
            raise NotImplementedError(
                "`trace_to` is for one process: the workers of a job all have the same trace, and would write the same "
                "files. Leave it out, or use `trace_every` or `trace_last`."
            )
        if len(self._names) != len(self._specs):
            raise TypeError("a trace in files has dense tensors, `trace_fn` returns others")
        if options.trace_to is not None:
            return TraceFiles(options.trace_to, self._names, self._specs, self._background)
        directory = os.path.join(options.checkpoint.directory, "trace")
        files = KeptTraceFiles if self._agreement.is_chief else FollowedTraceFiles
        return files(directory, self._names, self._specs, self._background)

    def _state(self, taken: int, segments: list[list[tf.Tensor]]) -> RunState:
        program = self._program
        return RunState(
            taken,
            self._num_steps,
            program.step.variables,
            self._clock.seconds(),
            segments,
            program.loss_leaf,
            program.pack,
        )

    def take(self) -> Result:
        """Takes the steps.

        Raises:
          NonFiniteError: a step was not finite, and is to raise.
        """
        run, options, num_steps, agreement = self._run, self._options, self._num_steps, self._agreement
        with contextlib.ExitStack() as stack:
            if isinstance(self._trace, TraceFiles):
                stack.callback(self._trace.close)
            stack.callback(self._background.close)
            if self._saver is not None:
                self._saver.resume(num_steps)
            due = Due(options.every, run.taken)
            dues = ([due] if options.callbacks else []) + ([self._saver.due] if self._saver is not None else [])
            length = SegmentLength(self._most_steps(), dues)
            interruption = stack.enter_context(Interruption())
            progress = Progress(options.progress if agreement.is_chief else False, num_steps, run.taken)
            stack.callback(progress.close)
            status = self._ended(False, interruption)
            while status is None:
                steps = agreement.of_chief(length.next(run.taken, num_steps, self._seconds_left()))
                started = time.perf_counter()
                leaves = self._take_segment(steps)
                length.took(steps, time.perf_counter() - started)
                if progress.is_shown and leaves[0].shape[0]:
                    last = np.asarray(leaves[self._program.loss_leaf])[-1]
                    progress.update(run.taken, float(np.mean(last, dtype=np.float64)))
                is_due = agreement.of_chief(due.is_due(run.taken)) == 1
                is_last = self._ended(False, interruption) is not None
                wants_to_stop = self._callbacks.after_segment(run.taken, leaves, is_due or is_last)
                status = self._ended(wants_to_stop, interruption)
                if self._saver is not None and self._saver.due.is_due(run.taken):
                    self._saver.write()
            if self._saver is not None and status is not Status.NOT_FINITE:
                self._saver.write()
            return self._result(status)

    def _most_steps(self) -> int:
        program = self._program
        if program.capacity is not None:
            return program.capacity
        batch = 0 if self._batches is None else self._batches.batch_bytes
        return most_steps(program.row_bytes + batch, in_xla=False)

    def _take_segment(self, steps: int) -> list[tf.Tensor]:
        """Takes up to so many steps. Returns the leaves of their trace."""
        run, before = self._run, self._run.taken
        inputs = () if self._batches is None else self._batches.draw(steps, self._program.capacity)
        leaves = run.take(steps, inputs)
        kept = leaves[: self._program.num_leaves]
        if kept and kept[0].shape[0]:
            self._trace.append(every_row(kept, before, self._options.trace_every))
            if run.converged and self._fills and not isinstance(self._trace, LastRows):
                self._fill(kept)
        return leaves

    def _seconds_left(self) -> float | None:
        limit = self._options.time_limit
        return None if limit is None else limit - self._clock.seconds()

    def _ended(self, wants_to_stop: bool, interruption: Interruption) -> Status | None:
        run, left = self._run, self._seconds_left()
        own = [wants_to_stop, interruption.requested, left is not None and left <= 0]
        wants_to_stop, interrupted, is_over = self._agreement.any(own)
        cases = [
            (run.not_finite, Status.NOT_FINITE),
            (run.converged, Status.CONVERGED),
            (run.taken >= self._num_steps, Status.FINISHED),
            (wants_to_stop, Status.STOPPED),
            (interrupted, Status.INTERRUPTED),
            (is_over, Status.TIME_LIMIT),
        ]
        return next((status for holds, status in cases if holds), None)

    def _message(self, status: Status) -> str:
        steps = f"{self._run.taken:,} of {self._num_steps:,} steps"
        texts = {
            Status.FINISHED: f"all {self._num_steps:,} steps were taken",
            Status.CONVERGED: f"converged after {steps}",
            Status.STOPPED: f"a callback stopped the run after {steps}",
            Status.INTERRUPTED: f"interrupted after {steps}",
            Status.TIME_LIMIT: f"the time limit was reached after {steps}",
        }
        if status is Status.NOT_FINITE:
            return f"{described(self._run.taken, self._culprit())}; the variables are those before it"
        return texts[status]

    def _culprit(self) -> str | None:
        return culprit(self._run.not_finite, self._program.step.unwrapped)

    def _best(self) -> Best | None:
        best, program = self._run.carry.watch.best, self._program
        if not best or int(best.step) < 0:
            return None
        parameters = [tf.identity(v) for v in program.best_variables]
        return Best(float(best.value), int(best.step), parameters, program.step.unwrapped)

    def _result(self, status: Status) -> Result:
        run, options = self._run, self._options
        if status is Status.NOT_FINITE and options.on_nonfinite == "raise":
            raise NonFiniteError(run.taken, self._culprit())
        best = self._best()
        if options.restore_best and best is not None:
            best.restore()
        nonfinite = run.carry.watch.nonfinite
        first = max(0, run.taken - options.trace_last) if options.trace_last else 0
        return Result(
            trace=self._packed(),
            steps=run.taken,
            status=status,
            message=self._message(status),
            seconds=self._clock.seconds(),
            best=best,
            skipped=int(nonfinite.skipped) if nonfinite else 0,
            trace_every=options.trace_every,
            first_row=first,
        )

    def _fill(self, last: list) -> None:
        """Repeats the row of the last step up to `num_steps`."""
        missing = -(-self._num_steps // self._options.trace_every) - self._trace.num_rows
        block = most_steps(self._program.row_bytes, in_xla=False)
        while missing > 0:
            self._trace.append(repeated(last, min(missing, block)))
            missing -= block

    def _packed(self) -> Any:
        leaves = self._trace.leaves()
        if self._options.trace_to is not None:
            return tf.nest.pack_sequence_as(self._program.structure, leaves)
        return self._program.pack(leaves)
