"""What the tests of the loop share: a quadratic, whose run by gradient descent is known in closed form; comparisons.

`run_program` is for what has to be set before TensorFlow starts.
"""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import fusemin

ROOT = pathlib.Path(__file__).parents[2]
TARGET = 3.0
START = (1.0, 2.0)
# A float32 holds it exactly, which is what many optimizers make of it first.
LEARNING_RATE = 0.125


def gradient_descent(learning_rate=LEARNING_RATE):
    """The plainest fused optimizer, so that a wrong row is a wrong row and not a matter of an update rule."""
    return tf_keras.optimizers.legacy.SGD(learning_rate)


def quadratic(x):
    return tf.reduce_sum((x - TARGET) ** 2)


def gradient_descent_run(num_steps, start=START, learning_rate=LEARNING_RATE):
    """`(losses, gradients, parameters)` of the quadratic, a row for each step, in float64.

    Each step multiplies the distance to the target by 1 - 2 learning_rate.
    """
    distances = (np.array(start) - TARGET) * ((1 - 2 * learning_rate) ** np.arange(num_steps + 1))[:, np.newaxis]
    return (distances[:-1] ** 2).sum(-1), 2 * distances[:-1], TARGET + distances[1:]


def to_numpy(structure):
    return tf.nest.map_structure(np.asarray, structure)


def assert_same(got, want, rtol=0.0):
    """Both structures are the same, with arrays of one shape, equal within `rtol`; strings and so on are equal."""
    tf.nest.assert_same_structure(got, want)
    for i, (a, b) in enumerate(zip(tf.nest.flatten(to_numpy(got)), tf.nest.flatten(to_numpy(want)), strict=True)):
        assert a.shape == b.shape, f"leaf {i}"
        if np.issubdtype(b.dtype, np.floating):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=0.0, err_msg=f"leaf {i}")
        else:
            np.testing.assert_array_equal(a, b, err_msg=f"leaf {i}")


@dataclasses.dataclass
class Problem:
    """A variable and its optimizer. Every `minimize` continues where the one before ended."""

    variable: Any
    optimizer: Any

    @classmethod
    def make(cls, make_optimizer=gradient_descent, dtype=tf.float64):
        return cls(tf.Variable(START, dtype=dtype, name="x"), make_optimizer())

    def loss(self):
        return quadratic(self.variable)

    def trace(self, quantities):
        """One leaf of each kind: copied by the update op, read from the variable, derived, and counted."""
        return {
            "loss": quantities.loss,
            "gradients": quantities.gradients,
            "parameters": quantities.parameters,
            "x": self.variable,
            "read": tf.identity(self.variable),
            "derived": quadratic(self.variable),
            "step": quantities.step,
        }

    def minimize(self, num_steps, **options):
        options = {"trainable_variables": [self.variable], "trace_fn": self.trace, **options}
        return fusemin.minimize(self.loss, num_steps, self.optimizer, **options)


@contextlib.contextmanager
def functions_run_eagerly():
    """Within it, `tf.function` runs its function as it is."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def run_program(text, *arguments, **environment):
    """Runs a program in a process of its own, from the repository's folder. Returns what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout
