"""Each rule and option on a GPU gives what it gives on the CPU, by `fuse` and by `minimize`, in each dtype."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import families
from tests.gpu_device.runs import bound, copy_state, on_cpu, state, variables_of
from tests.support.optimizer_table import OPTION_ROWS, ROWS
from tests.support.side_by_side import draw, put

# Relative to the larger of a value and 0.1. The arithmetic is the CPU's but for powers and the order of sums.
LIMITS = {"float32": 2e-6, "float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}
SHAPES = [(7, 5), (), (33,)]
# Enough for an accumulation of three steps, or an average that overwrites, and one step more.
NUM_STEPS = 4


def _rule(row):
    with tf.device("CPU:0"):
        return families.rule_name(row.make(learning_rate=0.01))


def _one_of_each_rule():
    return list({_rule(row): row for row in reversed(ROWS)}.values())


def _ids(rows):
    return [pytest.param(row, id=row.id) for row in rows]


RULES = _one_of_each_rule()
# Of each set of options one optimizer, Adam where it has them.
OPTIONS = list({str(row.arguments): row for row in sorted(OPTION_ROWS, key=lambda r: r.optimizer == "Adam")}.values())


def _start(row, dtype, num_steps):
    return draw(_rule(row), tf.as_dtype(dtype), row.num_variables, num_steps, shapes=SHAPES)


def _pair(make, start, dtype):
    """The optimizer on the CPU and on the GPU, both in the state of the start."""
    arrays = [p.astype(tf.as_dtype(dtype).as_numpy_dtype) for p in start.params]
    here, there = (bound(make, arrays, device) for device in ("CPU:0", "GPU:0"))
    put(here[1], start)
    copy_state(here[1], there[1])
    assert {v.device[-5:] for v in variables_of(there[1])} == {"GPU:0"}
    return here, there


def _check(there, here, dtype):
    for i, (got, want) in enumerate(zip(there, here, strict=True)):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        assert np.isfinite(want).all()
        difference = np.max(np.abs(got - want) / np.maximum(np.abs(want), 0.1), initial=0.0)
        assert difference <= LIMITS[dtype], f"of variable {i}: {difference:.3g}"


def _check_fuse(row, dtype, num_steps):
    start = _start(row, dtype, num_steps)
    here, there = _pair(lambda: fusemin.fuse(row.make(learning_rate=0.01)), start, dtype)
    for gradients in start.gradients:
        for (optimizer, update), device in ((here, "CPU:0"), (there, "GPU:0")):
            with tf.device(device):
                tensors = [tf.constant(g, update.variables[0].dtype) for g in gradients]
                optimizer.apply_gradients(list(zip(tensors, update.variables, strict=True)))
    _check(state(there[1]), state(here[1]), dtype)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("row", _ids(RULES))
def test_a_rule_by_fuse(row, dtype, kernels):
    _check_fuse(row, dtype, 1)
    assert {launch.kernel.split("_")[-1] for launch in kernels.launches if launch.kernel != "fill_rows"} == {"plain"}


@pytest.mark.parametrize("row", _ids(OPTIONS))
def test_an_option_by_fuse(row, kernels):
    _check_fuse(row, "float32", NUM_STEPS)
    assert any(launch.kernel.endswith("_around") for launch in kernels.launches)


@pytest.mark.parametrize("row", _ids(RULES + OPTIONS))
def test_minimize(row, kernels):
    start = _start(row, "float32", 0)
    pair = _pair(lambda: row.make(learning_rate=0.01), start, "float32")
    traces = []
    for (optimizer, update), device in zip(pair, ("CPU:0", "GPU:0"), strict=True):
        loss = on_cpu(lambda *xs: tf.add_n([tf.reduce_sum((x - 3.0) ** 2) / 8.0 for x in xs]))
        with tf.device(device):
            trace = fusemin.minimize(
                lambda loss=loss, update=update: loss(*[v.read_value() for v in update.variables]),
                NUM_STEPS,
                optimizer,
                trainable_variables=update.variables,
                trace_fn=lambda q: (q.loss, q.gradients, q.parameters),
            )
        traces.append([*tf.nest.flatten(trace), *state(update)])
    _check(traces[1], traces[0], "float32")
    assert kernels.launches


def test_two_devices():
    if len(tf.config.list_logical_devices("GPU")) < 2:
        pytest.skip("there is one device")
    results = []
    for devices in (("CPU:0", "CPU:0", "CPU:0"), ("GPU:1", "GPU:0", "GPU:1")):
        variables = []
        for i, device in enumerate(devices):
            with tf.device(device):
                variables.append(tf.Variable(np.linspace(1.0, 2.0, 3 + i, dtype=np.float32), name=f"x{i}"))
        # Of a rule that counts steps the op on the other device gets the count by a cast of TensorFlow's, which is not
        # run here.
        with tf.device(devices[0]):
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
            optimizer.build(variables)
        for variable in optimizer.variables:
            variable = getattr(variable, "value", variable)
            number = 0.01 if "learning_rate" in variable.name else 0
            variable.assign(np.full(variable.shape, number, variable.dtype.as_numpy_dtype))
        loss = on_cpu(lambda *xs: tf.add_n([tf.reduce_sum((x - 3.0) ** 2) for x in xs]))
        explanation = fusemin.explain(optimizer, variables)
        assert explanation.fused, explanation
        trace = fusemin.minimize(
            lambda loss=loss, variables=variables: loss(*[v.read_value() for v in variables]),
            NUM_STEPS,
            optimizer,
            trainable_variables=variables,
            trace_fn=lambda q: (q.loss, q.gradients, q.parameters),
        )
        results.append([*tf.nest.flatten(trace), *variables, optimizer.iterations.value])
    _check(results[1], results[0], "float32")
