"""What the keywords of runs take, and where they cannot be."""

import keras
import pytest
import tensorflow as tf

import fusemin
from tests.runs.fits import Fit

WRONG = {
    "progress": ({"progress": tf.zeros(3)}, TypeError),
    "callbacks": ({"callbacks": [3]}, TypeError),
    "every float": ({"every": 2.5}, TypeError),
    "every 0": ({"every": 0}, ValueError),
    "time_limit": ({"time_limit": -1.0}, ValueError),
    "on_nonfinite": ({"on_nonfinite": "ignore"}, ValueError),
    "keep_best": ({"restore_best": True}, ValueError),
    "trace_every": ({"trace_every": 0}, ValueError),
    "trace_last": ({"trace_last": 0}, ValueError),
    "trace_to": ({"trace_last": 2, "trace_to": "x"}, ValueError),
    "checkpoint": ({"checkpoint": "x"}, TypeError),
    "data": ({"data": [1, 2]}, TypeError),
    "drop_remainder": ({"data": tf.data.Dataset.range(10).batch(3)}, ValueError),
    "`data` is empty": ({"data": tf.data.Dataset.range(0)}, ValueError),
}


@pytest.mark.parametrize("match", WRONG)
def test_wrong_values(match):
    keywords, error = WRONG[match]
    with pytest.raises(error, match=match.split()[0]):
        Fit().minimizer().run(3, **keywords)


GIVEN = {
    "progress": True,
    "callbacks": print,
    "every": 3,
    "time_limit": 1.0,
    "on_nonfinite": "skip",
    "keep_best": True,
    "trace_every": 2,
    "trace_last": 3,
    "trace_to": "traces",
    "checkpoint": fusemin.Checkpoint("checkpoints"),
    "data": tf.data.Dataset.range(3),
}


def _minimize(name):
    x = tf.Variable(1.0)
    fusemin.minimize(lambda: x**2, 3, keras.optimizers.SGD(), trainable_variables=[x], **{name: GIVEN[name]})


@pytest.mark.parametrize("name", GIVEN)
def test_not_in_a_function(name):
    with pytest.raises(RuntimeError, match=f"`{name}`: not possible inside of a tf.function"):
        tf.function(lambda: _minimize(name), autograph=False)()


def test_not_in_other_places():
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="graph of TensorFlow 1"):
        _minimize("progress")
    with tf.GradientTape(), pytest.raises(RuntimeError, match="GradientTape"):
        _minimize("progress")
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.raises(RuntimeError, match="run_functions_eagerly"):
            _minimize("progress")
    finally:
        tf.config.run_functions_eagerly(False)


def test_every_keyword_is_given_here():
    fields = fusemin.runs.options.RunOptions.__dataclass_fields__
    assert {*GIVEN, "restore_best"} == set(fields)
