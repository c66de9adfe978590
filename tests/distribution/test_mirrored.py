"""`fuse` under MirroredStrategy, on two logical CPUs, against stock under the same strategy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.distribution.two_replicas import Regression, mirrored
from tests.support.fused_runs import debug_log

OPTIMIZERS = {
    "keras": {
        "SGD": lambda **o: keras.optimizers.SGD(0.05, **o),
        "SGD, momentum": lambda **o: keras.optimizers.SGD(0.05, 0.9, nesterov=True, **o),
        "Adam": lambda **o: keras.optimizers.Adam(0.05, **o),
        "AMSGrad": lambda **o: keras.optimizers.Adam(0.05, amsgrad=True, **o),
        "AdamW": lambda **o: keras.optimizers.AdamW(0.05, **o),
        "Adamax": lambda **o: keras.optimizers.Adamax(0.05, **o),
        "RMSprop": lambda **o: keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True, **o),
        "Adagrad": lambda **o: keras.optimizers.Adagrad(0.05, **o),
        "Adadelta": lambda **o: keras.optimizers.Adadelta(0.5, **o),
        "Ftrl": lambda **o: keras.optimizers.Ftrl(0.05, **o),
        "Lion": lambda **o: keras.optimizers.Lion(0.05, **o),
        "Lamb": lambda **o: keras.optimizers.Lamb(0.05, **o),
    },
    "tf_keras": {
        "SGD": lambda **o: tf_keras.optimizers.SGD(0.05, **o),
        "Adam": lambda **o: tf_keras.optimizers.Adam(0.05, jit_compile=False, **o),
        "RMSprop": lambda **o: tf_keras.optimizers.RMSprop(0.05, jit_compile=False, **o),
        "Adagrad": lambda **o: tf_keras.optimizers.Adagrad(0.05, jit_compile=False, **o),
        "Lion": lambda **o: tf_keras.optimizers.Lion(0.05, jit_compile=False, **o),
    },
    "legacy": {
        "SGD": lambda **o: tf_keras.optimizers.legacy.SGD(0.05, 0.9, **o),
        "Adam": lambda **o: tf_keras.optimizers.legacy.Adam(0.05, **o),
        "RMSprop": lambda **o: tf_keras.optimizers.legacy.RMSprop(0.05, **o),
        "Adamax": lambda **o: tf_keras.optimizers.legacy.Adamax(0.05, **o),
        "Ftrl": lambda **o: tf_keras.optimizers.legacy.Ftrl(0.05, **o),
    },
}
OPTIONS = {
    "plain": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "use_ema": {"use_ema": True, "ema_momentum": 0.9},
    "loss_scale_factor": {"loss_scale_factor": 4.0},
    "decay": {"decay": 0.1},
}
OPTIONS_OF = {
    "keras": ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema", "loss_scale_factor"),
    "tf_keras": ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema"),
    "legacy": ("clipvalue", "clipnorm", "global_clipnorm", "decay"),
}
CASES = [
    *((family, name, "plain") for family, of_family in OPTIMIZERS.items() for name in of_family),
    *(("keras", "SGD, momentum", option) for option in OPTIONS_OF["keras"]),
    *((family, "Adam", option) for family, options in OPTIONS_OF.items() for option in options),
]
# TensorFlow rewrites stock's division by a root, in a graph, as a product with the root's inverse. Its own kernels,
# which the legacy optimizers call, multiply in another order at times.
REWRITTEN = ("RMSprop", "Adagrad", "Adadelta", "Lamb")
ROUNDED = 2e-6
NUM_STEPS = 4


def _pair(make, **options):
    """Stock's and the fused fit, after some steps, and what the log says of the second."""
    stock = Regression(mirrored(), make, **options).take(NUM_STEPS)
    with debug_log() as log:
        fused = Regression(mirrored(), make, fusemin.fuse, **options).take(NUM_STEPS)
    return stock, fused, log


def _updates(fit) -> int:
    """How many ops of fusemin a step has."""
    graph = fit.step.get_concrete_function().graph
    return sum(op.type == "Fusemin>FusedStep" for op in graph.get_operations())


def _assert_same(stock, fused, limit=0.0):
    for of_stock, of_fused in zip(stock.copies(), fused.copies(), strict=True):
        for a, b in zip(of_stock, of_fused, strict=True):
            np.testing.assert_allclose(b, a, rtol=limit, atol=limit)
    first, second = fused.copies()
    for variable in range(len(fused.variables)):
        np.testing.assert_array_equal(first[variable], second[variable])


@pytest.mark.parametrize(("family", "name", "option"), CASES)
def test_is_stock(family, name, option):
    def make():
        return OPTIMIZERS[family][name](**OPTIONS[option])

    stock, fused, _ = _pair(make)
    _assert_same(stock, fused, ROUNDED if name in REWRITTEN or family == "legacy" else 0.0)
    # Stock's method of tf_keras averages in the same breath.
    is_stock = family == "tf_keras" and option == "use_ema"
    assert _updates(fused) == (0 if is_stock else 2)


@pytest.mark.parametrize("family", OPTIMIZERS)
def test_a_sparse_gradient(family):
    stock, fused, _ = _pair(OPTIMIZERS[family]["Adam"], lookup=True)
    # The order in which slices of one row are added up is free.
    _assert_same(stock, fused, ROUNDED)
    # The legacy Adam has another rule for slices.
    assert _updates(fused) == (4 if family == "legacy" else 2)


@pytest.mark.parametrize("family", OPTIMIZERS)
def test_a_schedule(family):
    optimizers = (keras if family == "keras" else tf_keras).optimizers

    def make():
        schedule = optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        return (optimizers.legacy if family == "legacy" else optimizers).Adam(schedule)

    stock, fused, _ = _pair(make)
    _assert_same(stock, fused)
    assert _updates(fused) == 2


def test_eager_steps():
    fits = []
    for prepare in (lambda o: o, fusemin.fuse):
        fit = Regression(mirrored(), OPTIMIZERS["keras"]["Adam"], prepare)
        for _ in range(3):
            fit.step_as_is()
        fits.append(fit)
    _assert_same(*fits)


def test_nadam_whose_product_the_library_advances_is_stock():
    stock, fused, log = _pair(lambda: keras.optimizers.Nadam(0.05))
    _assert_same(stock, fused)
    assert any("has scalars of its own" in reason for reason in log.reasons) or _updates(fused) == 0


def test_model_fit():
    weights = []
    for prepare in (lambda o: o, fusemin.fuse):
        keras.utils.set_random_seed(0)
        with mirrored().scope():
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
            model.compile(prepare(keras.optimizers.Adam(0.05)), "mse")
        rng = np.random.default_rng(0)
        model.fit(rng.standard_normal((16, 5)), rng.standard_normal((16, 1)), batch_size=8, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_explain_says_who_does_what():
    with mirrored().scope():
        x, optimizer = tf.Variable([1.0, 2.0]), fusemin.fuse(keras.optimizers.Adam())
        optimizer.build([x])
        (row,) = fusemin.explain(optimizer, [x]).rows
    assert row.rule is None
    assert row.reason == (
        "a tf.distribute strategy is in use: the op takes the update of each replica, the optimizer all else of a step"
    )


def test_stock_is_stock():
    fit = Regression(mirrored(), OPTIMIZERS["keras"]["Adam"], fusemin.fuse)
    with fusemin.stock():
        assert _updates(fit) == 0
