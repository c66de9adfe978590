"""Callbacks, the time limit, and what a run returns."""

import csv
import datetime
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import Status
from tests.runs.fits import Fit, assert_same

JIT = pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])


@JIT
def test_every_so_many_steps_is_exact(jit_compile):
    fit, states = Fit(), []

    def trace_fn(q):
        return {"twice": 2.0 * q.loss}

    result = fit.minimizer(trace_fn=trace_fn, jit_compile=jit_compile).run(105, callbacks=states.append, every=20)
    assert [state.step for state in states] == [20, 40, 60, 80, 100, 105]
    assert [len(state.losses) for state in states] == [20] * 5 + [5]
    assert_same(np.concatenate([state.trace["twice"] for state in states]), result.trace["twice"])
    assert_same(2.0 * np.concatenate([state.losses for state in states]), result.trace["twice"])
    assert states[-1].loss == states[-1].losses[-1]
    assert states[0].variables == fit.variables
    assert states[0].num_steps == 105
    assert "step=20" in repr(states[0])


def test_a_few_times_a_second():
    times = []
    result = Fit().minimizer().run(400_000, callbacks=lambda state: times.append(time.monotonic()), time_limit=3.0)
    intervals = np.diff(times)[5:]  # The first segments find out how long a step takes.
    assert result.status is Status.TIME_LIMIT or result.steps == 400_000
    assert len(intervals) == 0 or 0.05 < np.median(intervals) < 1.0


def test_every_so_many_seconds():
    calls = []
    every = datetime.timedelta(seconds=0.2)
    result = (
        Fit().minimizer().run(10**8, callbacks=lambda state: calls.append(state.seconds), every=every, time_limit=2)
    )
    assert result.status is Status.TIME_LIMIT
    assert 2.0 <= result.seconds < 3.0
    assert 4 <= len(calls) <= 11


@JIT
def test_stop(jit_compile):
    seen = []

    def stop(state):
        return "stop" if state.step == 30 else None

    result = (
        Fit().minimizer(jit_compile=jit_compile).run(100, callbacks=[stop, lambda s: seen.append(s.step)], every=10)
    )
    assert seen == [10, 20, 30]
    assert (result.status, result.steps, result.trace.shape[0]) == (Status.STOPPED, 30, 30)
    assert "30 of 100" in result.message


def test_a_misspelt_stop_is_an_error():
    with pytest.raises(ValueError, match="'stpo'"):
        Fit().minimizer().run(10, callbacks=lambda state: "stpo")


@JIT
def test_the_next_step_sees_another_learning_rate(jit_compile):
    fit, whole = Fit(), Fit()

    def lower(state):
        fit.optimizer.learning_rate = 0.1 / (1 + state.step)

    result = fit.minimizer(jit_compile=jit_compile).run(40, callbacks=lower, every=10)
    minimizer, parts = whole.minimizer(jit_compile=jit_compile), []
    for i in range(4):
        parts.append(minimizer(10))
        whole.optimizer.learning_rate = 0.1 / (11 + 10 * i)
    assert_same(result.trace, tf.concat(parts, 0))
    assert_same(fit.state(), whole.state())


def test_errors_of_callbacks_are_raised():
    fit = Fit()
    with pytest.raises(ZeroDivisionError):
        fit.minimizer().run(50, callbacks=lambda state: 1 / 0, every=10)
    assert fit.optimizer.iterations.numpy() == 10


def test_csv(tmp_path):
    path = tmp_path / "log.csv"

    def trace_fn(q):
        return {"x0": q.parameters[0][0], "x": q.parameters[0]}

    result = Fit().minimizer(trace_fn=trace_fn).run(25, callbacks=fusemin.CSVLog(path), every=10)
    with open(path, newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["step", "loss", "x0"]
    assert [int(line[0]) for line in lines] == list(range(25))
    assert_same(np.array([line[2] for line in lines], np.float32), result.trace["x0"])


def test_tensorboard(tmp_path):
    result = Fit().minimizer().run(40, callbacks=fusemin.TensorBoard(tmp_path), every=10)
    found = {}
    for record in tf.data.TFRecordDataset([str(path) for path in tmp_path.iterdir()]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    assert set(found) == {"loss", "steps per second"}
    assert_same(np.array([found["loss"][step] for step in (10, 20, 30, 40)]), result.trace[9::10])


@pytest.mark.parametrize("kind", ["optimizer", "variable"])
def test_reduce_on_plateau(kind):
    rate = tf.Variable(1.0) if kind == "variable" else None
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(rate) if rate else keras.optimizers.SGD(1.0)
    reduce = fusemin.ReduceOnPlateau(rate if rate is not None else optimizer, 0.5, patience=2, min_learning_rate=0.1)
    x = tf.Variable(5.25)
    rates = []

    def read(state):
        rates.append(float(rate if rate is not None else optimizer.learning_rate))

    fusemin.minimize(lambda: tf.abs(x), 100, optimizer, trainable_variables=[x], callbacks=[reduce, read], every=5)
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert set(rates) >= {1.0, 0.5, 0.25}
    assert rates[-1] == pytest.approx(0.1)


def test_reduce_on_plateau_cools_down():
    rate = tf.Variable(1.0)
    reduce = fusemin.ReduceOnPlateau(rate, 0.5, patience=2, cooldown=3)
    rates = []

    def state(loss):
        return fusemin.RunState(1, 1, [], 0.0, [[tf.constant([loss])]], 0, None)

    for loss in [1.0, 2.0, 2.0] + [2.0] * 5:
        reduce(state(loss))
        rates.append(float(rate))
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(ValueError, match="factor"):
        fusemin.ReduceOnPlateau(rate, factor=1.5)


def test_repr_of_a_result():
    text = repr(Fit().minimizer(trace_fn=lambda q: {"loss": q.loss, "x": q.parameters[0]}).run(20, keep_best=True))
    assert "Result: finished" in text
    assert "loss (20,), x (20, 3)" in text
    assert "best" in text
    assert max(map(len, text.splitlines())) <= 80


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    result = (
        Fit(uses_seed=True)
        .minimizer(trace_fn=lambda q: {"loss": q.loss, "x": q.parameters[0], "y": q.parameters[1]})
        .run(500, seed=1, trace_every=2)
    )
    figure = result.plot()
    figure.canvas.draw()
    loss, y = figure.axes
    assert [loss.get_ylabel(), y.get_ylabel(), y.get_xlabel()] == ["loss", "y", "step"]
    assert_same(loss.lines[0].get_xdata(), np.arange(0, 500, 2))
    empty = Fit().minimizer(trace_fn=lambda q: q.parameters[0]).run(3)
    with pytest.raises(ValueError, match="nothing to plot"):
        empty.plot()


def test_plot_of_a_noisy_loss():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    rng = np.random.default_rng(0)
    losses = tf.constant(np.exp(rng.normal(size=10_000) - np.linspace(0, 3, 10_000)))
    result = fusemin.Result(losses, 10_000, Status.FINISHED, "", 1.0)
    axes = result.plot().axes[0]
    assert axes.get_yscale() == "log"
    noisy, median = axes.lines
    assert len(noisy.get_xdata()) <= 4000
    assert np.abs(np.diff(median.get_ydata())).sum() < 0.2 * np.abs(np.diff(noisy.get_ydata())).sum()
    assert median.get_ydata()[-1] == pytest.approx(np.exp(-3), rel=0.5)
