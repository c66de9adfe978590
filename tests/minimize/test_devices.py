"""Variables on several devices: an op for each, and the count of steps advances once. The devices are logical CPUs,
which must be set before TensorFlow starts."""

import json

import pytest

from tests.support.minimize_runs import run_program

PROGRAM = """
    import json, logging
    import keras, numpy as np, tensorflow as tf, tf_keras
    import fusemin

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    logging.basicConfig()
    logger = logging.getLogger("fusemin")
    logger.setLevel(logging.DEBUG)
    messages = []
    logger.addHandler(type("Keep", (logging.Handler,), {"emit": lambda self, r: messages.append(r.getMessage())})())

    def variables(devices):
        made = []
        for i, device in enumerate(devices):
            with tf.device(device):
                made.append(tf.Variable(np.linspace(1.0, 2.0, 3 + i), dtype=tf.float64, name=f"x{i}"))
        return made

    def loss_of(xs):
        return lambda: tf.add_n([tf.reduce_sum((x - 3.0) ** 4) for x in xs])

    def stock(make, devices):
        xs, optimizer = variables(devices), make()
        loss = loss_of(xs)
        losses = []
        for _ in range(6):
            with tf.GradientTape() as tape:
                value = loss()
            losses.append(float(value))
            optimizer.apply_gradients(zip(tape.gradient(value, xs), xs))
        return losses, xs, optimizer

    def fused(make, devices):
        xs, optimizer = variables(devices), make()
        losses, gradients, parameters = fusemin.minimize(
            loss_of(xs), 6, optimizer, trainable_variables=xs, trace_fn=lambda q: (q.loss, q.gradients, q.parameters)
        )
        for x, rows in zip(xs, parameters):
            np.testing.assert_array_equal(rows[-1], x)
        return losses.numpy().tolist(), xs, optimizer

    def wrapped(make, devices):
        xs, optimizer = variables(devices), fusemin.fuse(make())
        loss = loss_of(xs)
        losses = []
        for _ in range(6):
            with tf.GradientTape() as tape:
                value = loss()
            losses.append(float(value))
            optimizer.apply_gradients(zip(tape.gradient(value, xs), xs))
        return losses, xs, optimizer

    MAKE = {
        "momentum": lambda: tf.compat.v1.train.MomentumOptimizer(0.01, 0.5),
        "adam": lambda: tf_keras.optimizers.legacy.Adam(0.01),
        "powers": lambda: tf.compat.v1.train.AdamOptimizer(0.01),
        "keras sgd": lambda: keras.optimizers.SGD(0.01),
        "keras adam": lambda: keras.optimizers.Adam(0.01),
    }
    report = {}
    for name, make in MAKE.items():
        for where, devices in {
            "two": ["CPU:0", "CPU:1"], "back": ["CPU:1", "CPU:0", "CPU:1"], "away": ["CPU:1", "CPU:2"]
        }.items():
            want = stock(make, devices)
            for how, run in {"minimize": fused, "fuse": wrapped}.items():
                messages.clear()
                got = run(make, devices)
                differences = [float(np.abs(a.numpy() - b.numpy()).max()) for a, b in zip(got[1], want[1])]
                count = getattr(got[2], "iterations", None)
                report[f"{name}, {where}, {how}"] = {
                    "losses": float(np.abs(np.subtract(got[0], want[0])).max()),
                    "variables": max(differences),
                    "count": None if count is None else int(count),
                    "fused": any("in one op" in m for m in messages),
                    "messages": messages[:],
                }
    print(json.dumps(report))
"""

OPTIMIZERS = ["momentum", "adam", "powers", "keras sgd", "keras adam"]
# `tf.compat.v1` has one pair of powers, which an op on another device cannot have.
REASONS = {"powers": "the optimizer's variable 'beta1_power"}


@pytest.fixture(scope="module")
def report():
    return json.loads(run_program(PROGRAM).splitlines()[-1])


@pytest.mark.parametrize("how", ["minimize", "fuse"])
@pytest.mark.parametrize("where", ["two", "back", "away"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_agrees_with_stock(report, optimizer, where, how):
    found = report[f"{optimizer}, {where}, {how}"]
    assert found["losses"] < 1e-10, found
    assert found["variables"] < 1e-12, found
    assert found["count"] in (6, None), found
    if optimizer in REASONS:
        assert any(REASONS[optimizer] in message for message in found["messages"]), found
    else:
        assert found["fused"], found
