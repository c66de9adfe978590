"""Ctrl-C: a real SIGINT to a real process."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

# Steps of microseconds, for longer than any test waits.
PROGRAM = """
import json, sys, time
import keras, numpy as np, tensorflow as tf, fusemin

how, jit_compile = sys.argv[1], sys.argv[2] == "jit"
x = [tf.Variable(tf.zeros([100])) for _ in range(3)]
adam = keras.optimizers.Adam(1e-3)
loss = lambda: tf.add_n([tf.reduce_sum((v - 5.0) ** 2) for v in x])
minimizer = fusemin.Minimizer(loss, adam, trainable_variables=x, jit_compile=jit_compile)
minimizer.run(100)
said, called = {}, []


def tell(state):
    # Once all is traced and compiled.
    if state.step > 1000 and not called:
        called.append(print("ready", flush=True))


try:
    if how == "run":
        result = minimizer.run(10**9, trace_last=3, callbacks=tell)
        said = {"status": result.status.value, "steps": result.steps, "rows": len(result.trace)}
    elif how == "minimize":
        fusemin.minimize(
            loss, 10**9, adam, trainable_variables=x, jit_compile=jit_compile, trace_last=3,
            callbacks=tell)
    else:
        minimizer.run(10**9, trace_last=3, callbacks=lambda state: print("ready", flush=True) or time.sleep(60))
except KeyboardInterrupt:
    said = {"status": "KeyboardInterrupt"}
said["seconds"] = time.time()
said["iterations"] = int(adam.iterations.numpy())
# The last step is whole: all variables have taken it.
said["whole"] = len({float(v.numpy()[0]) for v in x}) == 1
again = minimizer(10).numpy()
said["goes on"] = bool(np.isfinite(again).all()) and int(adam.iterations.numpy()) == said["iterations"] + 10
print(json.dumps(said), flush=True)
"""


def _interrupt(how, mode, after=1.0, times=1):
    """Starts the program, sends SIGINT, returns what it said, and how many seconds after."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, mode], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        for _ in range(times):
            sent = time.time()
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        said = json.loads(process.stdout.readline())
        assert process.wait(60) == 0
    return said, said["seconds"] - sent


@pytest.mark.parametrize("mode", ["default", "jit"])
@pytest.mark.parametrize("how", ["run", "minimize"])
def test_returns_within_a_second(how, mode, record_difference):
    said, seconds = _interrupt(how, mode)
    if how == "run":
        assert said["status"] == "interrupted"
        assert said["rows"] == 3
        assert said["iterations"] == said["steps"] + 100
    else:
        assert said["status"] == "KeyboardInterrupt"
    assert said["iterations"] > 100
    assert said["whole"]
    assert said["goes on"]
    record_difference("seconds from SIGINT to the return", seconds, 1.3, f"{how}, {mode}")
    assert seconds < 1.3


def test_the_second_one_is_pythons():
    """Also where the first one is not heard, since a callback takes its time."""
    said, seconds = _interrupt("callback", "default", after=0.5, times=2)
    assert said["status"] == "KeyboardInterrupt"
    assert said["whole"]
    assert seconds < 1.3


def test_handlers_are_as_before():
    from tests.runs.fits import Fit

    def own(number, frame):
        raise ValueError("mine")

    before = signal.signal(signal.SIGINT, own)
    try:
        with pytest.raises(ValueError, match="mine"):
            Fit().minimizer().run(10, callbacks=lambda state: signal.raise_signal(signal.SIGINT), every=5)
        assert signal.getsignal(signal.SIGINT) is own
        signal.signal(signal.SIGINT, signal.default_int_handler)
        result = Fit().minimizer().run(10, callbacks=lambda state: signal.raise_signal(signal.SIGINT), every=5)
        assert (result.status.value, result.steps) == ("interrupted", 5)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
