"""Options, on the GPU's op kernels with the interpreting driver, bit for bit as on the CPU: the same
optimizer steps with both ops, on the same gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import _build
from tests.support.cuda.gpu_ops_library import gpu_ops
from tests.support.cuda.interpreting_driver import InterpretingDriver

SHAPES = [(3,), (2, 5), (), (0, 2), (17,)]
STEPS = 5
OPTIONS = {
    "none": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 1.0},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "weight_decay": {"weight_decay": 0.01},
    "use_ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema_overwrite_frequency": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "loss_scale_factor": {"loss_scale_factor": 8.0},
    "all": {
        "global_clipnorm": 1.0,
        "weight_decay": 0.01,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 2,
        "loss_scale_factor": 8.0,
    },
}
SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
OPTIMIZERS = {
    "sgd": lambda **options: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, **options),
    "adam": lambda **options: keras.optimizers.Adam(SCHEDULE, **options),
    "nadam": lambda **options: keras.optimizers.Nadam(0.1, **options),
    "lamb": lambda **options: keras.optimizers.Lamb(0.1, **options),
    "lion": lambda **options: keras.optimizers.Lion(0.01, **options),
}


@pytest.fixture
def interpreted(monkeypatch):
    """A function that puts the GPU's ops in the place of the CPU's."""
    driver = InterpretingDriver()
    with driver.installed():

        def switch():
            ops = gpu_ops()
            monkeypatch.setattr(_build, "OPS", ops)
            return driver

        yield switch
    driver.raise_error()


def state_after(optimizer, dtype, gradients):
    """All that the steps leave, as arrays."""
    rng = np.random.default_rng(0)
    variables = [tf.Variable(rng.standard_normal(shape), dtype=dtype, name=f"x{i}") for i, shape in enumerate(SHAPES)]
    fusemin.fuse(optimizer)
    assert fusemin.explain(optimizer, variables).fused
    for step in gradients:
        optimizer.apply_gradients([(tf.cast(g, dtype), v) for g, v in zip(step, variables, strict=True)])
    return {
        **{v.name: v.numpy() for v in variables},
        # Keras gives some of them another name each time.
        **{f"optimizer.variables[{i}]": np.asarray(v) for i, v in enumerate(optimizer.variables)},
    }


def draw(bad_step=None):
    rng = np.random.default_rng(1)
    steps = [[rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1) for shape in SHAPES] for _ in range(STEPS)]
    if bad_step is not None:
        steps[bad_step][1][1, 2] = np.inf
    return steps


def assert_same(got, want, sums=False):
    """`sums` is whether there are sums in the step, which the GPU adds up in another order: then the last bits of a
    norm differ, and so may a unit in the last place of what is scaled by it, at each of the steps."""
    assert got.keys() == want.keys()
    for name, expected in want.items():
        if not sums:
            np.testing.assert_array_equal(got[name], expected, err_msg=name)
            continue
        expected = np.asarray(expected)
        if expected.dtype.kind == "f" or expected.dtype.name == "bfloat16":
            unit = float(np.finfo(expected.dtype).eps if expected.dtype.kind == "f" else 2**-7) * STEPS
            expected, found = expected.astype(np.float64), np.asarray(got[name]).astype(np.float64)
            np.testing.assert_allclose(found, expected, rtol=unit, atol=unit, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name], expected, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_as_on_the_cpu(interpreted, name, options, dtype):
    def make():
        return OPTIMIZERS[name](name=name, **OPTIONS[options])

    want = state_after(make(), dtype, draw())
    driver = interpreted()
    assert_same(
        state_after(make(), dtype, draw()), want, sums=name == "lamb" or "clipnorm" in " ".join(OPTIONS[options])
    )
    assert driver.launches


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bad_step", [None, 0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dynamic_loss_scale(interpreted, name, bad_step, dtype):
    def make():
        optimizer = OPTIMIZERS[name](name=name)
        return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0, dynamic_growth_steps=2)

    want = state_after(make(), dtype, draw(bad_step))
    driver = interpreted()
    assert_same(state_after(make(), dtype, draw(bad_step)), want, sums=name == "lamb")
    assert {launch.kernel for launch in driver.launches} >= {f"sum_gradients_{dtype}"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_traces_of_minimize(interpreted, dtype):
    def losses():
        x = tf.Variable([1.0, 2.0, 3.0], dtype=dtype, name="x")
        y = tf.Variable(np.linspace(-1, 1, 9), dtype=dtype, name="y")
        trace = fusemin.minimize(
            lambda: tf.reduce_sum((x - 2.0) ** 4) + tf.reduce_sum(tf.cos(y)),
            7,
            keras.optimizers.Adam(0.1, name="adam"),
            trainable_variables=[x, y],
            trace_fn=lambda q: (q.loss, q.gradients, q.parameters, tf.sqrt(q.loss + 100.0)),
        )
        return {str(i): t.numpy() for i, t in enumerate(tf.nest.flatten(trace))}

    want = losses()
    driver = interpreted()
    assert_same(losses(), want)
    assert {launch.kernel for launch in driver.launches} == {f"adam_0_{dtype}_options", "fill_rows"}
