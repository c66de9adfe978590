"""Saves a run, and takes it up again."""

import copy

import tensorflow as tf

from fusemin.loop.segmented_run import SegmentedRun
from fusemin.runs.agreement import Agreement
from fusemin.runs.background import Background
from fusemin.runs.callbacks import Callbacks
from fusemin.runs.checkpoint import Checkpoint, CheckpointMismatchError
from fusemin.runs.checkpoint_files import CheckpointFiles, DamagedCheckpointError, Saved, numbered
from fusemin.runs.data import Batches
from fusemin.runs.identity import differences
from fusemin.runs.schedule import Due
from fusemin.runs.thin_traces import LastRows
from fusemin.runs.trace_files import DamagedTraceError, TraceFiles
from fusemin.update.copies import copies_of
from fusemin.user_warnings import warn


class Saver:
    """Writes the checkpoints of a run.

    Args:
      checkpoint: where and when.
      run: that is saved; it has begun.
      trace: its rows.
      callbacks: whose states are saved.
      batches: whose position is saved, or None.
      identity: what must agree for a run to be resumed.
      background: writes the files, after the rows of the trace that it was given before.
      agreement: of the workers, of which the chief writes, and all read.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        run: SegmentedRun,
        trace: TraceFiles | LastRows,
        callbacks: Callbacks,
        batches: Batches | None,
        identity: dict,
        background: Background,
        agreement: Agreement,
    ):
        self._agreement = agreement
        self._checkpoint, self._run, self._trace = checkpoint, run, trace
        self._callbacks, self._batches, self._identity = callbacks, batches, identity
        self._background = background
        self._files = CheckpointFiles(checkpoint.directory, checkpoint.keep)
        self._saved_step: int | None = None
        self.due = Due(checkpoint.every, 0)

    def resume(self, num_steps: int) -> None:
        """Takes up the run where the last checkpoint that is not damaged left it, if there is one.

        Raises:
          CheckpointMismatchError: it is of another run.
          FileNotFoundError: not all workers find it.

        Warns:
          UserWarning: a checkpoint is damaged.
        """
        steps = self._files.steps()
        for step in steps:
            try:
                self._check(self._files.facts(step), step, num_steps)
                saved = self._files.read(step)
                if isinstance(self._trace, TraceFiles):
                    self._trace.resume(saved.facts["trace"])
            except (DamagedCheckpointError, DamagedTraceError) as error:
                before = [s for s in steps if s < step]
                instead = f"the one of step {before[0]} is taken" if before else "the run starts from its beginning"
                warn(f"the checkpoint of step {step} is damaged, {instead}: {error}")
                continue
            self._take_up(saved)
            break
        # Nothing is removed or written before all have read.
        taken = self._agreement.exchange([self._run.taken])[:, 0].tolist()
        if len(set(taken)) > 1:
            raise FileNotFoundError(
                f"the workers find checkpoints of different steps in {self._checkpoint.directory}: {taken}. It must be "
                "one directory, of a file system that all of them see."
            )
        if self._agreement.is_chief:
            for step in steps:
                if step > self._run.taken or self._saved_step is None:
                    self._files.remove(step)
            self._files.remove_parts()
        self.due = Due(self._checkpoint.every, self._run.taken)

    def _check(self, facts: dict, step: int, num_steps: int) -> None:
        found = differences(facts["run"], self._identity)
        if step > num_steps:
            found.append(f"num_steps: it has taken {step} steps, now there are to be {num_steps}")
        if found:
            raise CheckpointMismatchError(self._checkpoint.directory, found)

    def _take_up(self, saved: Saved) -> None:
        run = self._run
        for name, variables in self._variables().items():
            for variable, value in zip(variables, saved.numbered(name), strict=True):
                for of_replica in copies_of(variable):
                    of_replica.assign(value)
        if self._batches is not None:
            self._batches.go_on(saved.tensors["data"])
        run.go_on(tf.nest.pack_sequence_as(run.carry, saved.numbered("carry")), saved.step)
        if isinstance(self._trace, LastRows):
            self._trace.append(saved.numbered("rows"))
        self._callbacks.restore_pending(saved.numbered("pending"))
        self._callbacks.load_state_dicts(saved.facts["callbacks"])
        self._saved_step = saved.step

    def _variables(self) -> dict[str, list[tf.Variable]]:
        program = self._run.program
        return {"variables": program.variables, "best": program.best_variables}

    def write(self) -> None:
        """Saves the run as it is now. All values are taken at once, and written in the background."""
        step = self._run.taken
        if step == self._saved_step or not self._agreement.is_chief:
            return
        tensors = numbered("carry", tf.nest.flatten(self._run.carry))
        for name, variables in self._variables().items():
            # No copies: whoever writes a variable whose value is in use gives it another buffer.
            first = [copies_of(v)[0] for v in variables]
            tensors |= numbered(name, [tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in first])
        if isinstance(self._trace, LastRows):
            tensors |= numbered("rows", self._trace.leaves())
        tensors |= numbered("pending", self._callbacks.pending())
        if self._batches is not None:
            tensors["data"] = self._batches.position
        facts = {"run": self._identity, "callbacks": copy.deepcopy(self._callbacks.state_dicts())}
        self._background.do(self._write, step, tensors, facts)
        self._saved_step = step

    def _write(self, step: int, tensors: dict[str, tf.Tensor], facts: dict) -> None:
        positions = self._trace.positions() if isinstance(self._trace, TraceFiles) else []
        self._files.write(step, tensors, {**facts, "trace": positions})
