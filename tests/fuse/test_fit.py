"""`model.fit` with a fused optimizer: the history and the weights that stock gives, and the op at work."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.fused_runs import assert_close, assert_same, debug_log, variables_of

each_library = pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])


def data():
    x = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
    return x, x.sum(1, keepdims=True)


def dense_layers(library):
    return [library.layers.Dense(6, activation="relu"), library.layers.Dense(1)]


def fit(library, optimizer, layers=dense_layers, inputs=None, epochs=3, callbacks=(), **compile_options):
    """`(history, weights)` of a small model, each from the same start."""
    library.utils.set_random_seed(1)
    model = library.Sequential(layers(library))
    model.compile(optimizer=optimizer, loss="mse", **compile_options)
    x, y = data()
    x = x if inputs is None else inputs
    history = model.fit(x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=[make(library) for make in callbacks])
    return history.history, model.get_weights() + [np.array(v.numpy()) for v in variables_of(model.optimizer)]


def check_fit(library, make, fused=True, same=assert_same, **options):
    """Fits with and without `fuse`; returns the reasons of stock steps."""
    history, weights = fit(library, make(), **options)
    with debug_log() as log:
        fused_history, fused_weights = fit(library, fusemin.fuse(make()), **options)
    assert log.fused == fused, log
    assert history.keys() == fused_history.keys()
    for name, values in history.items():
        same([fused_history[name]], [values])
    same(fused_weights, weights)
    return log.reasons


@each_library
@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": False}],
    ids=["defaults", "eagerly", "two steps per execution", "without XLA"],
)
def test_history_and_weights(library, options):
    if options == {} and library is keras:
        # "auto" is no XLA on a machine without GPU, where the op would not be at work.
        options = {"jit_compile": "auto"}
    assert not check_fit(library, lambda: library.optimizers.Adam(0.01), **options)


@each_library
def test_under_xla(library):
    assert not check_fit(library, lambda: library.optimizers.Adam(0.01), same=assert_close, jit_compile=True)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_legacy(name):
    make = functools.partial(getattr(tf_keras.optimizers.legacy, name), 0.01)
    assert not check_fit(tf_keras, make)


@each_library
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(library, policy):
    """float32 variables, and in float16 a LossScaleOptimizer around the optimizer: Keras' own, or one that is fused."""
    set_policy = library.config.set_dtype_policy if library is keras else library.mixed_precision.set_global_policy
    scale = library.mixed_precision.LossScaleOptimizer
    set_policy(policy)
    try:
        assert not [r for r in check_fit(library, lambda: library.optimizers.Adam(0.01)) if "LossScale" not in r]
        if policy == "mixed_float16":
            check_fit(library, lambda: scale(library.optimizers.Adam(0.01), initial_scale=2.0**30))
    finally:
        set_policy("float32")


@each_library
def test_embeddings_have_sparse_gradients(library):
    def layers(library):
        layers = library.layers
        return [layers.Input([4]), layers.Embedding(10, 3), layers.Flatten(), layers.Dense(1)]

    inputs = np.random.default_rng(1).integers(0, 10, (48, 4))
    for name in ("Adam", "SGD", "Adagrad"):
        make = functools.partial(getattr(library.optimizers, name), 0.01)
        for options in ({}, {"run_eagerly": True}) if name == "Adam" else ({},):
            assert not check_fit(library, make, same=assert_close, layers=layers, inputs=inputs, **options)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_embeddings_in_mixed_precision(policy):
    """In float16 Keras looks whether every slice is finite, and the inner optimizer is fused."""
    keras.config.set_dtype_policy(policy)
    try:
        layers = keras.layers
        made = lambda _: [layers.Input([4]), layers.Embedding(10, 3), layers.Flatten(), layers.Dense(1)]  # noqa: E731
        inputs = np.random.default_rng(1).integers(0, 10, (48, 4))
        reasons = check_fit(keras, lambda: keras.optimizers.Adam(0.01), same=assert_close, layers=made, inputs=inputs)
        assert not [r for r in reasons if "LossScale" not in r]
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("chosen_by", ["map", "function"])
def test_multi_optimizer(chosen_by):
    """Its inner optimizers are fused, each for its variables; where a function chooses them, once it is built."""

    def make():
        adam, sgd = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.02, momentum=0.9)
        if chosen_by == "map":
            return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(sgd, {".*/kernel": adam}))
        return keras.optimizers.MultiOptimizer(lambda v: adam if v.path.endswith("kernel") else sgd)

    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input([4]), *dense_layers(keras)])
        optimizer = make()
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=prepare(optimizer), loss="mse")
        with debug_log() as log:
            history = model.fit(*data(), epochs=2, shuffle=False, verbose=0).history["loss"]
        runs.append([history, *model.get_weights(), *variables_of(optimizer)])
    assert {"rule 'adam' updates 2 variables in one op", "rule 'sgd_momentum' updates 2 variables in one op"} <= set(
        log
    )
    assert_same(runs[1], runs[0])
    reason = fusemin.explain(optimizer, model.trainable_variables).rows[0].reason
    assert "MultiOptimizer has no fused rule; its inner" in reason
    assert "its inner Adam: fused, rule 'adam'" in reason


def test_multi_optimizer_in_minimize():
    """Takes its own step."""
    x = keras.Variable([1.0, -2.0], name="x")
    optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.25)))
    losses = fusemin.minimize(lambda: tf.reduce_sum(x.value**2), 3, optimizer, trainable_variables=[x])
    np.testing.assert_allclose(losses, [5.0, 1.25, 0.3125])
    assert fusemin.explain(optimizer, [x]).rows[0].reason == "keras MultiOptimizer has no fused rule"


@each_library
def test_constraints(library):
    def layers(library):
        return [library.layers.Dense(1, kernel_constraint="non_neg", bias_constraint="max_norm")]

    make = functools.partial(library.optimizers.SGD, 0.2)
    history, weights = fit(library, make(), layers=layers)
    fused_history, fused_weights = fit(library, fusemin.fuse(make()), layers=layers)
    assert (weights[0] >= 0).all()
    assert_same([fused_history["loss"], *fused_weights], [history["loss"], *weights])


def _halve(library):
    return library.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)


def _plateau(library):
    # Of a threshold that no epoch reaches, so that every second epoch counts as a plateau.
    return library.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e3)


@each_library
@pytest.mark.parametrize("callback", [_halve, _plateau], ids=["LearningRateScheduler", "ReduceLROnPlateau"])
def test_callbacks_that_change_the_learning_rate(library, callback):
    assert not check_fit(library, lambda: library.optimizers.Adam(0.05), callbacks=[callback], epochs=5)


@each_library
def test_schedules(library):
    def make():
        return library.optimizers.SGD(library.optimizers.schedules.CosineDecay(0.05, 9), momentum=0.9)

    assert not check_fit(library, make)


@each_library
def test_train_step_of_ones_own(library):
    class Model(library.Sequential):
        def train_step(self, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            weights = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    histories = []
    for prepare in (lambda o: o, fusemin.fuse):
        library.utils.set_random_seed(1)
        model = Model(dense_layers(library))
        model.compile(optimizer=prepare(library.optimizers.Adam(0.01)))
        histories.append(model.fit(*data(), epochs=2, verbose=0).history["loss"])
    assert_same([histories[1]], [histories[0]])


@each_library
def test_a_model_is_compiled_again_with_its_own_optimizer_fused(library):
    """Training goes on: slots and the count of steps stay."""
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        library.utils.set_random_seed(1)
        model = library.Sequential(dense_layers(library))
        model.compile(optimizer=library.optimizers.Adam(0.01), loss="mse")
        model.fit(*data(), epochs=1, shuffle=False, verbose=0)
        model.compile(optimizer=prepare(model.optimizer), loss="mse")
        model.fit(*data(), epochs=1, shuffle=False, verbose=0)
        runs.append(model.get_weights() + variables_of(model.optimizer))
    assert_same(runs[1], runs[0])
