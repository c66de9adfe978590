"""A family takes one module, and one entry: here is all that fusemin is told of a library that it does not know."""

import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin.families import Adapter, Family, SparseUpdate, registry
from tests.support.fused_runs import assert_same, debug_log

# The library: plain Python, with a class for variables of its own.


class Parameter:
    def __init__(self, value):
        self.tensor = tf.Variable(value)

    def __deepcopy__(self, memo):
        return Parameter(self.tensor.numpy())


class HeavyBall:
    """Gradient descent with momentum. `slots` holds the momenta of variables by their references."""

    def __init__(self, learning_rate, momentum=0.5):
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.slots = {}

    def prepare(self, variables):
        for variable in variables:
            if variable.ref() not in self.slots:
                self.slots[variable.ref()] = tf.Variable(tf.zeros_like(variable), trainable=False)

    def apply_gradients(self, grads_and_vars):
        pairs = [(g, getattr(v, "tensor", v)) for g, v in grads_and_vars]
        with tf.init_scope():
            self.prepare([v for _, v in pairs])
        for gradient, variable in pairs:
            slot = self.slots[variable.ref()]
            slot.assign(self.momentum * slot + gradient)
            variable.assign_sub(self.learning_rate * slot)


class Scaled:
    """A wrapper, which leaves its steps to another optimizer."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def apply_gradients(self, grads_and_vars):
        self.wrapped.apply_gradients([(2.0 * g, v) for g, v in grads_and_vars])


# The family.


class _Mixin:
    def apply_gradients(self, grads_and_vars):
        grads_and_vars = list(grads_and_vars)
        if not self._take_fused_pairs(grads_and_vars):
            super().apply_gradients(grads_and_vars)


_ADAPTERS = {
    "HeavyBall": Adapter(
        rule=lambda o: "momentum",
        slots={"momentum": "slots"},
        hyperparameters=lambda o: {"momentum": o.momentum},
        sparse=lambda o: SparseUpdate("touched"),
    )
}


class Balls(Family):
    name = "balls"
    module = __name__
    adapters = _ADAPTERS
    hooks = frozenset({"apply_gradients"})
    mixin = _Mixin

    def wrapped(self, optimizer):
        return [optimizer.wrapped] if isinstance(optimizer, Scaled) else []

    def unwrap(self, variable):
        return variable.tensor if isinstance(variable, Parameter) else None

    def build(self, optimizer, variables):
        optimizer.prepare([getattr(v, "tensor", v) for v in variables])

    def slot(self, optimizer, name, variable):
        return getattr(optimizer, name)[variable.ref()]

    def learning_rate(self, optimizer):
        return optimizer.learning_rate


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", (*registry._FAMILIES, Balls()))


def test_it_is_not_known_without_the_entry(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", registry._FAMILIES[:-1])
    assert fusemin.explain(HeavyBall(0.1), [tf.Variable(1.0)]).rows[0].reason == (
        "HeavyBall is of no known optimizer family"
    )


def test_explain():
    row = fusemin.explain(HeavyBall(0.1), [Parameter([1.0, 2.0])]).rows[0]
    assert (row.rule, row.kernel, row.num_bytes) == ("momentum", "CPU", 40)


def test_minimize():
    """The same as its own step, to rounding."""
    runs = []
    for in_stock in (False, True):
        optimizer, x, y = HeavyBall(0.25), Parameter([1.0, -2.0]), tf.Variable([3.0])
        with debug_log() as log:
            losses = fusemin.minimize(
                lambda x=x, y=y: tf.reduce_sum(x.tensor**2) + tf.reduce_sum(y**2),
                5,
                optimizer if not in_stock else type("Hidden", (), {"apply_gradients": optimizer.apply_gradients})(),
                trainable_variables=[x, y],
            )
        assert log.fused != in_stock
        runs.append([losses, x.tensor, y, *optimizer.slots.values()])
    assert len(runs[0]) == 5
    assert_same(*runs)


@pytest.mark.parametrize("in_graph", [False, True])
def test_fuse(in_graph):
    """Its own class and attributes, and a hyperparameter that changes."""
    runs = []
    for prepare in (fusemin.fuse, lambda optimizer: optimizer):
        optimizer, x = prepare(HeavyBall(0.25)), tf.Variable([1.0, -2.0])
        assert optimizer.__class__ is HeavyBall

        def step(optimizer=optimizer, x=x):
            optimizer.apply_gradients([(tf.constant([1.0, 0.5]), x)])

        with debug_log() as log:
            for rate in (0.25, 0.5):
                optimizer.learning_rate = rate
                traced = tf.function(step) if in_graph else step
                for _ in range(2):
                    traced()
        assert log.fused == (prepare is fusemin.fuse)
        runs.append([x, *optimizer.slots.values()])
    assert_same(*runs)


def test_a_wrapper_and_a_subclass():
    class Mine(HeavyBall):
        def apply_gradients(self, grads_and_vars):
            super().apply_gradients(grads_and_vars)

    inner, x = HeavyBall(0.25), tf.Variable([1.0])
    outer = fusemin.fuse(Scaled(inner))
    with debug_log() as log:
        outer.apply_gradients([(tf.constant([1.0]), x)])
    assert log.fused
    np.testing.assert_array_equal(x, [0.5])
    assert "its inner HeavyBall: fused, rule 'momentum'" in fusemin.explain(outer, [x]).rows[0].reason
