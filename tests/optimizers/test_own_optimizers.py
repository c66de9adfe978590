"""`fusemin.optimizers` as Keras optimizers: configs, files, `Model.fit`, wrappers; and what each is for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from tests.support.fused_runs import assert_same, debug_log, to_numpy, variables_of

OPTIMIZERS = fusemin.optimizers
# Arguments that are no defaults.
ARGUMENTS = {
    "Adan": {"beta_1": 0.9, "beta_2": 0.8, "beta_3": 0.95, "epsilon": 1e-4, "weight_decay": 0.1, "no_prox": True},
    "ScheduleFreeAdamW": {
        "beta_1": 0.8,
        "beta_2": 0.99,
        "epsilon": 1e-4,
        "weight_decay": 0.1,
        "warmup_steps": 3,
        "r": 1.0,
        "weight_lr_power": 1.5,
    },
}
every_optimizer = pytest.mark.parametrize("name", ARGUMENTS)


def make(name, learning_rate=0.01, **more):
    return getattr(OPTIMIZERS, name)(learning_rate, **ARGUMENTS[name] | more)


def test_every_optimizer_is_in_the_table():
    assert set(ARGUMENTS) == {
        name
        for name in OPTIMIZERS.__all__
        if isinstance(getattr(OPTIMIZERS, name), type)
        and issubclass(getattr(OPTIMIZERS, name), keras.optimizers.Optimizer)
    }


@every_optimizer
def test_config(name):
    optimizer = make(name, keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), clipnorm=1.0)
    config = optimizer.get_config()
    assert config.items() >= (ARGUMENTS[name] | {"clipnorm": 1.0}).items()
    serialized = keras.optimizers.serialize(optimizer)
    assert serialized["registered_name"] == f"fusemin>{name}"
    for again in (type(optimizer).from_config(config), keras.optimizers.deserialize(serialized)):
        assert type(again) is type(optimizer)
        assert again.get_config() == optimizer.get_config()
    assert keras.optimizers.serialize(fusemin.fuse(optimizer)) == serialized


def fitted(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    return fit(model)


def fit(model):
    x = np.arange(24, dtype=np.float32).reshape(8, 3) / 10
    model.fit(x, x.sum(1, keepdims=True), epochs=3, batch_size=4, shuffle=False, verbose=0)
    return model


def all_of(model):
    return [to_numpy(v) for v in [*model.weights, *variables_of(model.optimizer)]]


def assert_near(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@every_optimizer
def test_fit_and_files(name, tmp_path):
    """Fused or not it trains the same; what was saved trains on the same."""
    with debug_log() as log:
        model = fitted(fusemin.fuse(make(name)))
    assert log.fused
    assert_near(all_of(model), all_of(fitted(make(name))))
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.optimizer) is getattr(OPTIMIZERS, name)
    assert_same(all_of(loaded), all_of(model))
    assert_near(all_of(fit(loaded)), all_of(fit(model)))


@every_optimizer
def test_checkpoints(name, tmp_path):
    def loop():
        x = tf.Variable([1.0, -2.0])
        optimizer = fusemin.fuse(make(name))
        return x, optimizer, tf.train.Checkpoint(x=x, optimizer=optimizer)

    def take(x, optimizer, checkpoint):
        for _ in range(3):
            optimizer.apply_gradients([(2.0 * x, x)])

    first = loop()
    take(*first)
    path = first[2].save(tmp_path / "checkpoint")
    take(*first)
    second = loop()
    take(*second)
    second[2].restore(path).assert_consumed()
    take(*second)
    assert_same(
        [to_numpy(v) for v in [second[0], *second[1].variables]], [to_numpy(v) for v in [first[0], *first[1].variables]]
    )


@every_optimizer
def test_under_a_loss_scale(name):
    """Fused, and a step with a gradient that is not finite changes nothing but the scale."""
    states = []
    for prepare in (fusemin.fuse, lambda o: o):
        x = tf.Variable([1.0, 2.0, 3.0])
        inner = make(name)
        optimizer = prepare(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3))
        assert fusemin.explain(optimizer, [x]).fused
        rng = np.random.default_rng(0)
        state = []
        for step in range(9):
            gradient = tf.constant(rng.standard_normal(3) * (np.inf if step in (0, 4) else 10.0), tf.float32)
            optimizer.apply_gradients([(gradient, x)])
            state.append(np.concatenate([np.ravel(to_numpy(v)) for v in [x, *optimizer.variables, *inner.variables]]))
        states.append(np.array(state, np.float64))
    assert np.isfinite(states[0]).all()
    np.testing.assert_allclose(*states, rtol=2e-5, atol=1e-7)


@every_optimizer
def test_a_variable_that_does_not_decay(name):
    """Its own step spares it; the op would not, so it does not take the step."""
    kernel, bias = tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([3.0, 4.0], name="bias")
    optimizer = make(name, **({"no_prox": False} if name == "Adan" else {}))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    row = fusemin.explain(optimizer, [kernel, bias]).rows[0]
    assert (
        row.reason == f"{name} uses exclude_from_weight_decay with a weight decay inside its rule, which is not fused"
    )
    assert fusemin.explain(optimizer, [kernel]).fused
    fusemin.fuse(optimizer).apply_gradients([(tf.zeros([2]), kernel), (tf.zeros([2]), bias)])
    np.testing.assert_array_equal(bias, [3.0, 4.0])
    assert (kernel.numpy() < [1.0, 2.0]).all()


@every_optimizer
def test_a_subclass_is_stock(name):
    class Mine(getattr(OPTIMIZERS, name)):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(-gradient, variable, learning_rate)

    x = tf.Variable([1.0])
    assert fusemin.explain(Mine(0.1), [x]).rows[0].reason == (
        "Mine.update_step overrides a method that the fused rule would replace"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Adan", {"beta_3": 1.0}, r"`beta_3` must be in \[0, 1\), it is 1.0"),
        ("Adan", {"beta_1": -0.1}, r"`beta_1` must be in \[0, 1\), it is -0.1"),
        ("ScheduleFreeAdamW", {"beta_1": 0.0}, r"`beta_1` must be in \(0, 1\), it is 0"),
        ("ScheduleFreeAdamW", {"warmup_steps": -1}, "`warmup_steps` must be a count of steps, it is -1"),
    ],
)
def test_arguments_out_of_range(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(OPTIMIZERS, name)(**arguments)


# Schedule-free: where it evaluates.


def _quadratic(x):
    return tf.reduce_sum(tf.constant([1.0, 30.0], x.dtype) * (x - 1.0) ** 2)


def _reference_average(num_steps):
    """x of the paper's Algorithm 1, line by line, in NumPy: it has x where the optimizer has not."""
    a, lr, beta_1, beta_2, epsilon = np.array([1.0, 30.0]), np.float64(np.float32(0.1)), 0.9, 0.999, 1e-8
    z = x = np.array([3.0, -2.0])
    v, total = np.zeros(2), 0.0
    for t in range(1, num_steps + 1):
        y = (1 - beta_1) * z + beta_1 * x
        g = 2 * a * (y - 1)
        v = beta_2 * v + (1 - beta_2) * g**2
        rate = lr * np.sqrt(1 - beta_2**t)
        z = z - rate * g / (np.sqrt(v) + epsilon)
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
    return x, (1 - beta_1) * z + beta_1 * x


def test_the_average_is_that_of_the_paper_and_converges():
    num_steps = 400
    optimizer, v = OPTIMIZERS.ScheduleFreeAdamW(0.1), tf.Variable([3.0, -2.0], dtype=tf.float64)
    assert fusemin.explain(optimizer, [v]).fused
    fusemin.minimize(lambda: _quadratic(v), num_steps, optimizer)
    x, y = _reference_average(num_steps)
    before = v.numpy()
    np.testing.assert_allclose(before, y, rtol=1e-11)
    with optimizer.evaluation() as variables:
        assert variables[0] is v
        np.testing.assert_allclose(v, x, rtol=1e-11)
        average = v.numpy()
    np.testing.assert_array_equal(v, before)
    optimizer.eval()
    np.testing.assert_array_equal(v, average)
    optimizer.train()
    np.testing.assert_allclose(v, before, rtol=1e-14)
    assert float(_quadratic(tf.constant(average))) < 1e-3 * float(_quadratic(tf.constant([3.0, -2.0], tf.float64)))


@pytest.mark.parametrize("prepare", [fusemin.fuse, lambda o: o], ids=["fused", "stock"])
def test_no_step_is_taken_from_the_average(prepare, tmp_path):
    optimizer, v = prepare(OPTIMIZERS.ScheduleFreeAdamW(0.1)), tf.Variable([3.0, -2.0])
    optimizer.eval()  # Before the first step all three are the same.
    for _ in range(3):
        optimizer.apply_gradients([(v - 1.0, v)])
    optimizer.eval()
    optimizer.eval()
    x = v.numpy()
    message = "cannot take a step: its variables hold the average of the iterates"
    with pytest.raises(ValueError, match=message):
        optimizer.apply_gradients([(v - 1.0, v)])
    with pytest.raises(ValueError, match=message):
        fusemin.minimize(lambda: tf.reduce_sum(v**2), 2, optimizer)
    np.testing.assert_array_equal(v, x)
    # A checkpoint knows.
    path = tf.train.Checkpoint(v=v, optimizer=optimizer).save(tmp_path / "checkpoint")
    optimizer.train()
    optimizer.apply_gradients([(v - 1.0, v)])
    tf.train.Checkpoint(v=v, optimizer=optimizer).restore(path)
    with pytest.raises(ValueError, match=message):
        optimizer.apply_gradients([(v - 1.0, v)])
    with optimizer.evaluation():
        np.testing.assert_array_equal(v, x)
    optimizer.train()
    optimizer.apply_gradients([(v - 1.0, v)])


def test_fit_validates_at_the_average():
    """And training is the same to the bit as without."""
    data = np.arange(24, dtype=np.float32).reshape(8, 3) / 10
    data = (data, data.sum(1, keepdims=True))
    weights, losses = [], []
    for callbacks in ([], [OPTIMIZERS.EvaluateAverage()]):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(1)])
        model.compile(optimizer=fusemin.fuse(OPTIMIZERS.ScheduleFreeAdamW(0.05)), loss="mse")
        history = model.fit(*data, validation_data=data, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
        losses.append(history.history["val_loss"])
    assert_same(*weights)
    with model.optimizer.evaluation():
        np.testing.assert_allclose(losses[1][-1], model.evaluate(*data, verbose=0), rtol=1e-6)
    assert losses[0][-1] != losses[1][-1]
