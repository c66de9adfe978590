"""The op FusedStep with sparse gradients: what it computes, what it refuses, and that a refusal writes nothing."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.fused_step_call import FusedStepCall

INVALID = tf.errors.InvalidArgumentError
STARTS = ((1.0, 2.0, 3.0), ((4.0, 5.0), (6.0, 7.0), (8.0, 9.0)))


def new_call(**changes):
    """Plain gradient descent at a rate of 1/2, where the gradient of x1 is slices of the rows 2, 0 and 2."""
    call = FusedStepCall.make("sgd", STARTS)
    call.arguments["gradients"][1] = tf.constant([[2.0, 4.0], [6.0, 8.0], [10.0, 12.0]], tf.float64)
    call.arguments |= {"sparse": [1], "indices": [tf.constant([2, 0, 2])], "sparse_rows": "touched", **changes}
    return call


@pytest.mark.parametrize("rows", ["every", "slots_of_every", "touched"])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_slices_of_a_row_are_added(rows, dtype):
    call = new_call(indices=[tf.constant([2, 0, 2], dtype)], sparse_rows=rows)
    call()
    np.testing.assert_array_equal(call.params[0], [-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(call.params[1], [[1.0, 1.0], [6.0, 7.0], [2.0, 1.0]])


@pytest.mark.parametrize("rows", ["every", "touched"])
def test_rows_are_kept_where_somebody_reads_the_variable(rows):
    """Then the step writes another buffer, to which rows without slices must be copied."""
    call = new_call(sparse_rows=rows)
    held = call.params[1].read_value()
    call()
    np.testing.assert_array_equal(call.params[1], [[1.0, 1.0], [6.0, 7.0], [2.0, 1.0]])
    np.testing.assert_array_equal(held, STARTS[1])


def test_what_was_read_after_a_gather_stays():
    """A gather puts the variable into copy-on-read mode for good, where the step writes it in place."""
    call = new_call()
    tf.gather(call.params[1], [0])
    held = call.params[1].read_value()
    call()
    np.testing.assert_array_equal(call.params[1], [[1.0, 1.0], [6.0, 7.0], [2.0, 1.0]])
    np.testing.assert_array_equal(held, STARTS[1])


def test_traces_are_dense():
    """Also a second row of the same gradient, which is a copy."""
    buffers = [tf.zeros([2, 3, 2], tf.float64) for _ in range(3)]
    sources = {"trace_sources": ["gradient", "param", "gradient"], "trace_indices": [1, 1, 1]}
    gradient, param, again = new_call()(buffers=buffers, row=1, **sources)
    np.testing.assert_array_equal(gradient[1], [[6.0, 8.0], [0.0, 0.0], [12.0, 16.0]])
    np.testing.assert_array_equal(again, gradient)
    np.testing.assert_array_equal(param[1], [[1.0, 1.0], [6.0, 7.0], [2.0, 1.0]])


INVALID_CALLS = {
    "index too large": (
        {"indices": [tf.constant([2, 3, 1])]},
        ["sparse gradient of variable 'x1'", "index 3 at position 1", "3 rows"],
    ),
    "negative index": ({"indices": [tf.constant([0, 1, -1], tf.int64)]}, ["'x1'", "index -1 at position 2"]),
    "too few indices": ({"indices": [tf.constant([0, 1])]}, ["'x1'", "[3,2]", "indices of shape [2]", "[3,2]"]),
    "a matrix of indices": ({"indices": [tf.constant([[0], [1], [2]])]}, ["'x1'", "indices of shape [3,1]"]),
    "no indices": ({"indices": []}, ["`indices` must be one tensor for each of `sparse`"]),
    "an unknown parameter": ({"sparse": [2]}, ["`sparse` must be positions of parameters"]),
    "sums of another length": (
        {"gradient_sums": [tf.zeros([3], tf.float64)]},
        ["`gradient_sums` must be the result of GradientSums"],
    ),
}


@pytest.mark.parametrize("case", INVALID_CALLS)
def test_invalid_call(case):
    changes, parts = INVALID_CALLS[case]
    call = new_call(**changes)
    before = call.state()
    with pytest.raises(INVALID) as raised:
        call()
    for part in parts:
        assert part in raised.value.message
    for old, new in zip(before, call.state(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_slices_of_another_shape():
    call = new_call()
    call.arguments["gradients"][1] = tf.zeros([3, 3], tf.float64)
    with pytest.raises(INVALID, match=r"'x1'.*slices of shape \[3,3\]"):
        call()
    function = tf.function(lambda: call(), autograph=False)
    with pytest.raises(ValueError, match=r"slices of the gradient of variable 'x1' have shape \[3,3\]"):
        function.get_concrete_function()


def test_slices_of_a_scalar():
    call = FusedStepCall.make("sgd", (1.0,))
    call.arguments["gradients"] = [tf.zeros([2], tf.float64)]
    with pytest.raises(INVALID, match=r"sparse gradient of variable 'x0'"):
        call(sparse=[0], indices=[tf.constant([0, 0])])


def test_a_rule_with_a_trust_ratio_takes_every_row():
    call = FusedStepCall.make("lamb", STARTS)
    with pytest.raises(INVALID, match="trust ratio"):
        call(sparse_rows="touched")
