"""Traces in memory: all rows, or the last ones; and the rows of every so many steps."""

from typing import Protocol

import tensorflow as tf


class Trace(Protocol):
    """Where the rows of a run go.

    Attributes:
      num_rows: how many there are.
    """

    num_rows: int

    def append(self, leaves: list[tf.Tensor]) -> None:
        """Takes further rows: for each leaf a tensor."""

    def leaves(self) -> list:
        """All rows, at the end of the run: for each leaf a tensor, or an array."""


class MemoryTrace:
    """All rows.

    Args:
      specs: TensorSpecs of a row of each leaf.
    """

    def __init__(self, specs: list[tf.TensorSpec]):
        self._specs = specs
        self._parts: list[list[tf.Tensor]] = []
        self.num_rows = 0

    def append(self, leaves: list[tf.Tensor]) -> None:
        if len(leaves) and leaves[0].shape[0]:
            self._parts.append(leaves)
            self.num_rows += leaves[0].shape[0]

    def leaves(self) -> list:
        if not self._parts:
            return [no_rows(spec) for spec in self._specs]
        if len(self._parts) == 1:
            return self._parts[0]
        # Leaf by leaf, so that no more than one of them is in memory twice.
        parts, self._parts = [list(part) for part in self._parts], []
        joined = []
        for i in range(len(self._specs)):
            joined.append(tf.concat([part[i] for part in parts], 0))
            for part in parts:
                part[i] = None
        self._parts = [joined]
        return joined


class LastRows(MemoryTrace):
    """The last rows only.

    Args:
      specs: see MemoryTrace.
      most: how many.
    """

    def __init__(self, specs: list[tf.TensorSpec], most: int):
        super().__init__(specs)
        self._most = most

    def append(self, leaves: list[tf.Tensor]) -> None:
        super().append([leaf[-self._most :] for leaf in leaves])
        while self._parts and self.num_rows - self._parts[0][0].shape[0] >= self._most:
            self.num_rows -= self._parts.pop(0)[0].shape[0]

    def leaves(self) -> list:
        rows = [leaf[-self._most :] for leaf in super().leaves()]
        self.num_rows = min(self.num_rows, self._most)
        return rows


def no_rows(spec: tf.TensorSpec) -> tf.Tensor:
    """A leaf without rows."""
    shape = [] if spec.shape.rank is None else [d or 0 for d in spec.shape]
    return tf.zeros([0, *shape], spec.dtype)


def every_row(leaves: list, before: int, every: int) -> list:
    """Of the rows of the steps from step `before` on those of steps 0, every, 2 every and so on."""
    return leaves if every == 1 else [leaf[-before % every :: every] for leaf in leaves]


def repeated(leaves: list, count: int) -> list:
    """The last row of each leaf, so many times."""
    return [tf.repeat(tf.convert_to_tensor(leaf[-1:]), count, axis=0) for leaf in leaves]
