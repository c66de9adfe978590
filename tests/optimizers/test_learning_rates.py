"""A learning rate is a number, a variable, a schedule or a callable, as each family takes them."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin import families
from tests.support.families import FAMILY
from tests.support.side_by_side import FUSED, STOCK, draw, largest_difference, run

LIMIT = 1e-12


def _halve(step, optimizer):
    """What a user's callback does."""
    if step == 3:
        optimizer.learning_rate = 0.01


def _exponential_decay(family):
    return FAMILY[family].schedules.ExponentialDecay(0.05, decay_steps=7, decay_rate=0.8)


# (family, what the learning rate is, a function that makes it, what happens before a step)
KERAS_OPTIMIZERS = ["SGD", "Adam", "RMSprop", "Adagrad", "Nadam", "Ftrl"]
V1_OPTIMIZERS = ["GradientDescentOptimizer", "AdamOptimizer", "RMSPropOptimizer", "AdagradOptimizer", "FtrlOptimizer"]
KINDS = {
    ("keras", "number"): lambda: 0.02,
    ("keras", "schedule"): lambda: _exponential_decay("keras"),
    ("keras", "callable"): lambda: lambda: 0.02,
    ("keras", "callable of a tensor"): lambda: lambda: tf.constant(0.02, tf.float64),
    ("fusemin.optimizers", "number"): lambda: 0.02,
    ("fusemin.optimizers", "schedule"): lambda: _exponential_decay("keras"),
    ("fusemin.optimizers", "callable of a tensor"): lambda: lambda: tf.constant(0.02, tf.float64),
    ("tf_keras", "number"): lambda: 0.02,
    ("tf_keras", "variable"): lambda: tf.Variable(0.02),
    ("tf_keras", "schedule"): lambda: _exponential_decay("tf_keras"),
    ("tf_keras", "callable"): lambda: lambda: 0.02,
    ("tf_keras legacy", "number"): lambda: 0.02,
    ("tf_keras legacy", "variable"): lambda: tf.Variable(0.02, dtype=tf.float64),
    ("tf_keras legacy", "tensor"): lambda: tf.constant(0.02, tf.float64),
    ("tf_keras legacy", "schedule"): lambda: _exponential_decay("tf_keras"),
    ("tf_keras legacy", "callable"): lambda: lambda: 0.02,
    ("tf.compat.v1.train", "number"): lambda: 0.02,
    ("tf.compat.v1.train", "number of NumPy"): lambda: np.float64(0.02),
    ("tf.compat.v1.train", "variable"): lambda: tf.Variable(0.02, dtype=tf.float64),
    ("tf.compat.v1.train", "tensor"): lambda: tf.constant(0.02, tf.float64),
    ("tf.compat.v1.train", "callable"): lambda: lambda: 0.02,
}
OWN_OPTIMIZERS = ["Adan", "Prodigy", "ScheduleFreeAdamW"]
OPTIMIZERS = {"tf.compat.v1.train": V1_OPTIMIZERS, "fusemin.optimizers": OWN_OPTIMIZERS}
# What stock itself refuses.
REFUSED = {("tf_keras legacy", "Nadam", "schedule"), ("tf.compat.v1.train", "FtrlOptimizer", "callable")}

CASES = [
    pytest.param(family, optimizer, rate, id=f"{family}-{optimizer}-{kind}")
    for (family, kind), rate in KINDS.items()
    for optimizer in OPTIMIZERS.get(family, KERAS_OPTIMIZERS)
    if (family, optimizer, kind) not in REFUSED
]


def assert_same(make, before_step=lambda step, optimizer: None):
    num_variables = 1 if type(make()).__module__ == "tf_keras.src.optimizers.nadam" else 2
    start = draw(families.rule_name(make()), tf.float64, num_variables, num_steps=7)
    fused, stock = (run(make, start, tf.float64, by, before_step) for by in (FUSED, STOCK))
    measured, where = largest_difference(fused, stock, start)
    assert measured <= LIMIT, f"{where} is off by {measured:.3g}"


@pytest.mark.parametrize(("family", "optimizer", "rate"), CASES)
def test_same_as_stock(family, optimizer, rate):
    options = {"beta": 0.3} if optimizer.startswith("Ftrl") else {}
    assert_same(lambda: getattr(FAMILY[family].optimizers, optimizer)(rate(), **options))


@pytest.mark.parametrize(
    ("family", "optimizer"),
    [
        *((family, name) for family in ("keras", "tf_keras", "tf_keras legacy") for name in KERAS_OPTIMIZERS),
        *(("fusemin.optimizers", name) for name in OWN_OPTIMIZERS),
    ],
)
def test_a_new_learning_rate_takes_effect_without_retracing(family, optimizer):
    assert_same(lambda: getattr(FAMILY[family].optimizers, optimizer)(0.02), _halve)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Ftrl"])
def test_legacy_decay(optimizer):
    assert_same(lambda: getattr(FAMILY["tf_keras legacy"].optimizers, optimizer)(0.02, decay=0.1))


@pytest.mark.parametrize(("family", "optimizer", "kind"), sorted(REFUSED))
def test_refused_by_stock(family, optimizer, kind):
    """Nothing to compare with. Fails when a new version of stock accepts it."""
    variable = tf.Variable(1.0)
    with pytest.raises((TypeError, ValueError)):
        getattr(FAMILY[family].optimizers, optimizer)(KINDS[family, kind]()).apply_gradients(
            [(tf.constant(1.0), variable)]
        )
