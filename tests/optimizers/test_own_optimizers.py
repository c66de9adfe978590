"""`fusemin.optimizers` as Keras optimizers: configs, files, `Model.fit`, wrappers; and what each is for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin.families import own
from tests.support.fused_runs import assert_same, debug_log, to_numpy, variables_of

OPTIMIZERS = fusemin.optimizers
# Arguments that are no defaults.
ARGUMENTS = {
    "Adan": {"beta_1": 0.9, "beta_2": 0.8, "beta_3": 0.95, "epsilon": 1e-4, "weight_decay": 0.1, "no_prox": True},
    "Prodigy": {
        "beta_1": 0.8,
        "beta_2": 0.99,
        "beta_3": 0.9,
        "epsilon": 1e-4,
        "weight_decay": 0.1,
        "d0": 1e-3,
        "d_coef": 2.0,
        "use_bias_correction": True,
    },
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
    classes = [name for name in OPTIMIZERS.__all__ if isinstance(getattr(OPTIMIZERS, name), type)]
    found = {name for name in classes if issubclass(getattr(OPTIMIZERS, name), keras.optimizers.Optimizer)}
    assert set(ARGUMENTS) == {name for name in found if not name.startswith("Cautious")}


@every_optimizer
def test_config(name):
    optimizer = make(name, keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), clipnorm=1.0)
    config = optimizer.get_config()
    assert config.items() >= (ARGUMENTS[name] | {"clipnorm": 1.0}).items()
    serialized = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.serialize(fusemin.fuse(optimizer)) == serialized
    cls = getattr(OPTIMIZERS, name)
    assert serialized["registered_name"] == f"fusemin>{name}"
    for again in (cls.from_config(config), keras.optimizers.deserialize(serialized)):
        assert type(again) is cls
        assert again.get_config() == optimizer.get_config()


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
        ("Prodigy", {"beta_3": 2}, r"`beta_3` must be in \[0, 1\), it is 2"),
        ("Prodigy", {"d0": 0.0}, "`d0` must be positive, it is 0.0"),
        ("ScheduleFreeAdamW", {"beta_1": 0.0}, r"`beta_1` must be in \(0, 1\), it is 0"),
        ("ScheduleFreeAdamW", {"warmup_steps": -1}, "`warmup_steps` must be a count of steps, it is -1"),
    ],
)
def test_arguments_out_of_range(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(OPTIMIZERS, name)(**arguments)


# The papers, line by line in NumPy, on a quadratic function.

_CURVATURES, _START = np.array([1.0, 30.0]), np.array([3.0, -2.0])


def _quadratic(x):
    return tf.reduce_sum(tf.constant(_CURVATURES, x.dtype) * (x - 1.0) ** 2)


def _gradient(x):
    return 2 * _CURVATURES * (x - 1)


def _adan_of_the_paper(num_steps, lr, decay=0.1, epsilon=1e-8):
    """Algorithm 1 of Xie et al. 2022, whose betas are 1 minus ours, with the corrections of the authors' code."""
    beta_1, beta_2, beta_3 = 1 - 0.98, 1 - 0.92, 1 - 0.99
    x, m, v, n = _START, 0.0, 0.0, 0.0
    before = _gradient(x)
    for k in range(1, num_steps + 1):
        g = _gradient(x)
        m = (1 - beta_1) * m + beta_1 * g
        v = (1 - beta_2) * v + beta_2 * (g - before)
        n = (1 - beta_3) * n + beta_3 * (g + (1 - beta_2) * (g - before)) ** 2
        m_hat, v_hat, n_hat = (y / (1 - (1 - b) ** k) for y, b in ((m, beta_1), (v, beta_2), (n, beta_3)))
        rate = lr / (np.sqrt(n_hat) + epsilon)
        x = (x - rate * (m_hat + (1 - beta_2) * v_hat)) / (1 + decay * lr)
        before = g
    return x


def _schedule_free_of_the_paper(num_steps, lr, decay=0.1, epsilon=1e-8):
    """Algorithm 1 of Defazio et al. 2024; x and y."""
    beta_1, beta_2 = 0.9, 0.999
    z = x = _START
    v, total = 0.0, 0.0
    for t in range(1, num_steps + 1):
        y = (1 - beta_1) * z + beta_1 * x
        g = _gradient(y)
        v = beta_2 * v + (1 - beta_2) * g**2
        rate = lr * np.sqrt(1 - beta_2**t)
        z = z - rate * g / (np.sqrt(v) + epsilon) - rate * decay * y
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
    return x, (1 - beta_1) * z + beta_1 * x


def _prodigy_of_the_paper(num_steps, lr, decay=0.1, epsilon=1e-8, d=0.01):
    """Algorithm 4 of Mishchenko & Defazio 2023; x and d."""
    beta_1, beta_2 = 0.9, 0.999
    x, m, v, r, s, root = _START, 0.0, 0.0, 0.0, 0.0, np.sqrt(beta_2)
    for _ in range(num_steps):
        g = _gradient(x)
        m = beta_1 * m + (1 - beta_1) * d * g
        v = beta_2 * v + (1 - beta_2) * d**2 * g**2
        r = root * r + (1 - root) * lr * d**2 * np.dot(g, _START - x)
        s = root * s + (1 - root) * lr * d**2 * g
        x = x - lr * d * (m / (np.sqrt(v) + d * epsilon) + decay * x)
        d = max(d, r / np.sum(np.abs(s)))
    return x, d


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(("name", "lr"), [("Adan", 0.25), ("ScheduleFreeAdamW", 0.125), ("Prodigy", 1.0)])
def test_the_papers(name, lr, in_parts):
    """Also where the two numbers are variables of their own: the sums of Prodigy are over both."""
    num_steps = 60
    # x - x0 is of the size of d0 at first: of the default, 1e-6, float64 would know ten digits.
    optimizer = getattr(OPTIMIZERS, name)(lr, weight_decay=0.1, **({"d0": 0.01} if name == "Prodigy" else {}))
    parts = [_START[:1], _START[1:]] if in_parts else [_START]
    variables = [tf.Variable(part) for part in parts]
    assert fusemin.explain(optimizer, variables).fused
    fusemin.minimize(lambda: _quadratic(tf.concat(variables, 0)), num_steps, optimizer)
    got = np.concatenate([v.numpy() for v in variables])
    if name == "Adan":
        np.testing.assert_allclose(got, _adan_of_the_paper(num_steps, lr), rtol=1e-12)
    elif name == "Prodigy":
        x, d = _prodigy_of_the_paper(num_steps, lr)
        np.testing.assert_allclose(got, x, rtol=1e-11)
        np.testing.assert_allclose(optimizer._d.numpy(), d, rtol=1e-11)
    else:
        np.testing.assert_allclose(got, _schedule_free_of_the_paper(num_steps, lr)[1], rtol=1e-12)


# Schedule-free: where it evaluates.


def test_the_average_is_that_of_the_paper_and_converges():
    num_steps = 400
    optimizer, v = OPTIMIZERS.ScheduleFreeAdamW(0.125), tf.Variable(_START)
    assert fusemin.explain(optimizer, [v]).fused
    fusemin.minimize(lambda: _quadratic(v), num_steps, optimizer)
    x, y = _schedule_free_of_the_paper(num_steps, 0.125, decay=0.0)
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
    assert float(_quadratic(tf.constant(average))) < 1e-3 * float(_quadratic(tf.constant(_START)))


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


# Prodigy: sums over all variables.


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_prodigy_needs_no_tuning(scale):
    """With the defaults it comes near the solution whatever its distance, where Adam with its own does not."""
    gaps = []
    for optimizer in (OPTIMIZERS.Prodigy(), keras.optimizers.Adam()):
        x = tf.Variable(np.zeros(10), dtype=tf.float64)
        target = tf.constant(np.random.default_rng(0).standard_normal(10) * scale)
        curvatures = tf.constant(np.logspace(0, 3, 10))
        fusemin.minimize(lambda x=x, t=target, c=curvatures: tf.reduce_sum(c * (x - t) ** 2), 1500, optimizer)
        gaps.append(float(tf.reduce_max(tf.abs(x - target))) / scale)
    assert gaps[0] < 1e-3, gaps
    assert scale <= 1.0 or gaps[1] > 0.5


def test_prodigy_of_several_dtypes_is_stock():
    variables = [tf.Variable([1.0]), tf.Variable([2.0], dtype=tf.float64)]
    optimizer = OPTIMIZERS.Prodigy(d0=0.1)
    row = fusemin.explain(optimizer, variables).rows[0]
    assert row.reason == "the sums of rule 'prodigy' are over variables of several dtypes or devices"
    fusemin.minimize(lambda: tf.reduce_sum(tf.cast(variables[0], tf.float64) ** 2 + variables[1] ** 2), 3, optimizer)
    assert float(variables[0][0]) < 1.0 > float(variables[1][0]) - 1.0


# Cautious twins.

CAUTIOUS = [name for name in OPTIMIZERS.__all__ if name.startswith("Cautious")]


def _masked(before, after, gradient):
    """Algorithm 1 of Liang et al. 2024."""
    move = before - after
    agrees = move * gradient > 0
    return before - move * agrees * before.size / (agrees.sum() + 1)


@pytest.mark.parametrize("name", CAUTIOUS)
@pytest.mark.parametrize("prepare", [fusemin.fuse, lambda o: o], ids=["fused", "stock"])
def test_a_cautious_twin_masks_what_its_base_does(name, prepare):
    """A step at a time: the base takes the same from the same state, with its slots those of the twin."""
    arguments = {"momentum": 0.9} if name == "CautiousSGD" else {}
    twin_class = getattr(OPTIMIZERS, name)
    base_class = twin_class.__mro__[2]
    assert twin_class is OPTIMIZERS.cautious(base_class)
    rng = np.random.default_rng(0)
    start = rng.standard_normal(40)
    x, y = tf.Variable(start), tf.Variable(start)
    twin, base = prepare(twin_class(0.01, **arguments)), base_class(0.01, **arguments)
    if name == "CautiousAdamW":
        twin.weight_decay = base.weight_decay = None  # It is not masked.
    masked = 0
    for _ in range(6):
        gradient = rng.standard_normal(40)
        before = x.numpy()
        y.assign(before)
        twin.apply_gradients([(tf.constant(gradient), x)])
        base.apply_gradients([(tf.constant(gradient), y)])
        np.testing.assert_allclose(x, _masked(before, y.numpy(), gradient), rtol=1e-12)
        masked += np.sum(x.numpy() == before)
    assert masked > 0


def test_the_decay_of_keras_is_not_masked():
    x = tf.Variable([1.0, 2.0], dtype=tf.float64)
    OPTIMIZERS.CautiousAdamW(0.5, weight_decay=0.25).apply_gradients([(tf.zeros([2], tf.float64), x)])
    np.testing.assert_allclose(x, [0.875, 1.75])


def test_fit_and_files_of_a_cautious_twin(tmp_path):
    optimizer = fusemin.fuse(OPTIMIZERS.CautiousAdamW(0.01, beta_1=0.8))
    model = fitted(optimizer)
    assert_near(all_of(model), all_of(fitted(OPTIMIZERS.CautiousAdamW(0.01, beta_1=0.8))))
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.optimizer) is OPTIMIZERS.CautiousAdamW
    assert loaded.optimizer.get_config() == optimizer.get_config()
    assert_near(all_of(fit(loaded)), all_of(fit(model)))


def test_what_has_no_cautious_twin():
    for base in (keras.optimizers.LossScaleOptimizer, OPTIMIZERS.CautiousAdam):
        with pytest.raises(TypeError, match="optimizers that take steps of their own, it is"):
            OPTIMIZERS.cautious(base)
    for base in (tf.keras.losses.Loss, keras.optimizers.Adam(), tf.compat.v1.train.AdamOptimizer):
        with pytest.raises(TypeError, match="must be a class of Keras 3 optimizers"):
            OPTIMIZERS.cautious(base)


def test_a_cautious_twin_of_a_class_without_a_rule():
    class Mine(keras.optimizers.Adam):
        pass

    x = tf.Variable([1.0, -2.0])
    optimizer = OPTIMIZERS.cautious(Mine)(0.1)
    assert fusemin.explain(optimizer, [x]).rows[0].reason == "fusemin.optimizers CautiousMine has no fused rule"
    fusemin.minimize(lambda: tf.reduce_sum(x**2), 3, optimizer)


def test_a_build_without_the_option(monkeypatch):
    monkeypatch.setattr(own, "OPTIONS", {})
    assert fusemin.explain(OPTIMIZERS.CautiousAdam(), [tf.Variable(1.0)]).rows[0].reason == (
        "CautiousAdam uses the option 'cautious', which this build of fusemin has not, which is not fused"
    )
