"""`minimize` in every way TensorFlow runs code: the same numbers as where it is called eagerly."""

import contextlib
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.minimize_runs import (
    START,
    Problem,
    assert_same,
    functions_run_eagerly,
    gradient_descent_run,
    run_program,
    to_numpy,
)


class OwnAdam(tf_keras.optimizers.Adam):
    """Overrides what the op would stand in for, so its own apply_gradients runs in the same loop."""

    def update_step(self, gradient, variable):
        super().update_step(gradient, variable)


OPTIMIZERS = {
    "keras": lambda: keras.optimizers.Adam(0.1),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.1),
    "legacy": lambda: tf_keras.optimizers.legacy.Adam(0.1),
    "compat_v1": lambda: tf.compat.v1.train.AdamOptimizer(0.1),
    "fallback": lambda: OwnAdam(0.1),
}
# With a rest after the loop that takes several steps in an iteration.
NUM_STEPS = 7


def in_eager_mode(problem, **options):
    return [to_numpy(problem.minimize(NUM_STEPS, **options)) for _ in range(2)]


def in_function(problem, **options):
    run = tf.function(lambda: problem.minimize(NUM_STEPS, **options))
    return [to_numpy(run()) for _ in range(2)]


def in_function_with_tensor(problem):
    run = tf.function(problem.minimize)
    return [to_numpy(run(tf.constant(NUM_STEPS, dtype))) for dtype in (tf.int32, tf.int64)]


def in_compiled_function(problem):
    run = tf.function(lambda: problem.minimize(NUM_STEPS), jit_compile=True)
    return [to_numpy(run()) for _ in range(2)]


def in_nested_functions(problem):
    inner = tf.function(lambda: problem.minimize(NUM_STEPS))
    return to_numpy(tf.function(lambda: [inner(), problem.minimize(NUM_STEPS)])())


def in_autograph_loop(problem):
    @tf.function
    def run():
        trace = problem.minimize(NUM_STEPS)
        for _ in tf.range(1):
            second = problem.minimize(NUM_STEPS)
        return [trace, second]

    return to_numpy(run())


def in_eager_functions(problem):
    with functions_run_eagerly():
        return in_eager_mode(problem)


MODES = {
    "jit_compile": lambda problem: in_eager_mode(problem, jit_compile=True),
    "function": in_function,
    "function with a tensor num_steps": in_function_with_tensor,
    "function around jit_compile": lambda problem: in_function(problem, jit_compile=True),
    "compiled function": in_compiled_function,
    "nested functions": in_nested_functions,
    "autograph loop": in_autograph_loop,
    "functions run eagerly": in_eager_functions,
}
# The other modes put the same graph elsewhere; there, these do: one with variables of its own kind, and one not fused.
MODES_OF_ALL_FAMILIES = ["jit_compile", "function", "functions run eagerly"]
FEW_FAMILIES = ["keras", "fallback"]


@functools.cache
def eager_runs(family):
    """Two runs in eager mode."""
    problem = Problem.make(OPTIMIZERS[family])
    assert fusemin.explain(problem.optimizer, [problem.variable]).fused == (family != "fallback")
    return in_eager_mode(problem)


@pytest.mark.parametrize(
    ("family", "mode"),
    [(f, m) for f in OPTIMIZERS for m in MODES if m in MODES_OF_ALL_FAMILIES or f in FEW_FAMILIES],
)
def test_two_runs_are_those_of_eager_mode(family, mode):
    assert_same(MODES[mode](Problem.make(OPTIMIZERS[family])), eager_runs(family), rtol=1e-12)


@pytest.mark.parametrize("family", [*FEW_FAMILIES, "legacy"])
def test_functions_run_eagerly_between_others(family):
    """What was traced before goes on where eager steps ended, and the other way round."""
    for first, second in (
        (contextlib.nullcontext, functions_run_eagerly),
        (functions_run_eagerly, contextlib.nullcontext),
    ):
        problem = Problem.make(OPTIMIZERS[family])
        with first():
            problem.minimize(NUM_STEPS)
        with second():
            assert_same(problem.minimize(NUM_STEPS), eager_runs(family)[1], rtol=1e-12)


def test_user_code_may_call_numpy_where_functions_run_eagerly():
    problem = Problem.make()
    seen = []

    def loss():
        loss = problem.loss()
        seen.append(loss.numpy())
        return loss

    def trace(quantities):
        return quantities.loss, problem.variable.numpy()

    with functions_run_eagerly():
        losses, parameters = fusemin.minimize(loss, NUM_STEPS, problem.optimizer, trace_fn=trace)
    expected_losses, _, expected_parameters = gradient_descent_run(NUM_STEPS)
    assert_same((losses, np.array(seen)), (expected_losses, expected_losses), rtol=1e-12)
    assert_same(parameters, expected_parameters, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["legacy", "fallback"])
def test_control_dependencies_order_reads_and_the_run(optimizer):
    problem = Problem.make(OPTIMIZERS[optimizer])

    @tf.function
    def run():
        before = tf.identity(problem.variable)
        assigned = problem.variable.assign([5.0, -5.0])
        with tf.control_dependencies([assigned]):
            trace = problem.minimize(NUM_STEPS)
        with tf.control_dependencies([trace["loss"]]):
            after = tf.identity(problem.variable)
        return before, trace, after

    before, trace, after = to_numpy(run())
    again = Problem.make(OPTIMIZERS[optimizer])
    again.variable.assign([5.0, -5.0])
    np.testing.assert_array_equal(before, START)
    assert_same(trace, again.minimize(NUM_STEPS), rtol=1e-12)
    np.testing.assert_array_equal(after, trace["x"][-1])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_run_whose_trace_nobody_uses_runs(jit_compile):
    problem = Problem.make()

    @tf.function(jit_compile=jit_compile)
    def run():
        problem.minimize(NUM_STEPS)

    run()
    _, _, parameters = gradient_descent_run(NUM_STEPS)
    np.testing.assert_allclose(problem.variable, parameters[-1], rtol=1e-12)


def test_a_branch_not_taken_changes_nothing():
    problem = Problem.make()
    run = tf.function(
        lambda take: tf.cond(take, lambda: problem.minimize(NUM_STEPS)["loss"], lambda: tf.zeros([7], tf.float64))
    )
    np.testing.assert_array_equal(run(tf.constant(False)), np.zeros(7))
    np.testing.assert_array_equal(problem.variable, START)
    losses, _, _ = gradient_descent_run(NUM_STEPS)
    np.testing.assert_allclose(run(tf.constant(True)), losses, rtol=1e-12)


def run_in_session(make_optimizer, feed, repeats):
    """Two runs of one fetch in a session, as often as `repeats`; `feed`: `num_steps` is a placeholder."""
    with tf.Graph().as_default():
        problem = Problem.make(make_optimizer)
        steps = tf.compat.v1.placeholder(tf.int32, []) if feed else NUM_STEPS
        trace = problem.minimize(steps)
        variables = getattr(problem.optimizer, "variables", [])
        variables = variables() if callable(variables) else variables
        # Keras 3 wraps its variables, and adds them to no collection.
        initializers = [getattr(v, "value", v).initializer for v in variables if not isinstance(v, tf.Variable)]
        initializers.append(tf.compat.v1.global_variables_initializer())
        for _ in range(repeats):
            with tf.compat.v1.Session() as session:
                session.run(initializers)
                yield [session.run(trace, {steps: NUM_STEPS} if feed else None) for _ in range(2)]


@pytest.mark.parametrize(
    ("family", "feed"),
    [*((family, False) for family in OPTIMIZERS), *((family, True) for family in FEW_FAMILIES)],
)
def test_two_runs_in_a_session_are_those_of_eager_mode(family, feed):
    # A race may be won once.
    for runs in run_in_session(OPTIMIZERS[family], feed, repeats=3):
        assert_same(runs, eager_runs(family), rtol=1e-12)


SET_UPS = ["disable_eager_execution", "disable_control_flow_v2", "disable_v2_behavior"]


@pytest.fixture(scope="module")
def traces_of_tensorflow_1():
    """By what was disabled, all that stands before it too."""
    program = """
        import json, sys, tensorflow as tf, fusemin

        traces = {}
        for set_up in sys.argv[1:]:
            getattr(tf.compat.v1, set_up)()
            with tf.Graph().as_default():
                x = tf.compat.v1.get_variable("x", initializer=[1.0, 2.0], use_resource=True)
                optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.125)
                trace = fusemin.minimize(
                    lambda: tf.reduce_sum((x - 3.0) ** 2), 15, optimizer, trainable_variables=[x],
                    trace_fn=lambda q: (q.loss, q.parameters[0], tf.identity(x)))
                with tf.compat.v1.Session() as session:
                    session.run(tf.compat.v1.global_variables_initializer())
                    traces[set_up] = [leaf.tolist() for leaf in session.run(trace)]
        print(json.dumps(traces))
    """
    return json.loads(run_program(program, *SET_UPS).splitlines()[-1])


@pytest.mark.parametrize("set_up", SET_UPS)
def test_code_of_tensorflow_1(traces_of_tensorflow_1, set_up):
    losses, _, parameters = gradient_descent_run(15)
    for got, want in zip(traces_of_tensorflow_1[set_up], [losses, parameters, parameters], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)
