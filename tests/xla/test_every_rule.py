"""Every row of the table of optimizers, compiled by XLA, against the default mode and against stock under XLA."""

import functools
import itertools

import pytest
import tensorflow as tf

from fusemin import families
from tests.support.compiled_steps import FORMS, run_all
from tests.support.optimizer_table import OPTION_ROWS, ROWS
from tests.support.side_by_side import draw, largest_difference

NUM_STEPS = 12
# XLA contracts multiply-adds, which the op in its default mode does not: "to rounding".
FLOAT64_LIMIT = 1e-13
# In units in the last place of the type.
LOWER = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
ROWS_OF_A_FUNCTION = 12
# Of smaller arrays no loops are made.
SHAPES = [(20, 30), (), (520,)]

# XLA has no kernel for the update of legacy Adam with amsgrad: there only the fused step compiles.
STOCK_DOES_NOT_COMPILE = {"amsgrad_kernel"}

ALL = ROWS + OPTION_ROWS
CHUNKS = [ALL[i : i + ROWS_OF_A_FUNCTION] for i in range(0, len(ALL), ROWS_OF_A_FUNCTION)]


def rule(row):
    return families.rule_name(row.make(learning_rate=0.01))


def draw_for(row, dtype):
    return draw(rule(row), dtype, row.num_variables, NUM_STEPS, shapes=SHAPES)


def one_of_each_rule():
    """Two optimizers of the same rule differ in numbers only."""
    rows = {}
    for row in ROWS:
        rows.setdefault(rule(row), row)
    return list(rows.values())


def compare(got, expected, rows, starts, group, limit, check_difference):
    for row, start, a, b in zip(rows, starts, got, expected, strict=True):
        measured, where = largest_difference(a, b, start)
        check_difference(group, f"{row.id}: {where}", measured, limit)


@pytest.mark.parametrize("rows", CHUNKS, ids=lambda rows: rows[0].id)
def test_float64_is_the_same_as_the_default_mode_and_as_stock_under_xla(rows, check_difference):
    starts = [draw_for(row, tf.float64) for row in rows]
    expected = run_all(rows, starts, tf.float64, fused=True, jit_compile=False)
    by_form = {form: run_all(rows, starts, tf.float64, fused=True, jit_compile=True, form=form) for form in FORMS}
    for form, got in by_form.items():
        limit = 0.0 if form == "call" else FLOAT64_LIMIT  # A call is of the same kernels.
        compare(got, expected, rows, starts, f"xla {form}, default mode, float64", limit, check_difference)
    compiles = [rule(row) not in STOCK_DOES_NOT_COMPILE for row in rows]
    rows, starts, got = ([*itertools.compress(of_all, compiles)] for of_all in (rows, starts, by_form["hlo"]))
    stock = run_all(rows, starts, tf.float64, fused=False, jit_compile=True)
    compare(got, stock, rows, starts, "xla hlo, stock under xla, float64", FLOAT64_LIMIT, check_difference)


@functools.cache
def default_mode(dtype):
    """Of one row for each rule: the rows, their starts, and the states after all steps."""
    rows = [row for row in one_of_each_rule() if dtype.name not in row.unstable]
    starts = [draw_for(row, dtype) for row in rows]
    return rows, starts, run_all(rows, starts, dtype, fused=True, jit_compile=False)


@pytest.mark.parametrize("dtype", LOWER)
@pytest.mark.parametrize("form", FORMS)
def test_lower_precision_is_the_same_as_the_default_mode(dtype, form, check_difference):
    dtype = tf.as_dtype(dtype)
    rows, starts, expected = default_mode(dtype)
    got = run_all(rows, starts, dtype, fused=True, jit_compile=True, form=form)
    limit = 0.0 if form == "call" else 8 * LOWER[dtype.name]
    compare(got, expected, rows, starts, f"xla {form}, default mode, {dtype.name}", limit, check_difference)
