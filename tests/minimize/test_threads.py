"""Several runs at once: from Python threads, and in one graph."""

import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.minimize_runs import START, Problem, assert_same, quadratic, to_numpy
from tests.support.own_optimizers import CountingDescent

NUM_THREADS = 6
NUM_STEPS = 7


OPTIMIZERS = {
    "keras": lambda: keras.optimizers.Adam(0.1),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.1),
    "legacy": lambda: tf_keras.optimizers.legacy.Adam(0.1),
    "fallback": CountingDescent,
}


def in_threads(functions):
    """What the functions return, called at the same time, each in a thread of its own. Their exceptions are raised."""
    barrier = threading.Barrier(len(functions))
    results, errors = [None] * len(functions), []

    def call(i):
        barrier.wait()
        try:
            results[i] = functions[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[i], daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "the threads wait for each other"
    if errors:
        raise errors[0]
    return results


def test_runs_on_different_variables_are_those_made_one_after_the_other():
    def problems():
        return [Problem.make(make) for make in OPTIMIZERS.values()] + [
            Problem.make(lambda: tf.compat.v1.train.AdamOptimizer(0.1)),
            Problem.make(lambda: tf_keras.optimizers.SGD(0.1, momentum=0.9)),
        ]

    expected = [to_numpy(problem.minimize(NUM_STEPS)) for problem in problems()]
    assert_same(in_threads([lambda p=p: to_numpy(p.minimize(NUM_STEPS)) for p in problems()]), expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_minimizer_in_several_threads(optimizer):
    """Its first call builds the optimizer, which calls itself built before it has its slots."""
    problem = Problem.make(OPTIMIZERS[optimizer])
    minimizer = fusemin.Minimizer(problem.loss, problem.optimizer, trainable_variables=[problem.variable])

    def run(num_steps):
        return [len(minimizer(num_steps)) for _ in range(3)]

    # Of different lengths: nothing of a run is kept in the minimizer.
    lengths = range(1, NUM_THREADS + 1)
    assert in_threads([lambda n=n: run(n) for n in lengths]) == [[n] * 3 for n in lengths]
    assert int(problem.optimizer.iterations) == 3 * sum(lengths)
    assert np.all(np.isfinite(problem.variable))


def test_one_minimizer_in_several_threads_is_traced_once():
    created = []

    def loss():
        if not created:
            # Long enough for every thread to come here, were it let.
            time.sleep(0.3)
            created.append(tf.Variable(START))
        return quadratic(created[0])

    minimizer = fusemin.Minimizer(loss, keras.optimizers.SGD(0.125))
    in_threads([lambda: minimizer(NUM_STEPS)] * NUM_THREADS)
    assert len(created) == 1


@pytest.mark.parametrize("optimizer", ["keras", "tf_keras", "legacy"])
def test_one_optimizer_for_the_same_variable_in_several_threads(optimizer):
    problem = Problem.make(OPTIMIZERS[optimizer])
    in_threads([lambda: problem.minimize(NUM_STEPS)] * NUM_THREADS)
    assert int(problem.optimizer.iterations) == NUM_THREADS * NUM_STEPS
    assert np.all(np.isfinite(problem.variable))


def test_one_optimizer_for_different_variables_in_several_threads():
    """Legacy optimizers take new variables at any time."""
    optimizer = tf_keras.optimizers.legacy.SGD(0.125, momentum=0.5)
    problems = [Problem.make(lambda: optimizer) for _ in range(NUM_THREADS)]
    # The rule does not look at the count of steps, so the runs do not show in one another.
    alone = Problem.make(lambda: tf_keras.optimizers.legacy.SGD(0.125, momentum=0.5))
    expected = to_numpy(alone.minimize(NUM_STEPS))
    traces = in_threads([lambda p=p: to_numpy(p.minimize(NUM_STEPS)) for p in problems])
    assert_same(traces, [expected] * NUM_THREADS)
    assert int(optimizer.iterations) == NUM_THREADS * NUM_STEPS


def test_a_traced_function_in_several_threads():
    problem = Problem.make(OPTIMIZERS["tf_keras"])
    run = tf.function(lambda: problem.minimize(NUM_STEPS, trace_fn=lambda q: q.loss), autograph=False)
    in_threads([run] * NUM_THREADS)
    assert int(problem.optimizer.iterations) == NUM_THREADS * NUM_STEPS


@pytest.mark.parametrize("jit_compile", [False, True])
def test_runs_in_one_function(jit_compile):
    """On two variables, which TensorFlow may run at the same time, and again on the first, which it must run after."""

    def runs(first, second):
        return [first.minimize(NUM_STEPS), second.minimize(NUM_STEPS), first.minimize(NUM_STEPS + 1)]

    def problems():
        return [Problem.make(OPTIMIZERS[name]) for name in ("keras", "legacy")]

    eager, inside = problems(), problems()
    function = tf.function(lambda: runs(*inside), autograph=False, jit_compile=jit_compile)
    assert_same(to_numpy(function()), to_numpy(runs(*eager)), rtol=1e-12 if jit_compile else 0.0)
    assert [int(p.optimizer.iterations) for p in inside] == [2 * NUM_STEPS + 1, NUM_STEPS]
