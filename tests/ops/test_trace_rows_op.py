"""The raw op TraceRows: rows of any type and shape, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin import _build

INVALID = tf.errors.InvalidArgumentError
ROWS = 5

# A value, and what a buffer holds elsewhere.
VALUES = {
    "float64 scalar": (np.float64(1.5), 0),
    "float32 matrix": (np.arange(6, dtype=np.float32).reshape(2, 3), -1),
    "bfloat16": (np.array([1.5, 2.5], tf.bfloat16.as_numpy_dtype), 3),
    "int8": (np.array([1, -2], np.int8), 7),
    "uint64": (np.array([2**63], np.uint64), 7),
    "bool": (np.array([True, False]), True),
    "complex128": (np.array([1 + 2j]), 3),
    "string": (np.array([b"short", b"longer than what a string holds in place"], object), b"old"),
    "string scalar": (np.array(b"", object), b"old"),
    "empty": (np.zeros([0, 2]), 0),
    "empty strings": (np.zeros([0], object), b""),
}


def trace_rows(row, count, values, buffers, row_offset=0, names=None):
    names = [f"leaf {i}" for i in range(len(buffers))] if names is None else names
    return _build.OPS.fusemin_trace_rows(row, count, values, buffers, names, row_offset=row_offset)


def filled(value, fill, rows=ROWS):
    return np.full([rows, *np.shape(value)], fill, np.asarray(value).dtype)


# `row`, `row_offset` and `count`.
RANGES = {
    "first": (0, 0, 1),
    "last": (4, 0, 1),
    "by offset": (1, 2, 1),
    "several": (1, 0, 3),
    "several by offset": (0, 3, 2),
    "all": (0, 0, ROWS),
    "none": (2, 0, 0),
    "none at the end": (ROWS, 0, 0),
}


@pytest.mark.parametrize("rows", RANGES)
def test_rows_of_values_of_every_type(rows):
    row, offset, count = RANGES[rows]
    buffers = [filled(value, fill) for value, fill in VALUES.values()]
    tensors = [tf.constant(buffer, tf.string if buffer.dtype == object else None) for buffer in buffers]
    values = [tf.constant(value, tf.string) if value.dtype == object else value for value, _ in VALUES.values()]
    traces = trace_rows(tf.constant(row), tf.constant(count), values, tensors, offset)
    for trace, tensor, buffer, (value, _) in zip(traces, tensors, buffers, VALUES.values(), strict=True):
        # Somebody holds the tensor, so it is not written.
        np.testing.assert_array_equal(tensor, buffer)
        buffer[row + offset : row + offset + count] = value
        np.testing.assert_array_equal(trace, buffer)


@pytest.mark.parametrize(
    "value", [np.arange(6.0).reshape(2, 3), np.array([b"a", b"b"], object)], ids=["float", "string"]
)
@pytest.mark.parametrize("buffer_shape", [[ROWS], [ROWS, 0], [ROWS, 4, 4, 4]], ids=str)
def test_row_0_gives_a_buffer_its_shape(value, buffer_shape):
    dtype = tf.string if value.dtype == object else tf.float64
    buffer = tf.zeros(buffer_shape, dtype)
    [trace] = trace_rows(0, 1, [tf.constant(value, dtype)], [buffer])
    assert trace.shape == [ROWS, *value.shape]
    np.testing.assert_array_equal(trace[0], value)
    [trace] = trace_rows(1, ROWS - 1, [tf.constant(value, dtype)], [trace])
    np.testing.assert_array_equal(trace, np.broadcast_to(value, trace.shape))


def test_row_0_keeps_the_memory_of_a_buffer_that_has_the_shape():
    [trace] = trace_rows(0, 1, [tf.ones([2])], [tf.fill([ROWS, 2], 7.0)])
    np.testing.assert_array_equal(trace[:, 0], [1.0, 7.0, 7.0, 7.0, 7.0])


# Row, count, shapes of the value and the buffer, and parts of the message.
INVALID_CALLS = {
    "after the last row": (ROWS, 1, [2], [ROWS, 2], ["rows 5 to 5", "leaf 0", "5 rows"]),
    "in part after the last row": (3, 3, [2], [ROWS, 2], ["rows 3 to 5", "leaf 0", "5 rows"]),
    "negative row": (-1, 1, [2], [ROWS, 2], ["rows -1", "leaf 0"]),
    "negative count": (1, -1, [2], [ROWS, 2], ["leaf 0"]),
    "no rows": (0, 1, [2], [0, 2], ["leaf 0", "0 rows"]),
    "no rows, of a new shape": (0, 1, [2], [0], ["leaf 0", "0 rows"]),
    "of another length after row 0": (1, 1, [3], [ROWS, 2], ["leaf 0", "[5,2]", "[3]", "the same shape"]),
    "of another rank after row 0": (1, 1, [2, 1], [ROWS, 2], ["leaf 0", "[5,2]", "[2,1]", "the same shape"]),
    "a scalar after row 0": (1, 1, [], [ROWS, 2], ["leaf 0", "[5,2]", "[]", "the same shape"]),
    "a buffer without rows": (0, 1, [], [], ["leaf 0"]),
    "row a vector": ([0], 1, [2], [ROWS, 2], ["`row` and `count` must be scalars"]),
    "count a vector": (0, [1], [2], [ROWS, 2], ["`row` and `count` must be scalars"]),
}


@pytest.mark.parametrize("case", INVALID_CALLS)
def test_invalid_call(case):
    row, count, value_shape, buffer_shape, parts = INVALID_CALLS[case]
    buffer = tf.zeros(buffer_shape)
    with pytest.raises(INVALID) as raised:
        trace_rows(row, count, [tf.ones(value_shape)], [buffer])
    for part in parts:
        assert part in raised.value.message
    np.testing.assert_array_equal(buffer, np.zeros(buffer_shape))


def test_the_message_names_the_trace_at_fault():
    with pytest.raises(INVALID, match="the trace of gradient has shape"):
        trace_rows(1, 1, [1.0, tf.ones([2])], [tf.zeros([ROWS]), tf.zeros([ROWS, 3])], names=["loss", "gradient"])


@pytest.mark.parametrize("names", [[], ["loss"], ["loss", "x", "y"]], ids=len)
def test_every_trace_has_a_name(names):
    with pytest.raises(INVALID, match="`names` must name every trace"):
        trace_rows(0, 1, [1.0, 2.0], [tf.zeros([ROWS])] * 2, names=names)


# Types that hold more than memory can be copied of.
NOT_STACKABLE = {
    "variant": lambda: tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=-1, element_dtype=tf.float32),
    "resource": lambda: tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="fusemin_test_not_stackable"),
}


@pytest.mark.parametrize("dtype", NOT_STACKABLE)
def test_types_that_cannot_be_stacked(dtype):
    value = NOT_STACKABLE[dtype]()
    with pytest.raises(tf.errors.UnimplementedError, match=f"the trace of leaf 1 has dtype {dtype}"):
        trace_rows(0, 1, [1.0, value], [tf.zeros([ROWS]), value])


# Static shapes of the value, the buffer and the trace.
SHAPES = [
    ([2, 3], [5, 2, 3], [5, 2, 3]),
    ([2, 3], [None, 2, 3], [None, 2, 3]),
    ([2, 3], [5], [5, 2, 3]),
    ([2, 3], None, [None, 2, 3]),
    ([2, None], [5], [5, 2, None]),
    ([2, None], [5, 2, 3], [5, 2, None]),
    ([], [None], [None]),
    (None, [5], None),
    (None, None, None),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_static_shapes(shapes):
    value, buffer, expected = shapes
    specs = [tf.TensorSpec(shape, tf.int32) for shape in (value, buffer)]
    function = tf.function(lambda value, buffer: trace_rows(0, 1, [value], [buffer])[0], autograph=False)
    found = function.get_concrete_function(*specs).structured_outputs.shape
    assert found.rank == tf.TensorShape(expected).rank
    assert expected is None or found.as_list() == expected


def test_a_loop_whose_first_step_gives_the_shape():
    """The buffer has no row shape before it, and keeps that of the first step after it."""

    @tf.function(autograph=False)
    def run(value):
        def body(i, buffer):
            [buffer] = trace_rows(i, 1, [value * i], [buffer])
            return i + 1, buffer

        return tf.while_loop(
            lambda i, _: i < ROWS, body, [0, tf.zeros([ROWS], tf.int32)], [tf.TensorShape([]), tf.TensorShape(None)]
        )[1]

    run = run.get_concrete_function(tf.TensorSpec(None, tf.int32))
    for value in (np.int32(3), np.arange(4), np.ones([2, 3])):
        expected = np.multiply.outer(np.arange(ROWS), value)
        np.testing.assert_array_equal(run(tf.constant(value, tf.int32)), expected)
