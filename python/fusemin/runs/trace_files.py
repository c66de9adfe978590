"""Traces in files of NumPy, a file for each leaf, to which rows are appended: the memory of a run stays what it is.

Format: `numpy.lib.format`, version 1.0, whose header has room for a number of rows that grows.
"""

import io
import os
import zlib
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.lib import format as npy

from fusemin.runs.background import Background
from fusemin.runs.thin_traces import MemoryTrace

# So much of a file is read at once where it is checked.
_BLOCK = 1 << 22


class DamagedTraceError(OSError):
    """A file of a trace does not hold what a checkpoint says of it."""


def _stored(dtype: np.dtype) -> np.dtype:
    """The dtype in a file: NumPy's own, or bytes for the halves of other libraries."""
    return dtype if dtype.kind in "?biufc" else np.dtype((np.void, dtype.itemsize))


class _LeafFile:
    """One leaf. `num_rows` of its rows count; the header says so after `flush`."""

    def __init__(self, path: str, spec: tf.TensorSpec):
        self._path, self._dtype = path, np.dtype(spec.dtype.as_numpy_dtype)
        self._shape = tuple(spec.shape) if spec.shape.is_fully_defined() else None
        self._file: Any = None
        self.num_rows, self.crc = 0, 0

    def _header(self) -> bytes:
        header = io.BytesIO()
        shape = (self.num_rows, *(self._shape or ()))
        npy.write_array_header_1_0(
            header, {"descr": npy.dtype_to_descr(_stored(self._dtype)), "fortran_order": False, "shape": shape}
        )
        return header.getvalue()

    def create(self) -> None:
        self.close()
        self.num_rows = self.crc = 0
        self._file = open(self._path, "w+b")  # noqa: SIM115  It is closed by `close`.
        self._file.write(self._header())

    def resume(self, num_rows: int, crc: int, shape: list[int]) -> None:
        """Takes the first rows of the file as those that are there, after a look at each."""
        self.num_rows, self.crc, self._shape = num_rows, 0, tuple(shape)
        try:
            self._file = open(self._path, "r+b")  # noqa: SIM115
        except FileNotFoundError as error:
            self.num_rows = 0
            raise DamagedTraceError(f"{self._path} is not there") from error
        start = len(self._header())
        self._file.seek(start)
        left = num_rows * self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        end = start + left
        while left and (block := self._file.read(min(_BLOCK, left))):
            self.crc, left = zlib.crc32(block, self.crc), left - len(block)
        if left or self.crc != crc:
            self._file.close()
            self.num_rows = 0
            raise DamagedTraceError(f"{self._path} does not hold the {num_rows:,} rows that were written")
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, rows: tf.Tensor) -> None:
        array = np.ascontiguousarray(rows)
        if self._shape is None:
            self._shape = array.shape[1:]
        if array.shape[1:] != self._shape:
            raise ValueError(f"rows of {self._path} have shape {self._shape}, one has {array.shape[1:]}")
        data = array.reshape(-1).view(np.uint8).data
        self.crc = zlib.crc32(data, self.crc)
        self._file.write(data)
        self.num_rows += len(array)

    def flush(self) -> None:
        end = self._file.tell()
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(end)
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> np.ndarray:
        """The rows, mapped from the file."""
        if self.num_rows == 0:
            return np.zeros((0, *(self._shape or ())), self._dtype)
        return np.load(self._path, mmap_mode="r").view(self._dtype)

    def position(self) -> dict:
        return {"rows": self.num_rows, "crc": self.crc, "shape": list(self._shape or ())}


class TraceFiles:
    """The rows of a run in files. Files of the same names are overwritten, if they are not resumed.

    Args:
      directory: where they are; made if it is not there.
      names: of the leaves.
      specs: TensorSpecs of their rows.
      background: writes them.

    Attributes:
      num_rows: how many there are, those that are still to be written among them.

    Raises:
      TypeError: a leaf cannot be in such a file.
    """

    def __init__(self, directory: str, names: list[str], specs: list[tf.TensorSpec], background: Background):
        for name, spec in zip(names, specs, strict=True):
            if spec.dtype in (tf.string, tf.variant, tf.resource):
                raise TypeError(f"a trace in files has numbers, '{name}' is of {spec.dtype.name}")
        os.makedirs(directory, exist_ok=True)
        self._leaves = [
            _LeafFile(os.path.join(directory, f"{name.replace(os.sep, '_')}.npy"), spec)
            for name, spec in zip(names, specs, strict=True)
        ]
        self._background, self._open, self.num_rows = background, False, 0

    def resume(self, positions: list[dict]) -> None:
        """Goes on where `positions` were. Later rows are cut.

        Raises:
          DamagedTraceError: a file does not hold the rows that it held then.
        """
        for leaf, position in zip(self._leaves, positions, strict=True):
            leaf.resume(position["rows"], position["crc"], position["shape"])
        self.num_rows = positions[0]["rows"] if positions else 0
        self._open = True

    def append(self, leaves: list[tf.Tensor]) -> None:
        self.num_rows += leaves[0].shape[0] if leaves else 0
        self._background.do(self._append, leaves)

    def _append(self, leaves: list[tf.Tensor]) -> None:
        if not self._open:
            for leaf in self._leaves:
                leaf.create()
            self._open = True
        for leaf, rows in zip(self._leaves, leaves, strict=True):
            leaf.append(rows)

    def positions(self) -> list[dict]:
        """What `resume` is to be given, once all rows are in the files. Not while rows are written."""
        if self._open:
            for leaf in self._leaves:
                leaf.flush()
        return [leaf.position() for leaf in self._leaves]

    def leaves(self) -> list:
        """All rows: for each leaf an array that is mapped from its file."""
        self._background.wait()
        self.positions()
        return [leaf.read() for leaf in self._leaves]

    def close(self) -> None:
        """Not while rows are written."""
        if self._open:
            self.positions()
        for leaf in self._leaves:
            leaf.close()


class KeptTraceFiles(TraceFiles):
    """As TraceFiles, for a trace that will be returned in memory: there it is kept too, and not read again."""

    def __init__(self, directory: str, names: list[str], specs: list[tf.TensorSpec], background: Background):
        super().__init__(directory, names, specs, background)
        self._kept = MemoryTrace(specs)

    def resume(self, positions: list[dict]) -> None:
        super().resume(positions)
        self._kept.append([tf.convert_to_tensor(leaf) for leaf in super().leaves()])

    def append(self, leaves: list[tf.Tensor]) -> None:
        super().append(leaves)
        self._kept.append(leaves)

    def leaves(self) -> list:
        return self._kept.leaves()


class FollowedTraceFiles(KeptTraceFiles):
    """The files that another worker writes: read where a run is resumed, and left alone from then on."""

    def resume(self, positions: list[dict]) -> None:
        super().resume(positions)
        self.close()
        self._open = False

    def append(self, leaves: list[tf.Tensor]) -> None:
        self.num_rows += leaves[0].shape[0] if leaves else 0
        self._kept.append(leaves)
