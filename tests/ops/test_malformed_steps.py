"""Raw ops with lists that do not fit each other: an error that names the list, in every mode, and no crash."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin import _build
from fusemin.update.fused_step import float64_bits
from tests.support.fused_step_call import FusedStepCall

ERRORS = (tf.errors.InvalidArgumentError, ValueError)
ROWS = 4


def trace_of_param(**changes):
    return {"buffers": [tf.zeros([ROWS, 3], tf.float64)], "trace_sources": ["param"], "trace_indices": [0], **changes}


def slices(**changes):
    values = [tf.ones([3], tf.float64)]
    return {"gradients": values, "indices": [tf.constant([0, 1, 2])], "sparse": [0], **changes}


def option(name, value, **more):
    return {"option_names": [name], "option_values": float64_bits([value]), **more}


def averages(call):
    return [tf.Variable(p).handle for p in call.params]


HUGE = 2**63 - 2

# Eagerly TensorFlow comes first.
NO_HANDLE = "Empty resource handle|handle of .* must be a scalar"

# Changes of a call with one variable of shape [3]; what the error names.
STEPS = {
    "no names": (lambda c: {"names": []}, "`names`"),
    "too many names": (lambda c: {"names": ["x0", "x1"]}, "`names`"),
    "no trace sources": (lambda c: trace_of_param(trace_sources=[]), "`trace_sources`"),
    "no trace indices": (lambda c: trace_of_param(trace_indices=[]), "`trace_indices`"),
    "too many trace indices": (lambda c: trace_of_param(trace_indices=[0, 0]), "`trace_indices`"),
    "trace index negative": (lambda c: trace_of_param(trace_indices=[-1]), "trace 0"),
    "no buffers": (lambda c: trace_of_param(buffers=[]), "`trace_sources`"),
    "row offset negative": (lambda c: trace_of_param(row_offset=-1), "`row_offset`"),
    "row offset huge": (lambda c: trace_of_param(row_offset=HUGE, row=1), "`row_offset`"),
    "row offset of the last row and more": (lambda c: trace_of_param(row_offset=2**31 - 1, row=2**31 - 1), "rows"),
    "no sparse": (lambda c: slices(sparse=[]), "`sparse`"),
    "no indices": (lambda c: slices(indices=[]), "`sparse`|`indices`"),
    "sparse out of range": (lambda c: slices(sparse=[1]), "`sparse`"),
    "sparse negative": (lambda c: slices(sparse=[-1]), "`sparse`"),
    "sparse twice": (lambda c: slices(indices=[tf.constant([0, 1, 2])] * 2, sparse=[0, 0]), "`sparse`"),
    "no inputs": (lambda c: {"hyperparameters": [tf.constant(0.5)], "inputs": []}, "`inputs`"),
    "too many inputs": (lambda c: {"inputs": [0]}, "`inputs`"),
    "inputs out of range": (lambda c: {"hyperparameters": [tf.constant(0.5)], "inputs": [99]}, "`inputs`"),
    "no constants": (lambda c: {"constants": []}, "`constants`"),
    "no decays": (lambda c: option("weight_decay", 0.5, decays=[]), "`decays`"),
    "too many decays": (lambda c: option("weight_decay", 0.5, decays=[True, False]), "`decays`"),
    "no option values": (lambda c: {"option_names": ["clipnorm"], "option_values": []}, "`option_values`"),
    "no slots": (lambda c: {"slots": []}, "slots"),
    "averages of two": (lambda c: option("ema_momentum", 0.5, averages=averages(c) * 2), "`averages`"),
    "two sums": (lambda c: {"gradient_sums": [tf.zeros([2], tf.float64)] * 2}, "`gradient_sums`"),
    "sums of another shape": (lambda c: {"gradient_sums": [tf.zeros([1], tf.float64)]}, "`gradient_sums`"),
    **{
        f"{steps} accumulated steps": (
            lambda c, steps=steps: option("gradient_accumulation_steps", steps, accumulators=averages(c)),
            "gradient_accumulation_steps",
        )
        for steps in (0.0, 0.5, -2.0, 1e300, float("nan"))
    },
    "overwritten every 0 steps": (
        lambda c: {
            "option_names": ["ema_momentum", "ema_overwrite_frequency"],
            "option_values": float64_bits([0.5, 0.0]),
            "averages": averages(c),
        },
        "ema_overwrite_frequency",
    ),
    "handle of two": (lambda c: {"params": [tf.stack([c.params[0].handle] * 2)]}, "variable 'x0'"),
    "handle of none": (lambda c: {"iterations": [tf.stack([c.iterations.handle])[:0]]}, NO_HANDLE),
    "hyperparameter's handle of none": (
        lambda c: {"hyperparameters": [tf.stack([c.iterations.handle])[:0]], "inputs": [0]},
        NO_HANDLE,
    ),
}

# Arguments of TraceRows that differ from a call that writes one value of shape [3].
ROW_CALLS = {
    "no names": ({"names": []}, "`names`"),
    "too many names": ({"names": ["a", "b"]}, "`names`"),
    "buffer a scalar": ({"buffers": [tf.zeros([])]}, "trace of leaf|rank"),
    "buffer a scalar in row 1": ({"buffers": [tf.zeros([])], "row": 1}, "trace of leaf|rank"),
    "buffer without rows": ({"buffers": [tf.zeros([0, 3])]}, "trace of leaf"),
    "row offset negative": ({"row_offset": -1}, "`row_offset`"),
    "row offset huge": ({"row_offset": HUGE, "row": 1}, "`row_offset`"),
    "count huge": ({"row": 2, "count": 2**31 - 1}, "trace of leaf"),
    "count negative": ({"count": -1}, "trace of leaf"),
    "row a vector": ({"row": [0, 1]}, "`row`"),
    "count a vector": ({"count": [1]}, "`count`"),
    "more elements than a shape has": (
        {"buffers": [tf.zeros([2**40, 0])], "values": [tf.zeros([2**30, 0, 2**30])]},
        "",
    ),
}

EAGER, GRAPH, XLA = "eager", "graph", "XLA"
# What XLA takes for a program that clamps a row, or refuses for a reason of its own.
NOT_IN_XLA = {
    *("row a vector", "count a vector", "count huge", "count negative", "more elements than a shape has"),
    *("row offset of the last row and more", "handle of two", "handle of none", "hyperparameter's handle of none"),
    "two sums",
    "sums of another shape",
}


def run(function, mode):
    if mode != EAGER:
        function = tf.function(function, autograph=False, jit_compile=True if mode == XLA else None)
    function()


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("case", STEPS)
def test_malformed_step(case, mode):
    if mode == XLA and case in NOT_IN_XLA:
        pytest.skip("not a matter of XLA")
    call = FusedStepCall.make(starts=[(1.0, 2.0, 3.0)])
    changes, named = STEPS[case]
    changes = changes(call)
    before = call.state()
    with pytest.raises(ERRORS, match=named):
        # Without traces the op returns itself.
        run(lambda: None if not isinstance(traces := call(**changes), list) else traces, mode)
    for old, new in zip(before, call.state(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("case", ROW_CALLS)
def test_malformed_trace_rows(case, mode):
    if mode == XLA and case in NOT_IN_XLA:
        pytest.skip("not a matter of XLA")
    changes, named = ROW_CALLS[case]
    arguments = {"row": 0, "count": 1, "values": [tf.ones([3])], "buffers": [tf.zeros([ROWS, 3])], "names": ["leaf"]}
    with pytest.raises(ERRORS, match=named):
        run(lambda: _build.OPS.fusemin_trace_rows(**{**arguments, **changes}), mode)
