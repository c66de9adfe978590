"""Saves a run, and takes it up again."""

import tensorflow as tf

from fusemin.loop.segmented_run import SegmentedRun
from fusemin.runs.callbacks import Callbacks
from fusemin.runs.checkpoint import Checkpoint, CheckpointMismatchError
from fusemin.runs.checkpoint_files import CheckpointFiles, DamagedCheckpointError, Saved
from fusemin.runs.data import Batches
from fusemin.runs.identity import differences
from fusemin.runs.schedule import Due
from fusemin.runs.thin_traces import LastRows
from fusemin.runs.trace_files import DamagedTraceError, TraceFiles
from fusemin.user_warnings import warn

_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


class Saver:
    """Writes the checkpoints of a run.

    Args:
      checkpoint: where and when.
      run: that is saved; it has begun.
      trace: its rows.
      callbacks: whose states are saved.
      batches: whose position is saved, or None.
      identity: what must agree for a run to be resumed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        run: SegmentedRun,
        trace: TraceFiles | LastRows,
        callbacks: Callbacks,
        batches: Batches | None,
        identity: dict,
    ):
        self._checkpoint, self._run, self._trace = checkpoint, run, trace
        self._callbacks, self._batches, self._identity = callbacks, batches, identity
        self._files = CheckpointFiles(checkpoint.directory, checkpoint.keep)
        self._saved_step: int | None = None
        self.due = Due(checkpoint.every, 0)

    def resume(self, num_steps: int) -> None:
        """Takes up the run where the last checkpoint that is not damaged left it, if there is one.

        Raises:
          CheckpointMismatchError: it is of another run.

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
        self._variables().read(saved.prefix).assert_existing_objects_matched().expect_partial()
        carry = [
            tf.constant(saved.tensors[f"carry/{i}/{_VALUE}"], t.dtype) for i, t in enumerate(tf.nest.flatten(run.carry))
        ]
        run.go_on(tf.nest.pack_sequence_as(run.carry, carry), saved.step)
        rows, pending = (
            [tf.constant(saved.tensors[f"{name}/{i}/{_VALUE}"]) for i in range(saved.facts[name])]
            for name in ("rows", "pending")
        )
        if isinstance(self._trace, LastRows):
            self._trace.append(rows)
        self._callbacks.restore_pending(pending)
        self._callbacks.load_state_dicts(saved.facts["callbacks"])
        self._saved_step = saved.step

    def _variables(self, **more) -> tf.train.Checkpoint:
        program = self._run.program
        if self._batches is not None:
            more["data"] = self._batches.iterator
        return tf.train.Checkpoint(variables=program.variables, best=program.best_variables, **more)

    def write(self) -> None:
        """Saves the run as it is now."""
        step = self._run.taken
        if step == self._saved_step:
            return
        rows = self._trace.leaves() if isinstance(self._trace, LastRows) else []
        pending = self._callbacks.pending()
        facts = {
            "run": self._identity,
            "trace": self._trace.positions() if isinstance(self._trace, TraceFiles) else [],
            "rows": len(rows),
            "pending": len(pending),
            "callbacks": self._callbacks.state_dicts(),
        }
        with tf.device("CPU:0"):
            carry = [tf.Variable(t) for t in tf.nest.flatten(self._run.carry)]
            rows, pending = ([tf.Variable(t) for t in tensors] for tensors in (rows, pending))
        self._files.write(step, self._variables(carry=carry, rows=rows, pending=pending), facts)
        self._saved_step = step
