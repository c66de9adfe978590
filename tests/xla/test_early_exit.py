"""A loop that is left early takes no longer than one that is as short."""

import statistics
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from tests.support.compiled_steps import ConvergedAt

LAST_STEP = 34
MANY = 100_000


def fit(num_steps, criterion=None):
    x = tf.Variable([1.0, 2.0])
    minimizer = fusemin.Minimizer(
        lambda: tf.reduce_sum((x - 3.0) ** 2),
        keras.optimizers.Adam(0.1),
        trainable_variables=[x],
        convergence_criterion=criterion,
        trace_fn=lambda q: (q.loss, q.parameters, q.loss * 2),
        jit_compile=True,
    )
    return lambda: minimizer(num_steps)


def seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def test_the_rest_of_the_trace_repeats_the_last_row():
    trace = tf.nest.flatten(fit(MANY, ConvergedAt(LAST_STEP))())
    short = tf.nest.flatten(fit(LAST_STEP + 1)())
    for full, start in zip(trace, short, strict=True):
        assert full.shape[0] == MANY
        np.testing.assert_allclose(full[: LAST_STEP + 1], start, rtol=1e-6)
        np.testing.assert_array_equal(full[LAST_STEP:], np.broadcast_to(full[LAST_STEP], full[LAST_STEP:].shape))


@pytest.mark.parametrize("factor", [20])
def test_the_time_is_that_of_the_steps_taken(factor):
    """With much room: the fill of 100,000 rows of the trace is part of it, 50 steps take some 100 us."""
    early, short, full = fit(MANY, ConvergedAt(LAST_STEP)), fit(50), fit(MANY)
    for function in (early, short, full):
        function()  # Compiles.
    times = [[seconds(function) for function in (early, short, full)] for _ in range(15)]
    early_time, short_time, full_time = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"35 of {MANY} steps {early_time * 1e6:.0f} us, 50 steps {short_time * 1e6:.0f} us, all {full_time * 1e6:.0f}"
    )
    assert early_time < factor * short_time
    assert early_time < full_time
