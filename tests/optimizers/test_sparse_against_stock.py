"""Sparse gradients: every row of the tables against the optimizer's own update, side by side from the same start."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin import families
from tests.support.optimizer_table import OPTION_ROWS, ROWS
from tests.support.side_by_side import FUSED, STOCK, Runs, Slices, draw, largest_difference, run

NUM_STEPS = 50
FLOAT64_LIMIT = 1e-12
FLOAT32_LIMIT = 2e-6

# Stock divides a sparse gradient by this, and fails.
SPARSE_OPTION_ROWS = [row for row in OPTION_ROWS if "loss_scale_factor" not in row.arguments]

RUNS = Runs()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def draw_for(row, dtype, num_steps, index_dtype=np.int64, seed=0):
    rule = families.rule_name(row.make(learning_rate=0.01))
    return draw(rule, tf.as_dtype(dtype), row.num_variables, num_steps, seed, index_dtype)


@every_row
def test_steps_are_those_of_stock(row, record_difference):
    """In float64 the same; in float32 as near to that as stock is."""
    start = draw_for(row, "float32", NUM_STEPS)
    exact = RUNS.run(row, start, tf.float64, STOCK)
    measured, where = largest_difference(RUNS.run(row, start, tf.float64, FUSED), exact, start)
    record_difference(f"float64 sparse {row.family} {row.optimizer}", measured, FLOAT64_LIMIT, where, 0.0)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}, the limit is {FLOAT64_LIMIT}"
    stock, _ = largest_difference(RUNS.run(row, start, tf.float32, STOCK), exact, start)
    measured, where = largest_difference(RUNS.run(row, start, tf.float32, FUSED), exact, start)
    limit = max(FLOAT32_LIMIT, stock)
    record_difference(f"float32 sparse {row.family} {row.optimizer}", measured, limit, where, stock)
    assert measured <= limit, f"{where} is off by {measured:.3g}, stock by {stock:.3g}"


@pytest.mark.parametrize("row", SPARSE_OPTION_ROWS, ids=lambda row: row.id)
def test_options_are_those_of_stock(row, record_difference):
    start = draw_for(row, "float64", NUM_STEPS, np.int32)
    fused, stock = (run(lambda: row.make(learning_rate=0.01), start, tf.float64, by) for by in (FUSED, STOCK))
    measured, where = largest_difference(fused, stock, start)
    record_difference(f"float64 sparse options {row.family} {row.optimizer}", measured, FLOAT64_LIMIT, where, 0.0)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}, the limit is {FLOAT64_LIMIT}"


@pytest.mark.parametrize("row", [row for row in ROWS if not row.arguments], ids=lambda row: row.id)
def test_stock_and_fused_steps_can_take_turns(row):
    """Each leaves what the other goes on from."""
    start = draw_for(row, "float64", num_steps=9)
    turns = run(lambda: row.make(learning_rate=0.01), start, tf.float64, lambda step: step % 3 != 1)
    stock = RUNS.run(row, start, tf.float64, STOCK)
    measured, where = largest_difference(turns, stock, start)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}"


# Keras divides slices by a dense tensor with NaN in a union of rows. That fails where a row has several slices, or
# none has, and gives the slices to the wrong rows where they are not in order.
_NEEDS_ORDER = {("keras", name) for name in ("RMSprop", "Adagrad", "Adadelta")}
# An infinite norm becomes NaN in stock where the row has a slice, and stays infinite where it has none.
_OTHER_NORM = {("tf_keras", "Adamax")}


@every_row
def test_non_finite_gradients_spread_as_in_stock(row):
    """Also where they meet in one row."""
    start = draw_for(row, "float32", num_steps=3)
    row_is = (row.family, row.optimizer)
    for step in start.gradients:
        for gradient in step:
            if row_is in _NEEDS_ORDER and isinstance(gradient, Slices):
                gradient.indices, first = np.unique(gradient.indices, return_index=True)
                gradient.values = gradient.values[first]
    slices = start.gradients[1][0]
    slices.indices = np.array([1, 2, 3, 4] if row_is in _NEEDS_ORDER else [2, 4, 4, 1], slices.indices.dtype)
    slices.values = np.resize(draw_for(row, "float32", 1, seed=1).gradients[0][0].values, (4, 5))
    for number, at in [(np.nan, 0), (np.inf, 1), (-np.inf, 2)]:
        slices.values[at, at] = number
    fused, stock = (RUNS.run(row, start, tf.float32, by) for by in (FUSED, STOCK))
    for name, value in stock.items():
        if row_is in _OTHER_NORM and name.startswith("norm"):
            continue
        np.testing.assert_array_equal(np.isnan(fused[name]), np.isnan(value), name)
        infinite = np.isinf(fused[name]) | np.isinf(value)
        np.testing.assert_array_equal(fused[name][infinite], value[infinite], name)
