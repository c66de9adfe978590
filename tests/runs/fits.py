"""A small fit for the tests of runs."""

import keras
import numpy as np
import tensorflow as tf

import fusemin


class Fit:
    """A loss of two variables, and an optimizer with slots.

    Args:
      optimizer: by default Adam.
      uses_seed: whether the loss has random numbers.
    """

    def __init__(self, optimizer=None, uses_seed=False, dtype=tf.float32):
        self.variables = [
            tf.Variable(tf.linspace(tf.constant(-1.0, dtype), 2.0, 3), name="x"),
            tf.Variable(tf.constant(0.5, dtype), name="y"),
        ]
        self.optimizer = optimizer or keras.optimizers.Adam(0.1, name="adam")
        self.uses_seed = uses_seed

    def loss(self, seed=None):
        x, y = self.variables
        noise = tf.random.stateless_normal([], seed, dtype=x.dtype) if self.uses_seed else 0.0
        return tf.reduce_sum((x - y) ** 2 + tf.cos(x)) + (y - 2.0 + 0.1 * noise) ** 2

    def minimizer(self, **keywords) -> fusemin.Minimizer:
        return fusemin.Minimizer(self.loss, self.optimizer, trainable_variables=self.variables, **keywords)

    def state(self) -> list[np.ndarray]:
        """Variables, slots, iterations and learning rate."""
        variables = self.optimizer.variables
        variables = variables() if callable(variables) else variables
        return [v.numpy() for v in self.variables] + [np.asarray(v) for v in variables]


def assert_same(a, b):
    """Structures are equal to the bit."""
    tf.nest.map_structure(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)
