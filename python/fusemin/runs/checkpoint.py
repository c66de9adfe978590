"""Where and when a run is saved, and what is said where it cannot be resumed."""

import datetime
import os

from fusemin.runs.schedule import as_every


class CheckpointMismatchError(ValueError):
    """A checkpoint is of another program.

    Attributes:
      differences: what differs, in words.
    """

    def __init__(self, directory: str, differences: list[str]) -> None:
        listed = "".join(f"\n- {difference}" for difference in differences)
        super().__init__(
            f"the checkpoints in {directory} are of another run, which this one cannot go on with:{listed}\n"
            "Call it as it was called then, or give another directory."
        )
        self.differences = differences


class Checkpoint:
    """Saves a run now and then, and resumes it: a run that was killed at any moment and is started again by the same
    call ends with the trace and the variables of one that was not, to the bit.

    Saved are all variables that the steps read or write (the trainable ones, the optimizer's slots, iterations and
    learning rate, those of layers and generators), the seed, the state of the criterion, the best step, the trace so
    far, the position in `data`, and the `state_dict()` of callbacks that have one. Random numbers without a seed go on
    with others.

    Args:
      directory: of this run, and of no other. It is made if it is not there. Traces are in it too, unless `trace_to`
        says where. Of several workers of a job all are given the same, which the chief writes and all read.
      every: after how many steps, an int, or how long, a `datetime.timedelta`, a checkpoint is written. One is written
        at the end too.
      keep: how many checkpoints are kept, at least 1.

    Raises:
      TypeError, ValueError: an argument is not as described.

    >>> import tempfile, keras, tensorflow as tf, fusemin
    >>> def fit(directory, **keywords):
    ...     x = tf.Variable(0.0)
    ...     return fusemin.minimize(lambda: (x - 5.0) ** 2, 100, keras.optimizers.Adam(0.1),
    ...         checkpoint=fusemin.Checkpoint(directory, every=10), **keywords)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     stopped = fit(directory, callbacks=lambda state: "stop", every=30)
    ...     whole = fit(directory)
    >>> stopped.shape, whole.shape
    (TensorShape([30]), TensorShape([100]))
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every: int | datetime.timedelta = datetime.timedelta(seconds=60),
        keep: int = 2,
    ) -> None:
        self.directory = os.fspath(directory)
        self.every = as_every(every, "every")
        if self.every is None:
            raise TypeError("`every` must be a whole number of steps or a datetime.timedelta, it is None")
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"`keep` must be a whole number of at least 1, it is {keep!r}")
        self.keep = keep

    def __repr__(self):
        every = f"{self.every} steps" if isinstance(self.every, int) else f"{self.every:g} s"
        return f"Checkpoint({self.directory!r}, every {every}, keep={self.keep})"
