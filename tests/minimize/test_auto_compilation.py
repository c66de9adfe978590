"""`jit_compile="auto"`: which mode it chooses, that it says why, and that the results are those of the mode."""

import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import _compat
from fusemin.loop import auto_compilation
from fusemin.loop.auto_compilation import MIN_STEPS, steps_to_pay
from tests.support.own_optimizers import PureDescent

MANY = 100_000
STEPS = 40


@pytest.fixture
def decisions(caplog):
    """Function that gives what the log has said of decisions."""
    with caplog.at_level(logging.DEBUG, "fusemin"):
        yield lambda: [r.getMessage() for r in caplog.records if "auto" in r.getMessage()]


@pytest.fixture
def any_number_pays(monkeypatch):
    monkeypatch.setattr(auto_compilation, "MIN_STEPS", 0)
    monkeypatch.setattr(auto_compilation, "steps_to_pay", lambda num_ops, draws, loops: 0)


def square(x):
    return tf.reduce_sum((x - [3.0, 5.0]) ** 2)


def in_python(x):
    return square(x) + tf.py_function(lambda: np.float32(0.0), [], tf.float32)


def by_text(x):
    return square(x) + 0.0 * tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(x[0])))


def with_large_matrix(x):
    return square(x) + 1e-6 * tf.reduce_sum(tf.linalg.cholesky(tf.eye(100) * (10.0 + tf.tanh(x[0]))))


def with_small_matrix(x):
    return square(x) + 1e-6 * tf.reduce_sum(tf.linalg.cholesky(tf.eye(4) * (10.0 + tf.tanh(x[0]))))


def with_loop(x):
    return tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, 0.9 * y), (0, square(x)), maximum_iterations=5)[1]


def gathered(x):
    return tf.reduce_sum(tf.gather(x, [0]) ** 2)


def minimize(loss, num_steps, jit_compile, **options):
    x = tf.Variable([1.0, 2.0])
    optimizer = keras.optimizers.Adam(0.01)
    if "data" in options:
        minimizer = fusemin.Minimizer(
            lambda batch: loss(x) + tf.reduce_sum(batch), optimizer, trainable_variables=[x], jit_compile=jit_compile
        )
        trace = minimizer.run(num_steps, **options).trace
    else:
        trace = fusemin.minimize(
            lambda: loss(x), num_steps, optimizer, trainable_variables=[x], jit_compile=jit_compile, **options
        )
    return [*tf.nest.flatten(trace), tf.identity(x), tf.identity(optimizer.iterations)]


def minimize_stateless(loss, num_steps, jit_compile, **options):
    return tf.nest.flatten(
        fusemin.minimize_stateless(
            loss, tf.constant([1.0, 2.0]), num_steps, PureDescent(), jit_compile=jit_compile, **options
        )
    )


def assert_bits(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


RUNS = {
    "minimize": minimize,
    "minimize_stateless": minimize_stateless,
    "in segments": lambda *args, **options: minimize(*args, every=1000, callbacks=lambda state: None, **options),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("num_steps", "compiles", "reason"),
    [
        (STEPS, False, f"not compiled, since it does not pay for fewer than {MIN_STEPS:,} steps"),
        (10_000, False, r"not compiled, since a step of \d+ ops pays for it from \d+,\d+ steps on"),
        (MANY, True, f"compiled, since it pays for {MANY:,} steps"),
    ],
)
def test_few_steps_are_not_compiled_and_many_are(run, num_steps, compiles, reason, decisions):
    got = RUNS[run](square, num_steps, "auto")
    assert len(decisions()) == 1
    assert re.fullmatch(f'jit_compile="auto": {reason}', decisions()[0])
    assert_bits(got, RUNS[run](square, num_steps, compiles))


# What XLA cannot compile, or is slow at: the loss, and the reason. "" if it is compiled.
LOSSES = {
    "as any": (square, ""),
    "Python": (in_python, "XLA cannot compile 'EagerPyFunc', of `loss_fn`.* of .*test_auto_compilation.py"),
    "strings": (by_text, "XLA cannot compile '.*AsString.*'"),
    "a large matrix": (with_large_matrix, "since 'Cholesky' of 100 rows takes XLA longer on a CPU"),
    "a small matrix": (with_small_matrix, ""),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("loss", LOSSES)
def test_what_xla_cannot_compile_runs_without(loss, run, decisions, any_number_pays):
    loss, reason = LOSSES[loss]
    got = RUNS[run](loss, STEPS, "auto")
    assert len(decisions()) == 1
    assert re.search(f"not compiled, .*{reason}" if reason else ": compiled", decisions()[0])
    assert_bits(got, RUNS[run](loss, STEPS, not reason))


def test_losses_with_loops_pay_soon(decisions):
    assert_bits(minimize(with_loop, 1_000, "auto"), minimize(with_loop, 1_000, True))
    assert ": compiled, since it pays for 1,000 steps" in decisions()[0]


def test_sparse_gradients_are_not_compiled(decisions, any_number_pays):
    assert_bits(minimize(gathered, STEPS, "auto"), minimize(gathered, STEPS, False))
    assert "since XLA has no sparse gradients" in decisions()[0]


def test_trace_that_xla_cannot_compile(decisions, any_number_pays):
    options = {"trace_fn": lambda q: tf.strings.as_string(q.loss)}
    assert_bits(minimize(square, STEPS, "auto", **options), minimize(square, STEPS, False, **options))
    assert "XLA cannot compile 'While', of `loss_fn`, `trace_fn` or the optimizer" in decisions()[0]


def test_minibatches(decisions, any_number_pays):
    data = tf.data.Dataset.range(8).map(lambda i: tf.cast(i, tf.float32)).batch(2, drop_remainder=True).repeat()
    assert_bits(minimize(square, STEPS, "auto", data=data), minimize(square, STEPS, True, data=data))
    assert ": compiled" in decisions()[0]


def test_graphs_and_tapes(decisions, any_number_pays):
    """Nothing can be tried there."""
    x, optimizer = tf.Variable([1.0, 2.0]), keras.optimizers.Adam(0.01)
    optimizer.build([x])

    def fit():
        return fusemin.minimize(lambda: square(x), STEPS, optimizer, trainable_variables=[x], jit_compile="auto")

    tf.function(fit, autograph=False)()
    tf.function(fit, autograph=False, jit_compile=True)()
    with tf.GradientTape():
        fit()
    reasons = ["in a tf.function or graph", "in a tf.function or graph", "a tf.GradientTape is around it"]
    assert all(reason in text for reason, text in zip(reasons, decisions(), strict=True))
    num_steps = tf.function(lambda n: fusemin.minimize(lambda: square(x), n, optimizer, jit_compile="auto"))
    assert num_steps(tf.constant(3)).shape == (3,)


@pytest.mark.parametrize("loss", [square, in_python], ids=["compiled", "not compiled"])
def test_it_is_tried_once_and_before_anything_is_written(loss, decisions, any_number_pays, monkeypatch):
    x, optimizer, tried = tf.Variable([1.0, 2.0]), keras.optimizers.Adam(0.01), []
    lower = _compat.lower_to_hlo

    def watched(function):
        tried.append((x.numpy().tolist(), int(optimizer.iterations)))
        lower(function)

    monkeypatch.setattr(_compat, "lower_to_hlo", watched)
    fit = fusemin.Minimizer(lambda: loss(x), optimizer, trainable_variables=[x], jit_compile="auto")
    for num_steps in (STEPS, STEPS, 2 * STEPS):
        assert fit(num_steps).shape == (num_steps,)
    assert tried == [([1.0, 2.0], 0)]
    # One for each number of steps.
    assert len(decisions()) == 2


def test_random_numbers_are_those_of_the_mode(any_number_pays):
    drawn = []
    for jit_compile in ("auto", True):
        tf.random.set_seed(1)
        minimize(square, STEPS, jit_compile)
        drawn.append(tf.random.normal([3]).numpy())
    np.testing.assert_array_equal(*drawn)


def test_explain_says_what_was_decided(any_number_pays):
    x = tf.Variable([1.0, 2.0])
    fit = fusemin.Minimizer(lambda: in_python(x), keras.optimizers.Adam(), trainable_variables=[x], jit_compile="auto")
    assert fit.explain().compilation == ""
    fit(STEPS)
    assert "not compiled, since XLA cannot compile 'EagerPyFunc'" in str(fit.explain()).replace("\n", " ")
    assert "<p>jit_compile=&quot;auto&quot;: not compiled" in fit.explain()._repr_html_()


# From how many steps on compiling paid: CPU seconds of compiling over those that a step saved. By the ops of a step,
# whether it draws random numbers, and whether it has loops.
MEASURED = {
    "1 variable of 1": (22, False, False, 47_700),
    "1 variable of 10,000": (22, False, False, 84_000),
    "10 variables of 10": (185, False, False, 11_900),
    "50 variables of 100": (905, False, False, 8_600),
    "200 variables of 10": (3605, False, False, 7_300),
    "eight schools": (242, True, False, 69_700),
    "logistic regression": (124, True, False, 45_600),
    "perceptron on digits": (78, True, False, 31_800),
    "recurrent network, 16 iterations of 8": (60, False, True, 350),
    "Kalman filter of 16": (200, False, True, 470),
    "hidden Markov model of 60": (150, False, True, 480),
    "structural time series": (1763, True, True, 1_000),
}


@pytest.mark.parametrize("problem", MEASURED)
def test_the_rule_is_what_was_measured(problem):
    num_ops, draws, loops, measured = MEASURED[problem]
    assert 1 / 3 < steps_to_pay(num_ops, draws, loops) / measured < 3


@pytest.mark.parametrize("run", [minimize, minimize_stateless])
def test_other_words_are_refused(run):
    with pytest.raises(ValueError, match='`jit_compile` must be True, False, "auto" or "loss", it is \'automatic\''):
        run(square, 3, "automatic")


def test_a_checkpoint_of_the_other_mode_is_refused(any_number_pays, tmp_path):
    checkpoint = fusemin.Checkpoint(str(tmp_path))
    minimize(square, STEPS, False, checkpoint=checkpoint)
    with pytest.raises(fusemin.CheckpointMismatchError, match="jit_compile: it had false, now true"):
        minimize(square, 2 * STEPS, "auto", checkpoint=checkpoint)
