"""Every row of the table against the optimizer's own `apply_gradients`, side by side from the same random start."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin import families
from fusemin.update.plan import plan
from tests.support.optimizer_table import ROWS, STOCK_LIMITS
from tests.support.side_by_side import FUSED, STOCK, Runs, draw, largest_difference, run

NUM_STEPS = 50
FLOAT64_LIMIT = 1e-12
FLOAT32_LIMIT = 2e-6
# One unit in the last place.
HALF_ULP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}

RUNS = Runs()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def draw_for(row, dtype, num_steps):
    rule = families.rule_name(row.make(learning_rate=0.01))
    return draw(rule, tf.as_dtype(dtype), row.num_variables, num_steps)


@every_row
def test_float64_is_the_same_as_stock(row, record_difference):
    start = draw_for(row, "float64", NUM_STEPS)
    fused, stock = (RUNS.run(row, start, tf.float64, by) for by in (FUSED, STOCK))
    measured, where = largest_difference(fused, stock, start)
    record_difference(f"float64 {row.family} {row.optimizer}", measured, FLOAT64_LIMIT, where, 0.0)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}, the limit is {FLOAT64_LIMIT}"


@every_row
@pytest.mark.parametrize("dtype", STOCK_LIMITS)
def test_lower_precision_is_no_worse_than_stock(row, dtype, record_difference):
    """As near to what stock computes in float64 from the same start as stock comes in this dtype."""
    start = draw_for(row, dtype, NUM_STEPS)
    exact = RUNS.run(row, start, tf.float64, STOCK)
    measured, where = largest_difference(RUNS.run(row, start, tf.as_dtype(dtype), FUSED), exact, start)
    if dtype in row.no_kernel:
        with pytest.raises(tf.errors.InvalidArgumentError, match="No OpKernel was registered"):
            RUNS.run(row, start, tf.as_dtype(dtype), STOCK)
        stock, limit = np.nan, STOCK_LIMITS[dtype]
    else:
        stock, stock_where = largest_difference(RUNS.run(row, start, tf.as_dtype(dtype), STOCK), exact, start)
        assert stock <= STOCK_LIMITS[dtype] or dtype in row.unstable, f"stock is off by {stock:.3g} in {stock_where}"
        limit = max(FLOAT32_LIMIT, stock) if dtype == "float32" else stock + HALF_ULP[dtype]
    record_difference(f"{dtype} {row.family} {row.optimizer}", measured, limit, where, stock)
    assert measured <= limit, f"{where} is off by {measured:.3g}, the limit is {limit:.3g}, stock is off by {stock:.3g}"


@every_row
def test_stock_and_fused_steps_can_take_turns(row):
    """Each leaves what the other goes on from."""
    start = draw_for(row, "float64", num_steps=9)
    turns = run(lambda: row.make(learning_rate=0.01), start, tf.float64, lambda step: step % 3 != 1)
    stock = RUNS.run(row, start, tf.float64, STOCK)
    measured, where = largest_difference(turns, stock, start)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}"


@every_row
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_non_finite_gradients_spread_as_in_stock(row, dtype):
    start = draw_for(row, dtype, num_steps=4)
    for number, at in [(np.nan, 3), (np.inf, 5), (-np.inf, 6)]:
        start.gradients[1][0].reshape(-1)[at] = number
    fused, stock = (RUNS.run(row, start, tf.as_dtype(dtype), by) for by in (FUSED, STOCK))
    for name, value in stock.items():
        np.testing.assert_array_equal(np.isnan(fused[name]), np.isnan(value), name)
        infinite = np.isinf(fused[name]) | np.isinf(value)
        np.testing.assert_array_equal(fused[name][infinite], value[infinite], name)


def trace(optimizer, variables):
    """Creates what stock creates at its first step, but takes no step."""

    @tf.function(autograph=False)
    def step():
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])

    step.get_concrete_function()


@every_row
def test_slots_begin_as_stock_begins_them(row):
    """Before the first step: the same variables, of the same shapes and values."""
    values = []
    for by_stock in (False, True):
        variables = [tf.Variable(tf.ones(shape, tf.float64)) for shape in [(2, 3), ()][: row.num_variables]]
        optimizer = row.make(learning_rate=0.0)
        if by_stock:
            trace(optimizer, variables)
        else:
            plan(optimizer, variables).bind()
        update = plan(optimizer, variables).bind()
        state = optimizer.variables
        state = state() if callable(state) else state
        values.append(
            [np.asarray(v) for v in state]
            + [s.numpy() for slots in update.slots for s in slots]
            + [s.numpy() for s in update.scalars]
        )
    for bound, stock in zip(*values, strict=True):
        assert bound.dtype == stock.dtype
        np.testing.assert_array_equal(bound, stock)
