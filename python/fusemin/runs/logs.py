"""Callbacks that write logs."""

import csv
import os
from typing import Any

import numpy as np
import tensorflow as tf

from fusemin.runs.callbacks import RunState
from fusemin.runs.leaf_names import leaf_names


def _scalars(state: RunState) -> dict[str, np.ndarray]:
    """By name the loss, if it is a scalar, and the scalar leaves of the trace, a value for each step."""
    names = leaf_names(state.trace, alone="loss")
    leaves = dict(zip(names, map(np.asarray, tf.nest.flatten(state.trace)), strict=True))
    found = {"loss": state.losses, **leaves}
    return {name: values for name, values in found.items() if values.ndim == 1 and values.dtype.kind != "c"}


def _write(name: str, value, step: int) -> None:
    """As `tf.summary.scalar`, which is not in TensorFlow but in TensorBoard, and need not be there to write."""
    metadata = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
    metadata.plugin_data.plugin_name = "scalars"
    tf.summary.write(name, tf.cast(value, tf.float32), step=step, metadata=metadata)


class TensorBoard:
    """A callback that writes the loss, the scalar leaves of the trace and the steps a second for TensorBoard: the last
    values at each call.

    Args:
      directory: where the event files go.

    >>> import tempfile, keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     losses = fusemin.minimize(lambda: (x - 5.0) ** 2, 100, keras.optimizers.Adam(0.1), every=10,
    ...         callbacks=fusemin.TensorBoard(directory))
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._writer: Any = None
        self._last = (0, 0.0)

    def __call__(self, state: RunState) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._directory)
        steps, seconds = state.step - self._last[0], state.seconds - self._last[1]
        self._last = state.step, state.seconds
        with self._writer.as_default():
            for name, values in _scalars(state).items():
                _write(name, values[-1], state.step)
            if seconds > 0:
                _write("steps per second", steps / seconds, state.step)
        self._writer.flush()


class CSVLog:
    """A callback that writes the loss and the scalar leaves of the trace into a file of comma-separated values, a line
    for each step.

    Args:
      path: of the file. What is there is overwritten, unless the run is resumed.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> losses = fusemin.minimize(
    ...     lambda: (x - 5.0) ** 2, 3, keras.optimizers.SGD(0.1), callbacks=fusemin.CSVLog("/dev/null"))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._position: int | None = None

    def __call__(self, state: RunState) -> None:
        columns = _scalars(state)
        with open(self._path, "w" if self._position is None else "a", newline="") as file:
            writer = csv.writer(file)
            if self._position is None:
                writer.writerow(["step", *columns])
            steps = range(state.step - len(state.losses), state.step)
            # As Python writes them, all digits of the dtype.
            writer.writerows(zip(steps, *(map(str, values) for values in columns.values()), strict=True))
            self._position = file.tell()

    def state_dict(self) -> dict:
        return {"position": self._position}

    def load_state_dict(self, state: dict) -> None:
        self._position = state["position"]
        if self._position is not None:
            os.truncate(self._path, self._position)
