"""`Minimizer`: traced once, run many times from the state at hand; and what is left of a `minimize` call."""

import itertools
import os
import traceback

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from fusemin.loop.segment import MIN_STEPS_OF_ONE_RUN, STEPS_PER_ITERATION
from tests.support.minimize_runs import (
    START,
    Problem,
    assert_same,
    gradient_descent,
    gradient_descent_run,
    quadratic,
    run_program,
    to_numpy,
)
from tests.support.own_optimizers import Descent, PureDescent

RTOL = 1e-12


OPTIMIZERS = {"fused": lambda: tf_keras.optimizers.Adam(0.1), "fallback": Descent}


class Counted(Problem):
    """Counts the Python calls of `loss_fn` and `trace_fn`, which are made while tracing only."""

    calls = 0

    def loss(self):
        self.calls += 1
        return super().loss()

    def noisy_loss(self, seed):
        return self.loss() + tf.reduce_sum(self.variable * tf.random.stateless_normal([2], seed, dtype=tf.float64))

    def trace(self, quantities):
        self.calls += 1
        return super().trace(quantities)

    def minimizer(self, **options):
        options = {
            "loss_fn": self.loss,
            "optimizer": self.optimizer,
            "trainable_variables": [self.variable],
            "trace_fn": self.trace,
            **options,
        }
        return fusemin.Minimizer(**options)


@pytest.mark.parametrize("watched", [True, False], ids=["variables given", "variables found"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_later_runs_do_not_trace(optimizer, watched):
    problem = Counted.make(OPTIMIZERS[optimizer])
    minimizer = problem.minimizer(trainable_variables=[problem.variable] if watched else None)
    minimizer(5)
    calls = problem.calls
    assert calls > 0
    for num_steps in (5, 9, 0, 1, tf.constant(3), tf.constant(2, tf.int64), np.int16(4)):
        assert len(minimizer(num_steps)["loss"]) == num_steps
        assert problem.calls == calls, num_steps


def test_later_runs_with_seeds_do_not_trace():
    problem = Counted.make()
    minimizer = problem.minimizer(loss_fn=problem.noisy_loss)
    minimizer(5, seed=1)
    calls = problem.calls
    for num_steps, seed in ((5, 2), (6, (3, 4)), (7, tf.constant([5, 6])), (2, np.int64(7))):
        assert len(minimizer(num_steps, seed=seed)["loss"]) == num_steps
        assert problem.calls == calls, seed


def test_runs_with_and_without_seed_are_two_traces():
    problem = Counted.make()

    def loss(seed=None):
        return problem.loss() if seed is None else problem.noisy_loss(seed)

    minimizer = problem.minimizer(loss_fn=loss)
    minimizer(1)
    minimizer(1, seed=1)
    calls = problem.calls
    for seed in (None, 2, None):
        problem.variable.assign(START)
        losses = minimizer(3, seed=seed)["loss"]
        assert (losses[0].numpy() == quadratic(np.array(START))) == (seed is None)
    assert problem.calls == calls


def test_compiled_runs_trace_for_a_new_number_of_steps_only():
    """XLA needs static shapes."""
    problem = Counted.make()
    minimizer = problem.minimizer(jit_compile=True)
    minimizer(3)
    calls = problem.calls
    minimizer(3)
    assert problem.calls == calls
    minimizer(4)
    assert problem.calls > calls


@pytest.mark.parametrize("minimize_in", ["eager mode", "a function"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_continues_where_the_one_before_ended(optimizer, minimize_in):
    whole = to_numpy(Problem.make(OPTIMIZERS[optimizer]).minimize(9))
    problem = Counted.make(OPTIMIZERS[optimizer])
    run = problem.minimizer()
    if minimize_in == "a function":
        run = tf.function(run, autograph=False)
    first, second = to_numpy(run(5)), to_numpy(run(4))
    joined = tf.nest.map_structure(lambda a, b: np.concatenate([a, b]), first, second)
    np.testing.assert_array_equal(joined.pop("step"), [*range(5), *range(4)])
    del whole["step"]
    assert_same(joined, whole, rtol=RTOL)


@pytest.mark.parametrize(
    ("num_steps", "minimize_in"),
    # `minimize` builds its loop for the number of steps that it knows, in eager mode otherwise if it is small: see
    # `fusemin.loop.segment`.
    [*itertools.product(range(10), ["a function", "eager mode"])]
    + [(MIN_STEPS_OF_ONE_RUN + more, "eager mode") for more in (-1, *range(STEPS_PER_ITERATION))],
)
def test_a_call_of_minimize_is_a_run(num_steps, minimize_in):
    run = Counted.make(OPTIMIZERS["fused"]).minimizer()
    minimize = Problem.make(OPTIMIZERS["fused"]).minimize
    if minimize_in == "a function":
        minimize = tf.function(minimize, autograph=False)
    assert_same(to_numpy(minimize(num_steps)), to_numpy(run(num_steps)), rtol=RTOL)


def test_runs_of_loops_for_one_number_of_steps():
    """Each number has a loop of its own, and a call has another."""
    minimizer = Counted.make().minimizer(trace_fn=lambda q: q.loss)
    losses, _, _ = gradient_descent_run(2 + 3 + 4 + 2)
    runs = [minimizer.run_once(2), minimizer.run_once(3), minimizer(4), minimizer.run_once(2)]
    assert_same(np.concatenate(runs), losses, rtol=RTOL)


def test_a_run_starts_from_what_was_assigned():
    """Variable, learning rate, slots and count of steps, which are read when the loop runs."""

    def make():
        return Counted.make(lambda: keras.optimizers.Adam(0.1))

    problem, fresh = make(), make()
    minimizer = problem.minimizer()
    minimizer(5)
    problem.variable.assign(START)
    problem.optimizer.learning_rate = 0.2
    for variable in problem.optimizer.variables:
        if variable is not problem.optimizer.learning_rate:
            variable.assign(tf.zeros_like(variable))
    calls = problem.calls
    fresh.optimizer.learning_rate = 0.2
    assert_same(minimizer(5), fresh.minimizer()(5), rtol=RTOL)
    assert problem.calls == calls


def test_runs_in_one_function():
    """A function traces the loop anew, once for each call in it."""
    problem = Counted.make()
    minimizer = problem.minimizer(trace_fn=lambda q: (q.loss, q.parameters[0]))

    @tf.function(autograph=False)
    def run(num_steps):
        return minimizer(4), minimizer(num_steps)

    (first, before), (second, after) = run(tf.constant(3))
    losses, _, parameters = gradient_descent_run(7)
    assert_same(np.concatenate([first, second]), losses, rtol=RTOL)
    assert_same(np.concatenate([before, after]), parameters, rtol=RTOL)
    assert first.shape == [4]
    calls = problem.calls
    run(tf.constant(5))
    assert problem.calls == calls


def test_a_run_after_one_that_failed():
    problem = Counted.make()
    failures = [RuntimeError("first"), RuntimeError("second")]

    def loss():
        if failures:
            raise failures.pop(0)
        return problem.loss()

    minimizer = problem.minimizer(loss_fn=loss, trace_fn=lambda q: q.loss)
    for message in ("first", "second"):
        with pytest.raises(RuntimeError, match=message):
            minimizer(3)
    with pytest.raises(ValueError, match="num_steps"):
        minimizer(-1)
    assert_same(minimizer(3), gradient_descent_run(3)[0], rtol=RTOL)


def test_explain_before_and_after_the_first_run():
    problem = Counted.make()
    given, found = problem.minimizer(), problem.minimizer(trainable_variables=None)
    expected = fusemin.explain(problem.optimizer, [problem.variable])
    assert given.explain() == expected
    with pytest.raises(ValueError, match="`trainable_variables` was not given"):
        found.explain()
    for minimizer in (given, found):
        minimizer(1)
        assert minimizer.explain() == expected
    assert expected.fused
    assert expected.rows[0].variables == ("x:0",)
    assert expected.rows[0].rule == "sgd"


def test_explain_of_a_fallback(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    problem = Counted.make(Descent)
    minimizer = problem.minimizer()
    minimizer(1)
    explanation = minimizer.explain()
    assert not explanation.fused
    assert "Descent is of no known optimizer family" in str(explanation).replace("\n", " ")


LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("how", ["Minimizer", "minimize", "jit_compile", "fallback", "function"])
def test_loss_that_creates_variables_when_first_called(library, how):
    library = LIBRARIES[library]
    layer = library.layers.Dense(2, use_bias=False, kernel_initializer="ones")
    if how == "function":
        # Neither can stock create its slots in a function that is traced a second time.
        optimizer = tf_keras.optimizers.legacy.SGD(0.125)
    else:
        optimizer = Descent() if how == "fallback" else library.optimizers.SGD(0.125)

    def loss():
        return tf.reduce_sum(layer(tf.constant([[1.0, 0.0]])) ** 2)

    def minimize():
        return fusemin.minimize(loss, 3, optimizer, jit_compile=how == "jit_compile")

    if how == "Minimizer":
        minimize = fusemin.Minimizer(loss, optimizer)
        assert_same(minimize(0), np.zeros(0, np.float32))
    run = {"Minimizer": lambda: minimize(3), "function": tf.function(minimize, autograph=False)}.get(how, minimize)
    # The row of the kernel that is used shrinks by 3/4 at each step, the other stays.
    assert_same(run(), 2 * 0.75 ** (2 * np.arange(3, dtype=np.float32)))
    assert_same(run(), 2 * 0.75 ** (2 * np.arange(3, 6, dtype=np.float32)))
    kernel = tf.convert_to_tensor(layer.kernel)
    assert_same(kernel, np.array([[0.75**6] * 2, [1.0] * 2], np.float32))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_loss_that_is_a_variable(jit_compile):
    x = tf.Variable(2.0)
    losses = fusemin.minimize(lambda: x, 3, gradient_descent(0.5), jit_compile=jit_compile)
    np.testing.assert_array_equal(losses, [2.0, 1.5, 1.0])
    assert float(x) == 0.5


class StackRecorder:
    """Names of the files that were on the stack when user code was called."""

    def __init__(self):
        self.stacks = []

    def record(self):
        self.stacks.append([frame.filename for frame in traceback.extract_stack()])


def test_autograph_of_a_users_function_leaves_fusemin_alone():
    """Converting its code takes seconds."""
    problem, recorder = Problem.make(Descent), StackRecorder()

    def loss(x=problem.variable):
        recorder.record()
        return quadratic(x)

    def trace(quantities):
        recorder.record()
        return quantities.loss

    minimizer = fusemin.Minimizer(loss, problem.optimizer, trainable_variables=[problem.variable], trace_fn=trace)

    @tf.function
    def run():
        losses = fusemin.minimize(loss, 3, problem.optimizer, trainable_variables=[problem.variable], trace_fn=trace)
        more = minimizer(3)
        _, last = fusemin.minimize_stateless(loss, problem.variable, 3, PureDescent(), trace_fn=trace)
        return losses, more, last

    run()
    # At least the loss and the trace of each of the three calls.
    assert len(recorder.stacks) >= 6
    for stack in recorder.stacks:
        # That of `run`, and the wrapper around it.
        converted = [i for i, file in enumerate(stack) if "__autograph_generated_file" in file]
        first = next(i for i, file in enumerate(stack) if file.startswith(os.path.dirname(fusemin.__file__)))
        assert converted
        assert max(converted) < first


def test_eager_calls_leave_nothing_behind():
    """The graphs of a run that stay take 2 MB, so this finds those of one call in three."""
    program = """
        import gc, json, keras, psutil, tensorflow as tf, fusemin

        x = tf.Variable([1.0, 2.0])
        # Each new name of an optimizer, "adam_1", would stay in Keras' table of names.
        def call():
            return fusemin.minimize(lambda: tf.reduce_sum((x - 3.0) ** 2), 3, keras.optimizers.Adam(0.1, name="adam"))

        def rss():
            gc.collect()
            return psutil.Process().memory_info().rss / 2**20

        for _ in range(20):
            call()
        before = rss()
        for _ in range(20):
            call()
        print(rss() - before)
    """
    growth = float(run_program(program).split()[-1])
    assert growth < 12, f"{growth:.1f} MB in 20 calls"


@pytest.mark.parametrize(
    ("make_optimizer", "given", "called", "text"),
    [
        (keras.optimizers.Adam, True, False, "Adam, 2 variables of 1,001 elements, fused, rule 'adam'"),
        (keras.optimizers.Adam, False, False, "Adam, variables that the first call finds"),
        (keras.optimizers.Adam, False, True, "Adam, 2 variables of 1,001 elements, fused, rule 'adam'"),
        (Descent, True, False, "Descent, 2 variables of 1,001 elements, not fused"),
    ],
)
def test_repr(make_optimizer, given, called, text):
    x, y = tf.Variable(0.0), tf.Variable(tf.zeros(1_000))

    def loss():
        return x**2 + tf.reduce_sum(y**2)

    fit = fusemin.Minimizer(loss, make_optimizer(), trainable_variables=[x, y] if given else None)
    if called:
        fit(2)
    assert repr(fit) == f"<Minimizer of test_repr.<locals>.loss by {text}, jit_compile=False>"


def test_repr_of_what_a_call_would_refuse():
    fit = fusemin.Minimizer(lambda: 0.0, keras.optimizers.Adam(), trainable_variables=[tf.Variable(1, name="count")])
    with pytest.raises(TypeError, match="must be floating, 'count:0' is of int32"):
        fit(1)
    assert "refused (`variables` must be floating, 'count:0' is of int32)" in repr(fit)
