"""What the tests of `fuse` share: a loop whose every step is the optimizer's own."""

import contextlib
import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import tensorflow as tf


def to_numpy(value) -> np.ndarray:
    """A copy of a tensor, variable or array."""
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def variables_of(optimizer) -> list:
    held = optimizer.variables
    return list(held() if callable(held) else held)


class Loop:
    """Two variables of two dtypes that an optimizer drives to the minimum of a quartic.

    `take(n)` takes n steps, each a call of `optimizer.apply_gradients`, in a `tf.function` if `in_graph`.
    """

    def __init__(self, optimizer, in_graph=False):
        self.optimizer = optimizer
        self.variables = [
            tf.Variable([[1.0, -2.0], [0.5, 3.0]], name="x"),
            tf.Variable([1.5, -0.25, 2.0], dtype=tf.float64, name="y"),
        ]
        self.step = tf.function(self.step_as_is) if in_graph else self.step_as_is

    def gradients(self):
        x, y = self.variables
        with tf.GradientTape() as tape:
            loss = tf.cast(tf.reduce_sum(x**2) + 0.1 * tf.reduce_sum(x**4), tf.float64) + tf.reduce_sum((y - 1) ** 4)
        return tape.gradient(loss, self.variables)

    def step_as_is(self):
        self.optimizer.apply_gradients(list(zip(self.gradients(), self.variables, strict=True)))

    def take(self, num_steps):
        for _ in range(num_steps):
            self.step()
        return self

    def values(self) -> list[np.ndarray]:
        """The variables, and all that the optimizer holds."""
        return [to_numpy(v) for v in [*self.variables, *variables_of(self.optimizer)]]


class Lookup(Loop):
    """An embedding and a vector that is looked up too, of two dtypes, with sparse gradients, and a dense variable."""

    def __init__(self, optimizer, in_graph=False, index_dtype=tf.int32):
        self.optimizer = optimizer
        self.table = tf.Variable(tf.reshape(tf.range(24, dtype=tf.float32) / 8 - 1, [8, 3]), name="table")
        self.vector = tf.Variable(tf.range(8, dtype=tf.float64) / 4, name="vector")
        self.dense = tf.Variable([1.0, -2.0, 0.5], name="dense")
        self.variables = [self.table, self.vector, self.dense]
        self.indices = tf.constant([2, 0, 2, 5, 2], index_dtype)
        self.step = tf.function(self.step_as_is) if in_graph else self.step_as_is

    def gradients(self):
        with tf.GradientTape() as tape:
            rows = tf.gather(self.table, self.indices) * self.dense
            picked = tf.gather(self.vector, self.indices[:2])
            loss = tf.reduce_sum(rows**2) + tf.cast(tf.reduce_sum((picked - 1) ** 2), tf.float32)
        gradients = tape.gradient(loss, self.variables)
        assert [isinstance(g, tf.IndexedSlices) for g in gradients] == [True, True, False]
        return gradients


def assert_same(got, want):
    """Two lists of arrays are the same to the bit. Stock and the rules do the same operations in the same order."""
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b), err_msg=f"array {i}")


def assert_close(got, want, rtol=1e-5):
    """As `assert_same`, within a rounding or two of float32, where two graphs are compiled differently."""
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=rtol, atol=1e-6, err_msg=f"array {i}")


class Log(list):
    """Messages of the debug log."""

    @property
    def fused(self) -> bool:
        return any(" in one op" in message for message in self)

    @property
    def reasons(self) -> list[str]:
        return [message.split(": ", 1)[1] for message in self if "takes its own step: " in message]


@contextlib.contextmanager
def debug_log():
    """Collects what fusemin logs."""
    logger, log = logging.getLogger("fusemin"), Log()
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield log
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


_WITHOUT_FUSEMIN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "fusemin":
            raise ImportError("fusemin is not installed")

sys.meta_path.insert(0, Refuse())
try:
    import fusemin
except ImportError:
    pass
else:
    raise AssertionError("fusemin can be imported")
"""


def run_without_fusemin(program, *arguments):
    """Runs a program in a process where `import fusemin` fails. Fails with its output if it does."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_FUSEMIN + textwrap.dedent(program), *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
