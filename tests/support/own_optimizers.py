"""Optimizers of no known family, whose own update runs in the loop."""

import tensorflow as tf


class OwnUpdate:
    """Hides an optimizer from fusemin, so that its own update runs."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def apply_gradients(self, grads_and_vars):
        return self._optimizer.apply_gradients(grads_and_vars)


class Descent:
    """Gradient descent by `apply_gradients`, at a learning rate of 1/8."""

    def apply_gradients(self, grads_and_vars):
        for gradient, variable in grads_and_vars:
            variable.assign_sub(0.125 * gradient)


class CountingDescent(Descent):
    """Counts its steps in `iterations`, a variable."""

    def __init__(self):
        self.iterations = tf.Variable(0, dtype=tf.int64)

    def apply_gradients(self, grads_and_vars):
        self.iterations.assign_add(1)
        super().apply_gradients(grads_and_vars)


class PureDescent:
    """Gradient descent for `minimize_stateless`, at a learning rate of 1/8."""

    def init(self, parameters):
        return ()

    def update(self, grads, state, parameters):
        return tf.nest.map_structure(lambda g: -0.125 * g, grads), state
