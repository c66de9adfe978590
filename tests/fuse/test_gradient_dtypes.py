"""Gradients of another dtype than their variable, which abort the process in the optimizers of TensorFlow 1."""

import numpy as np
import pytest
import tensorflow as tf

import fusemin

OPTIMIZERS = {
    "GradientDescent": lambda: tf.compat.v1.train.GradientDescentOptimizer(0.5),
    "Momentum": lambda: tf.compat.v1.train.MomentumOptimizer(0.5, 0.9),
    "Adam": lambda: tf.compat.v1.train.AdamOptimizer(0.5),
    # Has no fused rule, so `fuse` leaves it as it is, but `minimize` does not.
    "fallback": lambda: tf.compat.v1.train.ProximalGradientDescentOptimizer(0.5),
}

GRADIENTS = {
    "dense": lambda: tf.constant([1.0, 2.0], tf.float64),
    "array": lambda: np.array([1.0, 2.0]),
    "half": lambda: tf.constant([1.0, 2.0], tf.float16),
    "integers": lambda: [1, 2],
    "sparse": lambda: tf.IndexedSlices(tf.constant([1.0], tf.float64), tf.constant([0]), tf.constant([2])),
}


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"fallback"}))
def test_gradient_of_another_dtype(name, gradient, in_graph):
    w, x = tf.Variable([3.0, 4.0], name="w"), tf.Variable([1.0, 2.0], name="weights")
    optimizer = fusemin.fuse(OPTIMIZERS[name]())

    def step():
        optimizer.apply_gradients([(tf.ones([2]), w), (GRADIENTS[gradient](), x)])

    with pytest.raises(TypeError, match=r"gradient of variable 'weights:0' is of \w+, the variable is of float32"):
        (tf.function(step, autograph=False) if in_graph else step)()
    np.testing.assert_array_equal(w, [3.0, 4.0])
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_what_stock_takes_is_taken():
    x, y = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    optimizer = fusemin.fuse(OPTIMIZERS["GradientDescent"]())
    optimizer.apply_gradients([(np.ones([2], np.float32), x), (None, y)])
    np.testing.assert_array_equal(x, [0.5, 1.5])
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradient_of_another_dtype_in_minimize(name):
    x = tf.Variable([1.0, 2.0], name="weights")

    @tf.custom_gradient
    def loss(value):
        return tf.reduce_sum(value), lambda upstream: tf.ones([2], tf.float64)

    with pytest.raises(TypeError, match="gradient of variable 'weights:0' is of float64"):
        fusemin.minimize(lambda: loss(x.value()), 2, OPTIMIZERS[name]())
    np.testing.assert_array_equal(x, [1.0, 2.0])
