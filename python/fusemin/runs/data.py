"""Batches of a dataset, for the steps of a segment: drawn outside of what is compiled."""

import math

import tensorflow as tf

from fusemin import _compat


class Batches:
    """The batches of a dataset, again from the start at its end.

    Args:
      dataset: a `tf.data.Dataset`, whose elements are what `loss_fn` is called with, one at each step.

    Attributes:
      spec: TensorSpecs of a batch, in its structure.

    Raises:
      ValueError: the shape of a batch is not known, or there is none.
      TypeError: it holds something other than tensors.
    """

    def __init__(self, dataset: tf.data.Dataset):
        self.spec = dataset.element_spec
        for spec in tf.nest.flatten(self.spec):
            if not isinstance(spec, tf.TensorSpec):
                raise TypeError(f"the elements of `data` must be tensors, they have a {type(spec).__name__}")
            if not spec.shape.is_fully_defined():
                raise ValueError(
                    f"the batches of `data` must have one shape, theirs is {spec.shape}: use batch(..., "
                    "drop_remainder=True)"
                )
        if dataset.cardinality() == 0:
            raise ValueError("`data` is empty")
        self._iterator = iter(dataset.repeat())
        iterator, spec = self._iterator, self.spec

        def draw(count, rows):
            arrays = [tf.TensorArray(s.dtype, rows, element_shape=s.shape) for s in tf.nest.flatten(spec)]

            def body(i, *arrays):
                batch = tf.nest.flatten(iterator.get_next())
                return (i + 1, *(a.write(i, b) for a, b in zip(arrays, batch, strict=True)))

            _, *arrays = tf.while_loop(lambda i, *_: i < count, body, (0, *arrays), parallel_iterations=1)
            return [a.stack() for a in arrays]

        number = tf.TensorSpec([], tf.int32)
        self._draw = tf.function(draw, autograph=False, input_signature=(number, number))

    @property
    def batch_bytes(self) -> int:
        return sum(math.prod(s.shape) * s.dtype.size for s in tf.nest.flatten(self.spec))

    @property
    def position(self) -> tf.Tensor:
        """Where it stands, a variant."""
        return _compat.position_of_iterator(self._iterator)

    def go_on(self, position: tf.Tensor) -> None:
        """Goes on from a position."""
        _compat.set_position_of_iterator(self._iterator, position)

    def draw(self, count: int, rows: int | None) -> tuple:
        """The next batches, stacked: what each of so many steps is given.

        Args:
          count: how many batches.
          rows: how many rows the tensors are to have, the last of them without meaning; None for `count`.
        """
        stacked = self._draw(tf.constant(count), tf.constant(count if rows is None else rows))
        return (tf.nest.pack_sequence_as(self.spec, stacked),)
