"""FusedStep, minimize and fuse with their variables on a GPU, against the CPU and against stock."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import families
from tests.support.cuda.gpus import why_no_gpu
from tests.support.optimizer_table import OPTION_ROWS, ROWS
from tests.support.side_by_side import FUSED, STOCK, draw, largest_difference, run

# The arithmetic of a step is the CPU's but for powers and the order of sums, of which a few steps make more.
LIMITS = {"float32": 1e-5, "float64": 1e-12, "float16": 0.02, "bfloat16": 0.1}
NUM_STEPS = 8
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def _make(row):
    return row.make(learning_rate=0.01)


def _draw(row, dtype):
    return draw(families.rule_name(_make(row)), tf.as_dtype(dtype), row.num_variables, NUM_STEPS)


def _cases(rows, dtypes):
    """On a GPU all; on the CPU, where other tests do the same, some, to see that these work."""
    some = [("CPU:0", row, dtypes[0]) for row in rows[::6]]
    all_of_them = [] if why_no_gpu() else [("GPU:0", row, dtype) for row in rows for dtype in dtypes]
    cases = [*some, *all_of_them]
    return [pytest.param(*case, id=f"{case[0]}-{case[1].id}-{case[2]}") for case in cases]


@pytest.mark.parametrize(("device", "row", "dtype"), _cases(ROWS, DTYPES), indirect=["device"])
def test_fused_step_is_that_of_the_cpu(device, row, dtype, record_difference):
    start = _draw(row, dtype)
    here = run(lambda: _make(row), start, tf.as_dtype(dtype), FUSED)
    with tf.device("CPU:0"):
        there = run(lambda: _make(row), start, tf.as_dtype(dtype), FUSED)
    measured, where = largest_difference(here, there, start)
    record_difference(f"{dtype}, {device} and CPU", measured, LIMITS[dtype], f"{row.id} {where}")
    assert dtype in row.unstable or measured <= LIMITS[dtype], f"{where} differs by {measured:.3g}"


@pytest.mark.parametrize(("device", "row", "dtype"), _cases(OPTION_ROWS, ["float32"]), indirect=["device"])
def test_options_are_those_of_stock(device, row, dtype, record_difference):
    start = _draw(row, dtype)
    fused, stock = (run(lambda: _make(row), start, tf.as_dtype(dtype), by) for by in (FUSED, STOCK))
    measured, where = largest_difference(fused, stock, start)
    record_difference(f"float32 options, {device} and stock there", measured, LIMITS["float32"], f"{row.id} {where}")
    assert measured <= LIMITS["float32"], f"{where} differs by {measured:.3g}"


def _loss_of(variables):
    return lambda: tf.add_n([tf.reduce_sum((x - 3.0) ** 2 * float(i + 1)) for i, x in enumerate(variables)])


def _variables():
    rng = np.random.default_rng(0)
    return [tf.Variable(rng.standard_normal(n).astype(np.float32), name=f"x{n}") for n in (1, 5, 1000, 2049)]


@pytest.mark.parametrize("make", [lambda: keras.optimizers.Adam(0.05), lambda: keras.optimizers.SGD(0.01, 0.9)])
def test_minimize_is_a_loop_of_stock(device, make):
    xs, ys = _variables(), _variables()
    trace = fusemin.minimize(
        _loss_of(xs), 20, make(), trainable_variables=xs, trace_fn=lambda q: (q.loss, q.gradients, q.parameters)
    )
    optimizer, losses, loss = make(), [], _loss_of(ys)
    for _ in range(20):
        with tf.GradientTape() as tape:
            losses.append(loss())
        optimizer.apply_gradients(zip(tape.gradient(losses[-1], ys), ys, strict=True))
    np.testing.assert_allclose(trace[0], losses, rtol=1e-4)
    for x, y, rows in zip(xs, ys, trace[2], strict=True):
        assert x.device.endswith(device)
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(rows[-1], x)


def test_explain_names_the_kernel(device):
    row = fusemin.explain(keras.optimizers.Adam(), _variables()).rows[0]
    assert row.kernel == ("CUDA" if device.startswith("GPU") else "CPU")
    assert (row.launches is not None) == device.startswith("GPU")


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "in a function"])
def test_fuse_is_stock(device, graph):
    xs, ys = _variables(), _variables()
    fused, stock = fusemin.fuse(keras.optimizers.Adam(0.05)), keras.optimizers.Adam(0.05)
    fused.build(xs)
    stock.build(ys)
    gradients = [tf.constant(np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)) for x in xs]

    def step():
        fused.apply_gradients(zip(gradients, xs, strict=True))

    take = tf.function(step) if graph else step
    for _ in range(10):
        take()
        stock.apply_gradients(zip(gradients, ys, strict=True))
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert int(fused.iterations) == 10
