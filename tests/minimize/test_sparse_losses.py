"""Losses with sparse gradients: the loop, its traces, and the memory that it takes."""

import keras
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.minimize_runs import assert_same, run_program
from tests.support.own_optimizers import OwnUpdate

ADAMS = {
    "keras": keras.optimizers.Adam,
    "tf_keras": tf_keras.optimizers.Adam,
    "tf_keras legacy": tf_keras.optimizers.legacy.Adam,
    "tf.compat.v1.train": tf.compat.v1.train.AdamOptimizer,
}
INDICES = [2, 0, 2, 5, 2]


def minimize(optimizer, run, indices=INDICES):
    """A trace of everything of 7 steps on a table that is looked up, and another variable."""
    table = tf.Variable(tf.reshape(tf.range(24, dtype=tf.float64) / 8 - 1, [8, 3]), name="table")
    bias = tf.Variable([1.0, -2.0, 0.5], dtype=tf.float64, name="bias")

    def loss():
        return tf.reduce_sum((tf.gather(table, tf.constant(indices, tf.int64)) + bias) ** 2)

    def trace(q):
        # The gradient of the table twice: the op writes one row, and copies it.
        return q.loss, q.gradients, q.parameters, q.gradients[0], tf.reduce_sum(q.gradients[0])

    return run(loss, optimizer, [table, bias], trace)


def by_minimize(loss, optimizer, variables, trace):
    return fusemin.minimize(loss, 7, optimizer, trainable_variables=variables, trace_fn=trace)


def by_minimizer(loss, optimizer, variables, trace):
    minimizer = fusemin.Minimizer(loss, optimizer, trainable_variables=variables, trace_fn=trace)
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), minimizer(3), minimizer(4))


@pytest.mark.parametrize("family", ADAMS)
@pytest.mark.parametrize("run", [by_minimize, by_minimizer])
@pytest.mark.parametrize("indices", [INDICES, []], ids=["slices", "no slices"])
def test_traces_are_those_of_the_optimizers_own_update(family, run, indices, caplog):
    with caplog.at_level("DEBUG", logger="fusemin"):
        fused = minimize(ADAMS[family](0.05), run, indices)
    assert "updates 2 variables" in caplog.text
    assert fused[1][0].shape == (7, 8, 3)
    assert_same(fused, minimize(OwnUpdate(ADAMS[family](0.05)), by_minimize, indices), rtol=1e-11)


def test_a_criterion_sees_dense_gradients():
    table = tf.Variable(tf.ones([4, 2]))
    seen = []

    class Criterion:
        def bootstrap(self, loss, gradients, parameters):
            seen.append(gradients[0])
            return ()

        def one_step(self, step, loss, gradients, parameters, state):
            return tf.reduce_max(tf.abs(gradients[0])) < 1.0, state

    losses = fusemin.minimize(
        lambda: tf.reduce_sum(tf.gather(table, [1, 1]) ** 2),
        50,
        keras.optimizers.SGD(0.1),
        trainable_variables=[table],
        convergence_criterion=Criterion(),
        return_full_length_trace=False,
    )
    assert seen[0].shape == (4, 2)
    assert len(losses) < 10


MEMORY = """
import ctypes, pathlib, re, sys, tensorflow as tf, keras, tf_keras, fusemin
from tests.support.own_optimizers import OwnUpdate

def megabytes(what):
    return int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

table = tf.Variable(tf.zeros([250_000, 128]))
for library in [tf_keras] if sys.argv[1] == "stock" else [keras, tf_keras]:
    optimizer = library.optimizers.Adam(0.1)
    loss = lambda: tf.reduce_sum(tf.gather(table, [1, 7, 1]) ** 2)
    by = OwnUpdate(optimizer) if sys.argv[1] == "stock" else optimizer
    run = fusemin.Minimizer(loss, by, trainable_variables=[table])
    run(1)
    # What was freed goes back to the system, and the peak is counted from here.
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = megabytes("VmRSS")
    run(8)
    print(megabytes("VmHWM") - before)
    del optimizer, by, run
"""


def test_no_dense_gradient_is_in_memory():
    """A table of 122 MB with Adam of two families. Stock, of tf_keras, shows that the measurement would tell."""
    fused, stock = ([float(x) for x in run_program(MEMORY, by).split()] for by in ("fused", "stock"))
    assert max(fused) < 16, fused
    assert min(stock) > 100, stock
