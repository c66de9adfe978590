"""Gradients of the ops, for a tape or `tf.gradients` around an optimization.

Nothing flows through the update: the new value of a variable is written, not returned, as in stock. What flows is what
the traces hold: a row is a copy of a loss, of a gradient, or of a variable, and its gradient is that of its source.

Each step is differentiated by itself, so nothing here may take time or memory in proportion to the number of steps, but
for the fill at the end.
"""

import tensorflow as tf

from fusemin import _build


def _taken_row(trace_gradient: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradient of a row of a trace, and what is left for the buffer that the trace was before."""
    taken = tf.gather(trace_gradient, row)
    # In place, since nothing else holds the memory once the row is taken.
    with tf.control_dependencies([taken]):
        [left] = _build.OPS.fusemin_trace_rows(row, 1, [tf.zeros_like(taken)], [trace_gradient], ["a gradient"])
    return taken, left


def _taken_rows(trace_gradient: tf.Tensor, row: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As `_taken_row`, for one value that was written to several rows."""
    index = tf.range(tf.shape(trace_gradient)[0])
    written = (index >= row) & (index < row + count)
    written = tf.reshape(written, tf.concat([[-1], tf.ones([tf.rank(trace_gradient) - 1], tf.int32)], 0))
    zeros = tf.zeros_like(trace_gradient)
    return tf.reduce_sum(tf.where(written, trace_gradient, zeros), 0), tf.where(written, zeros, trace_gradient)


def _add(gradients: list, position: int, gradient) -> None:
    gradients[position] = gradient if gradients[position] is None else gradients[position] + gradient


@tf.RegisterGradient("Fusemin>FusedStep")
def _fused_step_gradient(op, *trace_gradients):
    num_params, num_sums = op.get_attr("N"), op.get_attr("G")
    sparse = list(op.get_attr("sparse"))
    num_variables = num_params + sum(op.get_attr(kind) for kind in "SEAKIL")
    indices_at = num_variables + num_params
    row_at = indices_at + len(sparse) + num_sums + len(op.get_attr("hyperparameter_types"))
    buffers_at = len(op.inputs) - len(trace_gradients)
    values_at = buffers_at - len(op.get_attr("value_types"))
    sources = [tf.compat.as_str(source) for source in op.get_attr("trace_sources")]

    gradients = [None] * len(op.inputs)
    row = op.inputs[row_at] + op.get_attr("row_offset")
    for t, (source, index) in enumerate(zip(sources, op.get_attr("trace_indices"), strict=True)):
        if trace_gradients[t] is None:
            continue
        taken, left = _taken_row(tf.convert_to_tensor(trace_gradients[t]), row)
        _add(gradients, buffers_at + t, left)
        if source == "value":
            _add(gradients, values_at + index, taken)
        elif source == "param":
            # As a read of the variable has it.
            _add(gradients, index, taken)
        elif index in sparse:
            # The row is dense.
            slices = op.inputs[indices_at + sparse.index(index)]
            _add(gradients, num_variables + index, tf.gather(taken, slices))
        else:
            _add(gradients, num_variables + index, taken)
    return gradients


@tf.RegisterGradient("Fusemin>TraceRows")
def _trace_rows_gradient(op, *trace_gradients):
    first, count = op.inputs[:2]
    values = [None] * len(trace_gradients)
    buffers = [None] * len(trace_gradients)
    row = first + op.get_attr("row_offset")
    is_one_row = tf.get_static_value(count) == 1
    for i, gradient in enumerate(trace_gradients):
        if gradient is None:
            continue
        gradient = tf.convert_to_tensor(gradient)
        values[i], buffers[i] = _taken_row(gradient, row) if is_one_row else _taken_rows(gradient, row, count)
        buffer = op.inputs[2 + len(trace_gradients) + i]
        if buffer.shape.rank is not None and not buffer.shape.is_compatible_with(gradient.shape):
            # Row 0 gave the trace another shape, so memory of its own.
            buffers[i] = tf.zeros_like(buffer)
    return [None, None, *values, *buffers]


# Their result goes into a FusedStep only, which gives them no gradient.
tf.no_gradient("Fusemin>GradientSums")
