"""The best step, thin traces, traces in files, and batches of data."""

import gc
import threading
import time

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf

import fusemin
from tests.runs.fits import Fit, assert_same

JIT = pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
EVERY = pytest.mark.parametrize("every", [None, 3])


def _watched(every):
    return {} if every is None else {"callbacks": lambda state: None, "every": every}


def _swinging(jit_compile, **keywords):
    """A fit whose loss goes up and down, with its parameters before and after each step."""
    x = [tf.Variable([2.0, 1.0]), tf.Variable(0.5)]
    optimizer = keras.optimizers.SGD(0.3, momentum=0.97)
    minimizer = fusemin.Minimizer(
        lambda: tf.reduce_sum(x[0] ** 2) + tf.cos(x[1]),
        optimizer,
        trainable_variables=x,
        jit_compile=jit_compile,
        trace_fn=lambda q: {"loss": q.loss, "x": q.parameters, "norm": tf.reduce_sum(q.parameters[0] ** 2)},
        **keywords,
    )
    return x, minimizer


@JIT
@EVERY
def test_best_loss(jit_compile, every):
    x, minimizer = _swinging(jit_compile)
    start = [v.numpy() for v in x]
    result = minimizer.run(50, keep_best=True, **_watched(every))
    best = int(np.argmin(result.trace["loss"]))
    assert 0 < best < 49
    assert result.best.step == best
    assert result.best.value == float(result.trace["loss"][best])
    assert_same(result.best.parameters, [p[best - 1] for p in result.trace["x"]])
    assert_same([v.numpy() for v in x], [p[-1] for p in result.trace["x"]])
    result.best.restore()
    assert_same([v.numpy() for v in x], result.best.parameters)
    for variable, value in zip(x, start, strict=True):
        variable.assign(value)


@JIT
def test_best_of_what_is_monitored(jit_compile):
    x, minimizer = _swinging(jit_compile)
    result = minimizer.run(50, keep_best=lambda traced: traced["norm"], restore_best=True)
    best = int(np.argmin(result.trace["norm"]))
    assert result.best.step == best
    assert_same(result.best.parameters, [p[best] for p in result.trace["x"]])
    assert_same([v.numpy() for v in x], result.best.parameters)


def test_the_best_does_not_change_what_is_run():
    (x, minimizer), (y, whole) = _swinging(False), _swinging(False)
    assert_same(minimizer.run(50, keep_best=True, **_watched(7)).trace, whole(50))
    assert_same([v.numpy() for v in x], [v.numpy() for v in y])


def test_no_step_is_the_best_where_all_are_nan():
    x = tf.Variable(1.0)
    result = fusemin.Minimizer(lambda: x * float("nan"), keras.optimizers.SGD(), trainable_variables=[x]).run(
        3, keep_best=True, restore_best=True
    )
    assert result.best is None


def test_a_monitor_that_is_no_scalar_is_its_sum():
    x = tf.Variable([1.0, 2.0])
    result = fusemin.Minimizer(lambda: x**2, keras.optimizers.SGD(0.1), trainable_variables=[x]).run(3, keep_best=True)
    assert result.best.value == pytest.approx(float(tf.reduce_sum(result.trace[-1])))


@JIT
@EVERY
@pytest.mark.parametrize("k", [1, 2, 7, 100])
def test_trace_every(k, every, jit_compile):
    whole = Fit().minimizer(jit_compile=jit_compile)(50)
    result = Fit().minimizer(jit_compile=jit_compile).run(50, trace_every=k, **_watched(every))
    assert_same(result.trace, whole[::k])
    assert len(result.trace) == -(-50 // k)
    assert (result.trace_every, result.first_row) == (k, 0)


@EVERY
@pytest.mark.parametrize("n", [1, 5, 50, 100])
def test_trace_last(n, every):
    whole = Fit().minimizer()(50)
    result = Fit().minimizer().run(50, trace_last=n, **_watched(every))
    assert_same(result.trace, whole[-n:])
    assert result.first_row == max(0, 50 - n)


@pytest.mark.parametrize("keywords", [{"trace_every": 10}, {}, {"to": True}], ids=str)
def test_filled_after_convergence(keywords, tmp_path):
    keywords = {"trace_to": tmp_path} if keywords.get("to") else keywords
    criterion = lambda: fusemin.LossNotDecreasing(atol=100.0, window_size=3, min_num_steps=23)  # noqa: E731
    whole = Fit().minimizer(convergence_criterion=criterion())(60)
    result = Fit().minimizer(convergence_criterion=criterion()).run(60, **keywords)
    assert_same(result.trace, whole[:: keywords.get("trace_every", 1)])


TRACES = {
    "one": lambda q: q.loss,
    "several": lambda q: {"loss": q.loss, "x": q.parameters[0], "pair": (q.step, q.has_converged)},
    "halves": lambda q: tf.cast(q.parameters[0], tf.bfloat16),
    "complex": lambda q: tf.complex(q.parameters[0], 1.0),
    "slices": lambda q: tf.boolean_mask(q.parameters[0], [True, False, True]),
}
FILES = {
    "one": ["trace.npy"],
    "several": ["loss.npy", "pair.0.npy", "pair.1.npy", "x.npy"],
}


@EVERY
@pytest.mark.parametrize("trace", TRACES)
def test_trace_to(trace, every, tmp_path):
    whole = Fit().minimizer(trace_fn=TRACES[trace])(50)
    for _ in range(2):  # The second time over what is there.
        result = Fit().minimizer(trace_fn=TRACES[trace]).run(50, trace_to=tmp_path / "a", **_watched(every))
    assert_same(result.trace, whole)
    assert all(isinstance(leaf, np.memmap) for leaf in tf.nest.flatten(result.trace))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == FILES.get(trace, ["trace.npy"])
    if trace == "several":
        assert_same(np.load(tmp_path / "a" / "x.npy"), whole["x"])


def test_trace_to_without_steps_and_of_strings(tmp_path):
    result = Fit().minimizer().run(0, trace_to=tmp_path)
    assert np.asarray(result.trace).shape == (0,)
    with pytest.raises(TypeError, match="string"):
        Fit().minimizer(trace_fn=lambda q: tf.strings.as_string(q.loss)).run(3, trace_to=tmp_path)


def test_files_are_whole_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Fit().minimizer().run(50, trace_to=tmp_path, callbacks=lambda state: 1 / 0, every=20)
    assert_same(np.load(tmp_path / "trace.npy"), Fit().minimizer()(20))


@pytest.mark.parametrize("keyword", ["trace_to", "trace_every", "trace_last"])
def test_memory_is_flat(keyword, tmp_path, record_difference):
    """512 MB of rows; docs/howto/runs.md has what was measured of 2 GB."""
    x = tf.Variable(tf.zeros([250_000]))
    minimizer = fusemin.Minimizer(
        lambda: tf.reduce_sum((x - 5.0) ** 2),
        keras.optimizers.SGD(0.01),
        trainable_variables=[x],
        trace_fn=lambda q: q.parameters[0],
    )
    process, resident, done = psutil.Process(), [], threading.Event()
    keywords = {keyword: {"trace_to": tmp_path, "trace_every": 100, "trace_last": 3}[keyword]}
    minimizer.run(20, **keywords)
    gc.collect()
    info = process.memory_info()
    before = info.rss - info.shared

    def look():
        while not done.is_set():
            # Of files that are mapped the pages are the system's, which it takes back when it needs them.
            info = process.memory_info()
            resident.append(info.rss - info.shared)
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        result = minimizer.run(512, **keywords)
    finally:
        done.set()
        thread.join()
    assert len(result.trace) == {"trace_to": 512, "trace_every": 6, "trace_last": 3}[keyword]
    grown = (max(resident) - before) / 1e6
    record_difference("MB of memory, beside a trace of 512 MB", max(grown, 0.0), 200.0, keyword)
    assert grown < 200


def _dataset():
    return tf.data.Dataset.range(7).map(lambda i: {"i": tf.cast(i, tf.float32), "j": tf.cast(i, tf.float32) ** 2})


@pytest.mark.parametrize("jit_compile", [False, True, "loss"], ids=["default", "jit", "loss"])
@EVERY
def test_data(jit_compile, every):
    x = tf.Variable(0.0)
    minimizer = fusemin.Minimizer(
        lambda batch: tf.reduce_sum(x) * 0.0 + tf.reduce_sum(batch["i"] + 100.0 * batch["j"]),
        keras.optimizers.SGD(0.1),
        trainable_variables=[x],
        jit_compile=jit_compile,
    )
    data = _dataset().batch(2, drop_remainder=True)
    result = minimizer.run(8, data=data, **_watched(every))
    expected = [100.0 * (i**2 + (i + 1) ** 2) + 2 * i + 1 for i in (0, 2, 4)]
    np.testing.assert_allclose(result.trace, (expected * 3)[:8])


@JIT
def test_data_and_seed(jit_compile):
    x = tf.Variable(1.0)
    draws = lambda batch, seed: x * 0.0 + batch + tf.random.stateless_uniform([], seed)  # noqa: E731
    minimizer = fusemin.Minimizer(draws, keras.optimizers.SGD(), trainable_variables=[x], jit_compile=jit_compile)
    with_data = minimizer.run(6, seed=(1, 2), data=tf.data.Dataset.range(3).map(lambda i: tf.cast(i, tf.float32)))
    alone = fusemin.Minimizer(
        lambda seed: x * 0.0 + tf.random.stateless_uniform([], seed),
        keras.optimizers.SGD(),
        trainable_variables=[x],
        jit_compile=jit_compile,
    )(6, seed=(1, 2))
    np.testing.assert_allclose(with_data.trace - [0.0, 1.0, 2.0] * 2, alone, rtol=1e-5, atol=1e-6)


def test_larger_batches_compile_in_no_time():
    """It took minutes."""
    weights = tf.Variable(tf.zeros(3))
    loss = lambda batch: tf.reduce_mean((tf.reduce_sum(batch * weights, -1) - 1.0) ** 2)  # noqa: E731
    data = tf.data.Dataset.from_tensors(tf.ones([100, 3])).repeat()
    minimizer = fusemin.Minimizer(loss, keras.optimizers.SGD(0.05), trainable_variables=[weights], jit_compile=True)
    before = time.process_time()
    minimizer.run(300, data=data)
    assert time.process_time() - before < 10.0


def test_data_for_a_loss_that_takes_none():
    x = tf.Variable(1.0)
    minimizer = fusemin.Minimizer(lambda: x**2, keras.optimizers.SGD(), trainable_variables=[x])
    with pytest.raises(TypeError):
        minimizer.run(3, data=tf.data.Dataset.range(3))
