"""Rows of a trace of which XLA knows only a bound of the size, compiled: those of the default mode."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin

START = [1.0, -2.0, 3.0]
ROWS = {
    "boolean_mask": lambda x: tf.boolean_mask(x, x > 0.0),
    "where": lambda x: tf.where(x > 0.0),
    "beside others": lambda x: {"mask": tf.boolean_mask(x, x > 0.0), "whole": 2.0 * x, "size": tf.size(x)},
}


def run(row, num_steps, jit_compile, seed=None, **options):
    x = tf.Variable(START)

    def loss_fn(seed=None):
        return tf.reduce_sum(x**2)

    optimizer = keras.optimizers.SGD(0.1, name="sgd")
    return fusemin.minimize(
        loss_fn,
        num_steps,
        optimizer,
        trainable_variables=[x],
        trace_fn=lambda q: (q.loss, row(x)),
        jit_compile=jit_compile,
        seed=seed,
        **options,
    )


def assert_same(compiled, default):
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), compiled, default)
    tf.nest.map_structure(lambda a, b: np.testing.assert_equal(a.shape, b.shape), compiled, default)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("num_steps", [1, 2, 20])
@pytest.mark.parametrize("row", ROWS)
def test_trace(row, num_steps, seed):
    assert_same(run(ROWS[row], num_steps, True, seed), run(ROWS[row], num_steps, False, seed))


@pytest.mark.parametrize("return_full_length_trace", [True, False])
def test_early_exit(return_full_length_trace):
    options = {
        "convergence_criterion": fusemin.LossNotDecreasing(atol=0.5, min_num_steps=5, window_size=3),
        "return_full_length_trace": return_full_length_trace,
    }
    default = run(ROWS["boolean_mask"], 50, False, **options)
    assert (len(default[0]) < 50) != return_full_length_trace
    assert_same(run(ROWS["boolean_mask"], 50, True, **options), default)
