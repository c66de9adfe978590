"""Launches and bytes a step, as `explain` says them."""

import keras
import pytest
import tensorflow as tf

import fusemin
from fusemin import _core
from fusemin.api.explanation import _row

# Rule, options, rows, and how many operands of the size of the tensors a step reads and writes, in how many passes.
STEPS = {
    "sgd": ("sgd", {}, False, 3, 1),
    "adam": ("adam", {}, False, 7, 1),
    "adam, both rows": ("adam", {}, True, 9, 1),
    "amsgrad": ("amsgrad", {}, False, 9, 1),
    "value clipping": ("adam", {"clipvalue": 1.0}, False, 7, 1),
    "norm": ("adam", {"clipnorm": 1.0}, False, 8, 2),
    "average": ("adam", {"ema_momentum": 0.9}, False, 9, 1),
    "accumulation": ("adam", {"gradient_accumulation_steps": 2.0}, False, 9, 1),
    # Gradient and accumulator read, the sum written; it is read again, and emptied.
    "accumulation, norm": ("adam", {"gradient_accumulation_steps": 2.0, "global_clipnorm": 1.0}, False, 11, 2),
    "lamb": ("lamb", {}, False, 10, 2),
    # What the rule reads, twice.
    "cautious": ("adam", {"cautious": 1.0}, False, 7 + 4, 2),
    "lamb, cautious": ("lamb", {"cautious": 1.0}, False, 10 + 5, 3),
    "lamb, norm": ("lamb", {"clipnorm": 1.0}, False, 11, 3),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("bfloat16", 2)])
def test_launches_and_bytes(step, dtype, size):
    rule, options, rows, operands, passes = STEPS[step]
    step = (rule, dtype, [7, 0, 100], options, rows, rows)
    assert _core.step_bytes(*step) == 107 * operands * size
    assert _core.cuda.num_launches(*step) == passes


@pytest.mark.parametrize(("rule", "capacity"), [("sgd", 132), ("sgd_momentum", 102), ("adam", 84), ("amsgrad", 71)])
def test_tensors_of_a_launch(rule, capacity):
    for number, launches in ((capacity, 1), (capacity + 1, 2), (2 * capacity, 2), (2 * capacity + 1, 3)):
        assert _core.cuda.num_launches(rule, "float32", [3] * number) == launches


def test_explain_on_the_cpu():
    x, y = tf.Variable(tf.zeros([10, 2])), tf.Variable(tf.zeros([5]))
    [row] = fusemin.explain(keras.optimizers.Adam(), [x, y]).rows
    assert (row.kernel, row.launches, row.num_bytes) == ("CPU", None, 25 * 28)
    assert row.update == "fused, rule 'adam', CPU, 700 B a step"


def test_explain_on_a_gpu():
    """No GPU is needed to say what would run on one."""
    variables = [tf.Variable(tf.zeros([1000, 1000])) for _ in range(3)]
    row = _row(variables, "float32", "GPU:0", "adam", None, {"clipnorm": 1.0})
    assert (row.kernel, row.launches, row.num_bytes) == ("CUDA", 2, 96_000_000)
    assert row.update == "fused, rule 'adam', CUDA, 2 launches a step, 96 MB a step"
