"""A run that is killed and started again ends as one that was not, to the bit."""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import Checkpoint, CheckpointMismatchError, Status
from fusemin.runs.checkpoint_files import CheckpointFiles
from tests.runs.fits import Fit, assert_same
from tests.support.families import FAMILIES

ROOT = pathlib.Path(__file__).parents[2]
JIT = pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
NUM_STEPS = 50


@pytest.mark.parametrize(("kills", "jit"), [(40, False), (10, True)], ids=["default", "jit"])
def test_killed_at_any_moment(kills, jit, tmp_path):
    command = [sys.executable, "-m", "tests.runs.killed_fit", str(tmp_path), "--kills", str(kills), *["--jit"] * jit]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    assert f"kills: {kills}" in done.stdout
    # Atomic writing leaves nothing to warn of.
    assert "damaged" not in done.stderr
    ends = sorted(tmp_path.glob("killed_*/end.npz"))
    assert len(ends) == len(list(tmp_path.glob("killed_*")))
    for end in ends:
        with np.load(tmp_path / "whole/end.npz") as whole, np.load(end) as killed:
            assert sorted(whole) == sorted(killed)
            for name in whole:
                np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)


def stop_at(step):
    return lambda state: "stop" if state.step >= step else None


def stopped(directory, fit=None, at=30, every=10, keep=2, num_steps=NUM_STEPS, minimizer=None, **keywords):
    """A run that ends early, with checkpoints."""
    fit = fit or Fit()
    minimizer = fit.minimizer(**(minimizer or {}))
    checkpoint = Checkpoint(directory, every=every, keep=keep)
    return fit, minimizer.run(num_steps, checkpoint=checkpoint, callbacks=stop_at(at), every=5, **keywords)


def resumed(directory, fit=None, num_steps=NUM_STEPS, minimizer=None, **keywords):
    fit = fit or Fit()
    return fit, fit.minimizer(**(minimizer or {})).run(
        num_steps, checkpoint=Checkpoint(directory, every=10), **keywords
    )


OPTIONS = {
    "nothing else": {},
    "trace_every": {"trace_every": 7},
    "trace_last": {"trace_last": 35},
    "trace_to": {"trace_to": True},
    "skip": {"on_nonfinite": "skip"},
    "best": {"keep_best": True},
    "monitored": {"keep_best": lambda traced: -traced["loss"]},
}


@JIT
@pytest.mark.parametrize("option", OPTIONS)
def test_resumed(option, jit_compile, tmp_path):
    keywords = dict(OPTIONS[option])
    if "trace_to" in keywords:
        keywords["trace_to"] = tmp_path / "trace"
    minimizer = {"jit_compile": jit_compile, "trace_fn": lambda q: {"loss": q.loss, "x": q.parameters[0]}}
    whole = Fit(uses_seed=True)
    expected = whole.minimizer(**minimizer).run(NUM_STEPS, seed=(1, 2), **keywords)
    _, first = stopped(tmp_path / "c", Fit(uses_seed=True), seed=(1, 2), minimizer=minimizer, **keywords)
    assert (first.status, first.steps) == (Status.STOPPED, 30)
    fit, result = resumed(tmp_path / "c", Fit(uses_seed=True), seed=(1, 2), minimizer=minimizer, **keywords)
    assert (result.status, result.steps) == (Status.FINISHED, NUM_STEPS)
    assert_same(result.trace, expected.trace)
    assert_same(fit.state(), whole.state())
    if result.best is not None:
        assert (result.best.step, result.best.value) == (expected.best.step, expected.best.value)
        assert_same(result.best.parameters, expected.best.parameters)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_slots_of_each_family(family, tmp_path):
    whole = Fit(family.adam(0.1))
    expected = whole.minimizer()(NUM_STEPS)
    stopped(tmp_path, Fit(family.adam(0.1)))
    fit, result = resumed(tmp_path, Fit(family.adam(0.1)))
    assert_same(result.trace, expected)
    assert_same([v.numpy() for v in fit.variables], [v.numpy() for v in whole.variables])


def test_an_optimizer_that_is_not_fused(tmp_path):
    class Own(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    whole = Fit(Own(0.1, name="own"))
    expected = whole.minimizer()(NUM_STEPS)
    stopped(tmp_path, Fit(Own(0.1, name="own")))
    fit, result = resumed(tmp_path, Fit(Own(0.1, name="own")))
    assert_same(result.trace, expected)
    assert_same(fit.state(), whole.state())


def test_variables_that_the_loss_writes(tmp_path):
    def make():
        x, count = tf.Variable(1.0), tf.Variable(0.0, trainable=False)
        generator = tf.random.Generator.from_seed(3)

        def loss():
            return (x - 0.01 * count.assign_add(1.0)) ** 2 + 0.1 * x * generator.normal([])

        return fusemin.Minimizer(loss, keras.optimizers.Adam(0.1), trainable_variables=[x])

    expected = make()(NUM_STEPS)
    make().run(NUM_STEPS, checkpoint=Checkpoint(tmp_path, every=7), callbacks=stop_at(30), every=5)
    assert_same(make().run(NUM_STEPS, checkpoint=Checkpoint(tmp_path, every=7)).trace, expected)


def test_data_that_is_shuffled_without_a_seed(tmp_path):
    def make():
        x = tf.Variable(1.0)
        return fusemin.Minimizer(lambda b: x**2 * 0.0 + b, keras.optimizers.SGD(0.1), trainable_variables=[x])

    def data():
        return tf.data.Dataset.range(10).shuffle(10).map(lambda i: tf.cast(i, tf.float32))

    make().run(20, data=data(), checkpoint=Checkpoint(tmp_path), callbacks=stop_at(4), every=4)
    result = make().run(20, data=data(), checkpoint=Checkpoint(tmp_path))
    assert sorted(result.trace[:10].numpy()) == sorted(result.trace[10:].numpy()) == list(range(10))


def test_callbacks_find_their_state(tmp_path):
    path = tmp_path / "log.csv"

    def run(num_callbacks_before_the_kill=None):
        calls = []

        def die(state):
            calls.append(state)
            if len(calls) == num_callbacks_before_the_kill:
                raise ZeroDivisionError

        return (
            Fit()
            .minimizer()
            .run(
                NUM_STEPS,
                callbacks=[fusemin.CSVLog(path), die],
                every=5,
                checkpoint=Checkpoint(tmp_path / "c", every=10),
            )
        )

    with pytest.raises(ZeroDivisionError):
        run(7)
    assert len(path.read_text().splitlines()) == 36
    result = run()
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", *map(str, range(NUM_STEPS))]
    assert lines[-1].split(",")[1] == str(result.trace.numpy()[-1])


def test_a_run_that_has_ended_is_returned(tmp_path):
    criterion = {"convergence_criterion": fusemin.LossNotDecreasing(atol=100.0, window_size=3, min_num_steps=23)}
    for minimizer, status in (({}, Status.FINISHED), (criterion, Status.CONVERGED)):
        directory = tmp_path / status.name
        fit, first = resumed(directory, minimizer=minimizer)
        again, second = resumed(directory, minimizer=minimizer)
        assert first.status is second.status is status
        assert first.steps == second.steps
        assert_same(first.trace, second.trace)
        assert_same(again.state(), fit.state())


def test_more_steps_go_on(tmp_path):
    whole = Fit()
    expected = whole.minimizer()(80)
    resumed(tmp_path)
    assert_same(resumed(tmp_path, num_steps=80)[1].trace, expected)


def test_which_are_kept(tmp_path):
    stopped(tmp_path, at=45, every=5, keep=3)
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json")
    assert names == ["step-35.json", "step-40.json", "step-45.json"]
    assert len(list(tmp_path.iterdir())) == 10  # 3 files each, and the trace.


def _damage_json(directory, step):
    path = directory / f"step-{step}.json"
    path.write_text(path.read_text()[:40])


def _change_json(directory, step):
    path = directory / f"step-{step}.json"
    written = json.loads(path.read_text())
    written["facts"] = written["facts"].replace("Adam", "Abam")
    path.write_text(json.dumps(written))


def _cut_data(directory, step):
    (path,) = directory.glob(f"step-{step}.data-*")
    os.truncate(path, path.stat().st_size // 2)


def _change_data(directory, step):
    (path,) = directory.glob(f"step-{step}.data-*")
    content = bytearray(path.read_bytes())
    for i in range(len(content)):
        content[i] ^= 1
    path.write_bytes(content)


def _remove_index(directory, step):
    (directory / f"step-{step}.index").unlink()


def _empty_index(directory, step):
    (directory / f"step-{step}.index").write_bytes(b"")


def _cut_trace(directory, step):
    path = directory / "trace/trace.npy"
    os.truncate(path, path.stat().st_size - 4)


DAMAGES = [_damage_json, _change_json, _cut_data, _change_data, _remove_index, _empty_index, _cut_trace]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.strip("_"))
def test_the_one_before_is_taken(damage, tmp_path):
    whole = Fit()
    expected = whole.minimizer()(NUM_STEPS)
    stopped(tmp_path)
    damage(tmp_path, 30)
    with pytest.warns(UserWarning, match="step 30 is damaged, the one of step 20 is taken"):
        fit, result = resumed(tmp_path)
    assert_same(result.trace, expected)
    assert_same(fit.state(), whole.state())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed(tmp_path)


def test_from_the_beginning_where_none_is_whole(tmp_path):
    expected = Fit().minimizer()(NUM_STEPS)
    stopped(tmp_path, keep=1)
    _cut_data(tmp_path, 30)
    with pytest.warns(UserWarning, match="from its beginning"):
        assert_same(resumed(tmp_path)[1].trace, expected)


def test_from_the_beginning_where_a_leaf_is_damaged(tmp_path):
    """The leaves before it were taken up already."""
    minimizer = {"trace_fn": lambda q: (q.loss, q.parameters[0])}
    expected = Fit().minimizer(**minimizer)(NUM_STEPS)
    stopped(tmp_path, keep=1, minimizer=minimizer)
    os.truncate(tmp_path / "trace/1.npy", 200)
    with pytest.warns(UserWarning, match="from its beginning"):
        assert_same(resumed(tmp_path, minimizer=minimizer)[1].trace, expected)


@JIT
def test_values_are_those_of_the_step_while_the_run_goes_on(jit_compile, tmp_path, monkeypatch):
    write = CheckpointFiles.write

    def write_later(*arguments):
        time.sleep(0.05)
        write(*arguments)

    monkeypatch.setattr(CheckpointFiles, "write", write_later)
    fit, losses = Fit(), []
    callback = lambda state: losses.append(state.loss)  # noqa: E731
    checkpoint = Checkpoint(tmp_path, every=10, keep=100)
    fit.minimizer(jit_compile=jit_compile).run(NUM_STEPS, checkpoint=checkpoint, callbacks=callback, every=10)
    for step in range(10, NUM_STEPS + 1, 10):
        whole = Fit()
        whole.minimizer(jit_compile=jit_compile)(step)
        saved = CheckpointFiles(tmp_path, 100).read(step)
        written = [v.numpy() for v in saved.numbered("variables")]
        for value in whole.state():
            assert any(np.array_equal(value, w) for w in written), (step, value)


def test_an_error_of_the_thread_that_writes_is_raised(tmp_path):
    directory = tmp_path / "c"

    def put_a_file_in_its_place(state):
        if state.step == 20:
            shutil.rmtree(directory)
            directory.write_text("")

    checkpoint = Checkpoint(directory, every=20)
    with pytest.raises((OSError, tf.errors.OpError), match=str(directory)):
        Fit().minimizer().run(NUM_STEPS, checkpoint=checkpoint, callbacks=put_a_file_in_its_place, every=10)


def test_parts_are_removed(tmp_path):
    stopped(tmp_path)
    (tmp_path / "step-40.index").write_bytes(b"x")
    (tmp_path / "step-40_temp").mkdir()
    (tmp_path / "step-44.json.new").write_text("{")
    (tmp_path / "mine.txt").write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed(tmp_path)
    left = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert left == {"step-40", "step-50", "trace", "mine"}


def _other_shapes():
    fit = Fit()
    fit.variables[0] = tf.Variable(tf.zeros([4]))
    return fit, {}


OTHERS = {
    "trainable variables": _other_shapes,
    "optimizer": lambda: (Fit(keras.optimizers.SGD(0.1)), {}),
    "configuration of the optimizer, beta_1": lambda: (Fit(keras.optimizers.Adam(0.1, beta_1=0.8)), {}),
    "learning_rate": lambda: (Fit(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 50))), {}),
    "trace_every": lambda: (Fit(), {"trace_every": 2}),
    "on_nonfinite": lambda: (Fit(), {"on_nonfinite": "skip"}),
    "seed": lambda: (Fit(), {"seed": 3}),
    "jit_compile": lambda: (Fit(), {"minimizer": {"jit_compile": True}}),
    "trace": lambda: (Fit(), {"minimizer": {"trace_fn": lambda q: q.parameters[0]}}),
    "convergence criterion": lambda: (
        Fit(),
        {"minimizer": {"convergence_criterion": fusemin.LossNotDecreasing(atol=1.0)}},
    ),
    "num_steps": lambda: (Fit(), {"num_steps": 20}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_run_is_refused(what, tmp_path):
    stopped(tmp_path)
    fit, keywords = OTHERS[what]()
    before, files = [v.numpy() for v in fit.variables], sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointMismatchError, match=f"\n- .*{what}") as caught:
        resumed(tmp_path, fit, **keywords)
    assert any(what in difference for difference in caught.value.differences)
    assert_same([v.numpy() for v in fit.variables], before)
    assert sorted(tmp_path.rglob("*")) == files
    assert resumed(tmp_path)[1].steps == NUM_STEPS


def test_another_number_of_steps_of_a_schedule(tmp_path):
    make = lambda n: Fit(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, n)))  # noqa: E731
    stopped(tmp_path, make(50))
    with pytest.raises(CheckpointMismatchError, match="decay_steps: it had 50, now 60"):
        resumed(tmp_path, make(60), num_steps=60)
    assert_same(resumed(tmp_path, make(50))[1].trace, make(50).minimizer()(50))


def test_every_so_many_seconds(tmp_path):
    checkpoint = Checkpoint(tmp_path, every=datetime.timedelta(seconds=0.2), keep=100)
    minimizer = Fit().minimizer()
    # The time limit counts tracing, which this does beforehand.
    minimizer.run(10)
    minimizer.run(10**8, checkpoint=checkpoint, time_limit=1.5, trace_last=1)
    assert 4 <= len(list(tmp_path.glob("*.json"))) <= 9


@pytest.mark.parametrize(
    ("keywords", "error"),
    [({"every": 1.5}, TypeError), ({"every": None}, TypeError), ({"every": 0}, ValueError), ({"keep": 0}, ValueError)],
)
def test_wrong_arguments(keywords, error, tmp_path):
    with pytest.raises(error, match=next(iter(keywords))):
        Checkpoint(tmp_path, **keywords)


def test_repr():
    assert repr(Checkpoint("a", every=5, keep=3)) == "Checkpoint('a', every 5 steps, keep=3)"
    assert repr(Checkpoint("a")) == "Checkpoint('a', every 60 s, keep=2)"
