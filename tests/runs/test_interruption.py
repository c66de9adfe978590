"""Ctrl-C: a real SIGINT to a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import pytest
import tensorflow as tf

import fusemin
from tests.runs.fits import Fit

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


def _interrupt(how, mode, after=1.0, times=1, program=PROGRAM):
    """Starts the program, sends SIGINT, returns what it said, and how many seconds after."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", program, how, mode], stdout=subprocess.PIPE, text=True, env=environment
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


BARE = """
import json, sys, threading, time
import keras, tensorflow as tf, fusemin

x = [tf.Variable(tf.zeros([100])) for _ in range(3)]
adam = keras.optimizers.Adam(1e-3)
loss = lambda: tf.add_n([tf.reduce_sum((v - 5.0) ** 2) for v in x])
fit = fusemin.Minimizer(loss, adam, trainable_variables=x)
fit(100)
start = [v.numpy() for v in [*x, *adam.variables]]
MANY = 1_000_000
calls = {
    "Minimizer": lambda: fit(MANY),
    "minimize": lambda: fusemin.minimize(loss, MANY, adam, trainable_variables=x),
    "loss": lambda: fusemin.minimize(loss, MANY, adam, trainable_variables=x, jit_compile="loss"),
}


def tell():
    # Once the loop runs.
    while int(adam.iterations.numpy()) < 1000:
        time.sleep(0.01)
    print("ready", flush=True)


threading.Thread(target=tell).start()
said = {"status": "finished"}
try:
    calls[sys.argv[1]]()
except KeyboardInterrupt:
    said["status"] = "KeyboardInterrupt"
said["seconds"] = time.time()
end = [v.numpy() for v in [*x, *adam.variables]]
for v, value in zip([*x, *adam.variables], start):
    v.assign(value)
said["steps"] = int(end[len(x)]) - 100
fit(said["steps"])
said["same"] = all((v.numpy() == value).all() for v, value in zip([*x, *adam.variables], end))
print(json.dumps(said), flush=True)
"""


@pytest.mark.parametrize("how", ["Minimizer", "minimize", "loss"])
def test_of_a_call_without_keywords(how, record_difference):
    """TensorFlow cancels the loop, after a whole step."""
    said, seconds = _interrupt(how, "default", program=BARE)
    assert said["status"] == "KeyboardInterrupt"
    assert 1000 < said["steps"] < 1_000_000
    assert said["same"]
    record_difference("seconds from SIGINT to the return", seconds, 1.3, f"{how}, no keywords")
    assert seconds < 1.3


def _program_of(how):
    """What may not be cancelled, and what may."""
    fit = Fit()
    x, y = fit.variables
    loss, trace_fn, optimizer = fit.loss, lambda q: q.loss, fit.optimizer
    if how == "the loss assigns":
        loss = lambda: fit.loss() + 0.0 * y.assign_add(0.1)  # noqa: E731
    elif how == "trace_fn assigns":
        count = tf.Variable(0.0)
        trace_fn = lambda q: count.assign_add(q.loss)  # noqa: E731
    elif how == "constraint":
        fit.variables[0] = tf.Variable(tf.zeros([3]), constraint=tf.nn.relu)
    elif how == "two dtypes":
        fit.variables[1] = tf.Variable(tf.constant(0.5, tf.float64))
        loss = lambda: tf.reduce_sum(fit.variables[0] ** 2) + tf.cast(fit.variables[1], tf.float32) ** 2  # noqa: E731
    elif how == "stock":

        class Own(keras.optimizers.Adam):
            def update_step(self, gradient, variable, learning_rate):
                super().update_step(gradient, variable, learning_rate)

        optimizer = Own(0.1)
    elif how == "slices":
        loss = lambda: tf.reduce_sum(tf.gather(x, [0, 1])) ** 2 + y**2  # noqa: E731
    minimizer = fusemin.Minimizer(loss, optimizer, trainable_variables=fit.variables, trace_fn=trace_fn)
    minimizer(5)
    return minimizer._program


@pytest.mark.parametrize(
    "how",
    ["the loss assigns", "trace_fn assigns", "constraint", "two dtypes", "stock", "slices", "one op"],
)
def test_what_is_cancelled(how):
    """Only a loop whose steps are one op each: another one could be left in the midst of a step."""
    assert bool(_program_of(how).interruptible) == (how == "one op")


def _interrupted(minimizer):
    """Within a call, or in any case."""
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    minimizer(200_000)
    time.sleep(60)


def test_who_waits_for_signals_hears_of_them():
    """An event loop, which has a socket of its own for that; and what another call is told is not what was meant for
    the one before."""
    minimizer = Fit().minimizer()
    minimizer(5)
    there, here = socket.socketpair()
    there.setblocking(False)
    before = signal.set_wakeup_fd(there.fileno())
    try:
        with pytest.raises(KeyboardInterrupt):
            _interrupted(minimizer)
        assert signal.set_wakeup_fd(there.fileno()) == there.fileno()
        here.settimeout(10)
        assert here.recv(10) == bytes([signal.SIGINT])
        assert minimizer(5).shape == [5]
    finally:
        signal.set_wakeup_fd(before)


def test_the_second_one_is_pythons():
    """Also where the first one is not heard, since a callback takes its time."""
    said, seconds = _interrupt("callback", "default", after=0.5, times=2)
    assert said["status"] == "KeyboardInterrupt"
    assert said["whole"]
    assert seconds < 1.3


def test_handlers_are_as_before():
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
