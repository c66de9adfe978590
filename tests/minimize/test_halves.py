"""float16 and bfloat16: parameters and slots are halves, the arithmetic of a step is in float and rounded once.

What stock computes in halves is no reference: it rounds after each operation, and some optimizers do not work at all
(`STOCK_IN_HALVES`). The reference is stock in float64 from the same values, all of them representable in both halves.
The loss is computed in float64, and its gradient rounded to the half, so that the optimizer's own error is what shows.
"""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import fusemin
from tests.support.parity_table import FUSED_ROWS, NUM_STEPS, coupled_loss, float64_stock_steps, new_variables, row_id

MANTISSA_BITS = {"float16": 10, "bfloat16": 7}
SMALLEST_EXPONENT = {"float16": -14, "bfloat16": -126}

# Rows that stock cannot do in a half, and what it does: "stands still" or "diverges".
#
# bfloat16 has no number between 0.996 and 1, so beta_2 = 0.999 is 1. Then 1 - beta_2^t = 0 is a factor of every step.
# TensorFlow 1 keeps beta_2^t in a float32 variable, which becomes less than 1 in bfloat16 after some steps; but
# 1 - beta_2 = 0 keeps the second moment at 0, and the step is divided by epsilon.
STOCK_IN_HALVES = {
    ("keras Adam", "bfloat16"): "stands still",
    ("keras Adam amsgrad", "bfloat16"): "stands still",
    ("tf_keras Adam", "bfloat16"): "stands still",
    ("tf_keras Adam amsgrad", "bfloat16"): "stands still",
    ("tf_keras legacy Adam", "bfloat16"): "stands still",
    ("tf_keras legacy Adam amsgrad", "bfloat16"): "stands still",
    ("tf.compat.v1.train Adam", "bfloat16"): "diverges",
}

# How much farther than stock's a fused trajectory may be from float64 after 200 roundings, in units of the half at the
# largest parameter. Two sequences of roundings differ by chance.
SLACK = 2.0

# How far it may be where stock is of no use. (Momentum in bfloat16, stock and fused, gets as far.)
LIMIT_WITHOUT_STOCK = 20.0

# Of a single step from the same state, in units of the half at the value. Half a unit is exact rounding; the rest is
# the error of float.
ROUNDING_LIMIT = 0.55


def unit(values, dtype):
    """The distance of neighbouring numbers of a half at `values`."""
    exponent = np.floor(np.log2(np.maximum(np.abs(np.float64(values)), 1e-300)))
    return np.exp2(np.maximum(exponent, SMALLEST_EXPONENT[dtype.name]) - MANTISSA_BITS[dtype.name])


def flat(arrays):
    """A row for each step, all variables in it."""
    return np.concatenate([np.float64(np.asarray(a)).reshape(len(a), -1) for a in arrays], axis=1)


def run(minimize, row, dtype):
    """`(losses, parameters, state)` of 200 steps."""
    variables, optimizer = new_variables(dtype), row.new()
    row.check_explained(optimizer, variables)
    losses, parameters = minimize(
        lambda: coupled_loss(variables, tf.float64),
        num_steps=NUM_STEPS,
        optimizer=optimizer,
        trainable_variables=variables,
        trace_fn=lambda q: (q.loss, q.parameters),
    )
    assert all(p.dtype == dtype for p in parameters)
    return losses.numpy(), flat(parameters), row.state(optimizer, variables)


both_halves = pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16], ids=lambda d: d.name)


@both_halves
@pytest.mark.parametrize("row", FUSED_ROWS, ids=row_id)
def test_trajectory_is_no_farther_from_float64_than_that_of_stock(row, dtype, check_difference):
    losses, parameters, state = run(fusemin.minimize, row, dtype)
    stock_losses, stock_parameters, stock_state = run(tfp.math.minimize, row, dtype)
    reference = flat(float64_stock_steps(row).parameters)
    start = flat([v.numpy()[np.newaxis] for v in new_variables(tf.float64)])
    unit_of_largest = unit(np.max(np.abs(reference)), dtype)
    error = np.max(np.abs(parameters - reference)) / unit_of_largest

    stock_does = STOCK_IN_HALVES.get((row.id, dtype.name))
    group = f"{row.id} {dtype.name}, in units"
    if stock_does == "stands still":
        assert np.all(stock_parameters == start)
        assert np.all(stock_losses == stock_losses[0])
        check_difference(group, "trajectory; stock stands still", error, LIMIT_WITHOUT_STOCK)
    elif stock_does == "diverges":
        assert not np.all(np.isfinite(stock_parameters))
        check_difference(group, "trajectory; stock diverges", error, LIMIT_WITHOUT_STOCK)
    else:
        stock_error = np.max(np.abs(stock_parameters - reference)) / unit_of_largest
        assert stock_losses[-1] < 0.2 * stock_losses[0], "stock does not work here: to be named in STOCK_IN_HALVES"
        check_difference(group, f"trajectory; stock by {stock_error:.1f}", error, stock_error + SLACK)
    assert losses[-1] < 0.2 * losses[0]

    # Slots are of the same names and dtypes, and the count of steps is the same.
    assert {name: (v.dtype, v.shape) for name, v in state.items()} == {
        name: (v.dtype, v.shape) for name, v in stock_state.items()
    }
    for name, value in state.items():
        if value.dtype == np.int64:
            assert value == stock_state[name] == NUM_STEPS


@both_halves
@pytest.mark.parametrize("row", FUSED_ROWS, ids=row_id)
def test_step_is_that_of_float64_rounded_once(row, dtype, check_difference):
    """Stock in float64 is given the half's state before every step, and must differ after it by the rounding alone."""
    variables, optimizer = new_variables(dtype), row.new()
    minimizer = fusemin.Minimizer(
        lambda: coupled_loss(variables, tf.float64),
        optimizer,
        trainable_variables=variables,
        trace_fn=lambda q: q.gradients,
    )
    stock, stock_variables = row.new(), new_variables(tf.float64)
    row.family.build(optimizer, variables)
    row.family.build(stock, stock_variables)

    def held(o, v):
        return list(zip(["scalar", "vector", "matrix"], v, strict=True)) + row.family.held(o, v)

    worst = {}
    for _ in range(10):
        for (_, half), (_, wide) in zip(held(optimizer, variables), held(stock, stock_variables), strict=True):
            wide.assign(tf.cast(tf.convert_to_tensor(half), wide.dtype))
        gradients = [tf.cast(g[0], tf.float64) for g in minimizer(1)]
        stock.apply_gradients(list(zip(gradients, stock_variables, strict=True)))
        for (name, half), (_, wide) in zip(held(optimizer, variables), held(stock, stock_variables), strict=True):
            half, wide = tf.convert_to_tensor(half), tf.convert_to_tensor(wide)
            if half.dtype == wide.dtype:  # Counts, learning rate, powers.
                np.testing.assert_allclose(half, wide, rtol=1e-6)
                continue
            assert half.dtype == dtype
            error = np.max(np.abs(np.float64(half) - wide) / unit(wide, dtype))
            worst[name] = np.maximum(worst.get(name, 0.0), error)  # Keeps a NaN.
    assert set(worst) >= {"scalar", "vector", "matrix"}
    for name, error in worst.items():
        check_difference(f"{dtype.name} step, in units", f"{row.id}: {name}", error, ROUNDING_LIMIT)


ADAMS = [row for row in FUSED_ROWS if row.name.startswith("Adam")]


def take_one_step(row, dtype, start, gradient, num_steps=1):
    """`(fused, stock)`: a variable after some steps of a constant gradient."""
    fused, stock = (tf.Variable(start, dtype=dtype, name="x") for _ in range(2))
    direction = tf.constant(gradient, dtype)
    fusemin.minimize(lambda: tf.reduce_sum(fused * direction), num_steps, row.new(), trainable_variables=[fused])
    optimizer = row.new()
    for _ in range(num_steps):
        optimizer.apply_gradients([(direction, stock)])
    return np.float64(fused.numpy()), np.float64(stock.numpy())


@pytest.mark.parametrize("row", ADAMS, ids=row_id)
def test_adam_in_float16_with_gradients_whose_squares_underflow(row):
    """The second moment of a gradient of 1/256 is below float16: stock divides by epsilon, or by 0, and jumps."""
    wide = take_one_step(row, tf.float64, [1.0], [1 / 256])[1]
    fused, stock = take_one_step(row, tf.float16, [1.0], [1 / 256])
    assert not abs(stock - 1.0) < 10.0
    np.testing.assert_allclose(fused, wide, atol=float(unit(1.0, tf.float16)))


@pytest.mark.parametrize("row", [r for r in ADAMS if r.id == "tf.compat.v1.train Adam"], ids=row_id)
def test_adam_of_tensorflow_1_in_float16_with_a_gradient_of_zero(row):
    """Its epsilon of 1e-8 is 0 in float16: stock computes 0 / 0."""
    fused, stock = take_one_step(row, tf.float16, [1.0, 2.0], [0.0, 0.5], num_steps=3)
    assert np.isnan(stock[0])
    assert fused[0] == 1.0
    wide = take_one_step(row, tf.float64, [1.0, 2.0], [0.0, 0.5], num_steps=3)[1]
    np.testing.assert_allclose(fused, wide, atol=float(unit(2.0, tf.float16)))


@both_halves
def test_trace_of_a_loss_in_halves(dtype, check_difference):
    """The loss in the half itself: its trace is of that dtype, its rows belong to the parameters before the step."""
    variables = new_variables(dtype)
    row = FUSED_ROWS[0]
    losses, parameters, gradients = fusemin.minimize(
        lambda: coupled_loss(variables),
        num_steps=NUM_STEPS,
        optimizer=row.new(),
        trainable_variables=variables,
        trace_fn=lambda q: (q.loss, q.parameters, q.gradients),
    )
    assert losses.dtype == dtype
    assert all(t.dtype == dtype for t in parameters + gradients)
    expected = [coupled_loss(new_variables(tf.float64)).numpy()]
    expected += [coupled_loss([p[i] for p in parameters], tf.float64).numpy() for i in range(NUM_STEPS - 1)]
    # About twenty operations, each rounded; the largest intermediate values are as large as the first loss.
    error = np.max(np.abs(np.float64(losses) - expected)) / unit(expected[0], dtype)
    check_difference(f"{dtype.name} loss, in units", "trace of the loss", error, 4.0)
    assert losses[-1] < 0.2 * losses[0]
