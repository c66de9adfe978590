"""One plan: what `explain` says, what `minimize` does and what a fused optimizer does are the same."""

import contextlib
import dataclasses
from collections.abc import Callable

import keras
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from fusemin.update.plan import Context, Fused, Stock, plan
from tests.support.fused_runs import debug_log

STRATEGY = tf.distribute.experimental.CentralStorageStrategy(["CPU:0"])


def _nothing(optimizer):
    pass


def _override(optimizer):
    optimizer.update_step = lambda *arguments: None


@dataclasses.dataclass(frozen=True)
class Case:
    """An optimizer, and why its step is stock's.

    Attributes:
      make: the optimizer.
      reason: part of the reason; None if it is fused.
      dtypes: of its variables.
      change: of the optimizer, before it takes a step.
      around: what the step is taken in.
    """

    make: Callable
    reason: str | None = None
    dtypes: tuple = (tf.float32, tf.float32)
    change: Callable = _nothing
    around: Callable = contextlib.nullcontext


CASES = {
    "fused": Case(keras.optimizers.Adam),
    "stock": Case(keras.optimizers.Adam, "inside of fusemin.stock()", around=fusemin.stock),
    "no rule": Case(
        lambda: tf.compat.v1.train.ProximalAdagradOptimizer(0.1), "ProximalAdagradOptimizer has no fused rule"
    ),
    "overridden": Case(keras.optimizers.Adam, "the instance's update_step overrides", change=_override),
    "several dtypes": Case(
        lambda: tf_keras.optimizers.legacy.Nadam(), "momentum product of one dtype", (tf.float32, tf.float64)
    ),
    "several variables": Case(tf_keras.optimizers.Nadam, "once for each variable"),
    "dtype": Case(keras.optimizers.SGD, "'y:0' is of complex64", (tf.float32, tf.complex64)),
}


@pytest.mark.parametrize("name", CASES)
def test_explain_says_what_runs(name):
    case = CASES[name]
    reasons = []
    for way in ("minimize", "fuse"):
        x, y = (tf.Variable(tf.ones([2], dtype), name=n) for n, dtype in zip("xy", case.dtypes, strict=True))
        with debug_log() as log, case.around():
            optimizer = case.make()
            if way == "fuse":
                fusemin.fuse(optimizer)
            case.change(optimizer)
            explained = fusemin.explain(optimizer, [x, y]).rows[0].reason
            gradients = [tf.ones([2], dtype) for dtype in case.dtypes]
            if way == "fuse":
                optimizer.apply_gradients(zip(gradients, [x, y], strict=True))
            else:
                fusemin.minimize(
                    lambda x=x, y=y: tf.reduce_sum(tf.abs(x) ** 2) + tf.cast(tf.reduce_sum(tf.abs(y) ** 2), x.dtype),
                    1,
                    optimizer,
                    trainable_variables=[x, y],
                )
        assert log.fused == (case.reason is None)
        reasons += [explained, log[0].split(": ", 1)[1] if case.reason else None]
    assert reasons == [reasons[0]] * 4
    assert case.reason is None or case.reason in reasons[0]


def test_a_plan_creates_nothing():
    optimizer, x = keras.optimizers.Adam(), tf.Variable([1.0])
    planned = plan(optimizer, [x])
    assert isinstance(planned, Fused)
    assert not optimizer.built
    update = planned.bind()
    assert optimizer.built
    assert len(update.slots[0]) == 2


SPARSE = tf.IndexedSlices(tf.ones([1]), tf.constant([0]), tf.constant([2]))


@pytest.mark.parametrize(
    ("context", "gradient", "reason"),
    [
        (Context(), tf.ones([2]), None),
        (Context(), SPARSE, None),
        (Context(xla=True), tf.ones([2]), None),
        (Context(xla=True), SPARSE, "the gradient of 'x:0' is sparse, and XLA compiles the step"),
        (
            Context(strategy=STRATEGY),
            tf.ones([2]),
            "a CentralStorageStrategy is in use, which keeps no copy of each variable for each replica",
        ),
        (Context(stock=True, strategy=STRATEGY), None, "this is inside of fusemin.stock()"),
        (Context(), None, "the gradient of 'x:0' is None"),
        (Context(), tf.ones([3]), "the gradient of 'x:0' has shape (3,), not (2,)"),
        (Context(), tf.ones([2], tf.float64), "the gradient of 'x:0' is of float64, not of float32"),
    ],
)
def test_context_and_gradients(context, gradient, reason):
    planned = plan(keras.optimizers.SGD(), [tf.Variable([1.0, 2.0], name="x")], [gradient], context)
    assert planned.reason == reason
    assert isinstance(planned, Fused if reason is None else Stock)


def test_variables():
    x = tf.Variable(1.0)
    assert plan(keras.optimizers.SGD(), []).reason == "there is no variable to update"
    assert plan(keras.optimizers.SGD(), [x, x]).reason == "a variable is listed twice"
    assert plan(keras.optimizers.SGD(), [x, 3]).reason == "a variable is of an unsupported type"


def test_slots_of_keras_variables_have_the_names_that_stock_gives_them():
    names = []
    for way in ("stock", "fuse", "minimize"):
        x, optimizer = keras.Variable([1.0, 2.0], name="x"), keras.optimizers.Adam(name="adam")
        if way == "minimize":
            fusemin.minimize(lambda x=x: tf.reduce_sum(x.value**2), 1, optimizer, trainable_variables=[x])
        else:
            optimizer = fusemin.fuse(optimizer) if way == "fuse" else optimizer
            optimizer.apply_gradients([(tf.ones([2]), x)])
        names.append([v.path for v in optimizer.variables])
    assert names == [names[0]] * 3
