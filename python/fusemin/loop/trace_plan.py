"""Which leaves of a trace the update op writes, and which are written after it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusemin import _build, _compat
from fusemin.loop.placement import host_scope, is_of_host
from fusemin.update.fused_step import TraceSource


def convert_leaf(leaf) -> tf.Tensor:
    """A leaf of what `trace_fn` returned as a tensor. Raises a TypeError if it is none."""
    if leaf is None:
        raise TypeError("`trace_fn` must return tensors, it returned None or a structure that holds None")
    try:
        return tf.convert_to_tensor(leaf)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`trace_fn` must return tensors or a nested structure of them, it returned {leaf!r}"
        ) from error


def _flatten(structure, trace_source) -> tuple[Any, list]:
    """The structure with tensors for leaves, and its flat leaves, each a TraceSource or a tensor."""
    leaves, converted = [], []
    for leaf in tf.nest.flatten(structure):
        source = trace_source(leaf)
        if not _compat.is_composite(leaf):
            leaf = convert_leaf(leaf)
            if not leaf.shape.is_fully_defined():
                # Only TraceRows can allocate a buffer whose row shape the first row tells.
                source = None
        converted.append(leaf)
        leaves.extend([source] if source else tf.nest.flatten(leaf, expand_composites=True))
    return tf.nest.pack_sequence_as(structure, converted), leaves


@dataclasses.dataclass(frozen=True)
class TracePlan:
    """The leaves of a trace.

    Attributes:
      structure: what `trace_fn` returned, with type specs for leaves. Tensors would keep their graph alive.
      leaves: for each leaf a TraceSource, if the update op writes its rows, or a TensorSpec.
      source_specs: for each leaf with a TraceSource its TensorSpec.
      effects: whether `trace_fn` must be called at each step even if the update op writes all rows, since it does more
        than return tensors.
      early: for each other leaf whether it is a number that depends on the loss, the gradients and what was known
        before the step only, and not on the update.
    """

    structure: Any
    leaves: list[TraceSource | tf.TensorSpec]
    source_specs: list[tf.TensorSpec]
    effects: bool = False
    early: tuple[bool, ...] = ()

    @classmethod
    def make(cls, structure, trace_source, effects: bool, is_late: Callable[[tf.Tensor], bool]) -> "TracePlan":
        """The plan for what `trace_fn` returned while it was traced for trial.

        Args:
          structure: what it returned.
          trace_source: function from a leaf to its TraceSource or None.
          effects: see the attribute.
          is_late: function from a tensor to whether it depends on the update.
        """
        converted, leaves = _flatten(structure, trace_source)
        flat = tf.nest.flatten(converted, expand_composites=True)
        specs = [tf.TensorSpec(t.shape, t.dtype) for t in flat]
        plan = [leaf if isinstance(leaf, TraceSource) else spec for leaf, spec in zip(leaves, specs, strict=True)]
        structure = tf.nest.map_structure(tf.type_spec_from_value, converted)
        source_specs = [s for s, leaf in zip(specs, plan, strict=True) if isinstance(leaf, TraceSource)]
        derived = [t for t, leaf in zip(flat, plan, strict=True) if isinstance(leaf, tf.TensorSpec)]
        early = tuple(t.shape.rank == 0 and t.dtype.is_floating and not is_late(t) for t in derived)
        return cls(structure, plan, source_specs, effects, early)

    @property
    def sources(self) -> list[TraceSource]:
        return [leaf for leaf in self.leaves if isinstance(leaf, TraceSource)]

    @property
    def derived_specs(self) -> list[tf.TensorSpec]:
        return [leaf for leaf in self.leaves if isinstance(leaf, tf.TensorSpec)]

    def derived(self, structure) -> list[tf.Tensor]:
        """The leaves that no op has written yet, of what `trace_fn` returned for a step."""
        flat = []
        leaf = iter(self.leaves)
        for value in tf.nest.flatten(structure):
            parts = tf.nest.flatten(value, expand_composites=True) if _compat.is_composite(value) else [value]
            for part in parts:
                if isinstance(next(leaf), tf.TensorSpec):
                    flat.append(tf.convert_to_tensor(part))
        return flat

    def in_order(self, written: list, derived: list) -> list:
        """The leaves in their order, of those that the update op writes and the others."""
        written, derived = iter(written), iter(derived)
        return [next(written if isinstance(leaf, TraceSource) else derived) for leaf in self.leaves]

    def pack(self, leaves: list):
        """The trace in the user's structure, of its leaves in order."""
        return tf.nest.pack_sequence_as(self.structure, leaves, expand_composites=True)


def allocate(spec: tf.TensorSpec, num_steps, zero: bool) -> tf.Tensor:
    """A trace of `num_steps` rows of a spec, its memory uninitialized unless `zero`.

    Where the shape of a row is not known before the first one, TraceRows allocates the memory.
    """
    # Of the rank that the trace will have, if that is known: a loop's gradient is to fit what the loop starts with.
    row_shape = [] if spec.shape.rank is None else [d or 0 for d in spec.shape.as_list()]
    shape = (
        tf.concat([[num_steps], tf.constant(row_shape, tf.int32)], 0)
        if tf.is_tensor(num_steps)
        else [
            num_steps,
            *row_shape,
        ]
    )
    if zero:
        return tf.zeros(shape, spec.dtype)
    with host_scope(spec.dtype):
        return tf.raw_ops.Empty(shape=shape, dtype=spec.dtype, init=False)


def trace_shape(buffer: tf.Tensor, spec: tf.TensorSpec) -> tf.TensorShape:
    """The static shape of a trace while the loop runs."""
    if spec.shape.is_fully_defined():
        return buffer.shape
    # The buffer has no such shape before the first row is written.
    return tf.TensorShape([buffer.shape[0]]).concatenate(spec.shape)


def _scatter_rows(buffer: tf.Tensor, value: tf.Tensor, row, count) -> tf.Tensor:
    """One buffer of `scatter_rows`."""
    row_shape = tf.shape(value)
    if not buffer.shape[1:].is_fully_defined() or not buffer.shape[1:].is_compatible_with(value.shape):
        shape = tf.concat([tf.shape(buffer)[:1], row_shape], 0)
        buffer = tf.cond(tf.equal(row, 0), lambda: tf.zeros(shape, value.dtype), lambda: buffer)
    rows = tf.broadcast_to(value, tf.concat([[count], row_shape], 0))
    return tf.tensor_scatter_nd_update(buffer, (row + tf.range(count))[:, tf.newaxis], rows)


def scatter_rows(buffers, values, row, count=1, row_offset=0) -> list[tf.Tensor]:
    """`write_rows` in ops of TensorFlow."""
    return [
        _scatter_rows(b, tf.convert_to_tensor(v), row + row_offset, count) for b, v in zip(buffers, values, strict=True)
    ]


def write_rows(buffers, values, row, count=1, row_offset=0) -> list[tf.Tensor]:
    """Writes `values` into the rows [row + row_offset, row + row_offset + count) of the buffers, in place."""
    if not buffers:
        return []
    written = list(buffers)
    names = [f"leaf {i}" for i in range(len(buffers))]
    # An op is of one device.
    for of_host in (False, True):
        group = [i for i, buffer in enumerate(buffers) if is_of_host(buffer.dtype) == of_host]
        if not group:
            continue
        with host_scope(buffers[group[0]].dtype):
            new = _build.OPS.fusemin_trace_rows(
                row,
                count,
                [values[i] for i in group],
                [buffers[i] for i in group],
                [names[i] for i in group],
                row_offset=row_offset,
            )
        for i, buffer in zip(group, new, strict=True):
            written[i] = buffer
    return written
