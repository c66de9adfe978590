"""Convergence criteria: the same flags, traces and steps as `tfp.math.minimize`, in a loop that is left."""

import collections
import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import fusemin
from tests.support.minimize_runs import TARGET, assert_same, functions_run_eagerly, gradient_descent, to_numpy
from tests.support.own_optimizers import PureDescent

NUM_STEPS = 60
RTOL = 1e-12
# The members of the batch approach the minimum at different speeds; the last one is there from the beginning.
START = (0.0, 1.0, TARGET)
SCALES = (1.0, 0.25, 1.0)


def mean_over_half(has_converged):
    return tf.reduce_mean(tf.cast(has_converged, tf.float32)) > 0.5


def batch_loss(x):
    return tf.constant(SCALES, x.dtype) * (x - TARGET) ** 2


def trace_all(quantities):
    # `seed` is left out: without one its content is a detail.
    return quantities._replace(seed=(), optimizer_state=())


class Batch:
    """A batch of losses, its optimizer, and the count of how often the losses were evaluated."""

    def __init__(self):
        self.variable = tf.Variable(START, dtype=tf.float64)
        self.optimizer = gradient_descent()
        self.evaluations = tf.Variable(0, trainable=False)

    def loss(self):
        self.evaluations.assign_add(1)
        return batch_loss(self.variable)

    def minimize(self, num_steps=NUM_STEPS, minimize=fusemin.minimize, **options):
        options = {"trainable_variables": [self.variable], "trace_fn": trace_all, **options}
        return minimize(self.loss, num_steps, self.optimizer, **options)

    def num_steps_taken(self):
        taken = int(self.optimizer.iterations)
        assert int(self.evaluations) == taken
        return taken


# Arguments of LossNotDecreasing, how a batch of flags is reduced, and after how many of NUM_STEPS steps the loop ends.
CASES = {
    "rtol": ({"rtol": 0.2}, tf.reduce_any, 27),
    "atol is the larger": ({"atol": 1e-2, "rtol": 1e-6}, tf.reduce_all, 47),
    "rtol is the larger": ({"atol": 1e-9, "rtol": 0.03}, mean_over_half, 45),
    "any": ({"atol": 1e-3}, tf.reduce_any, 21),
    "more than half": ({"atol": 1e-3}, mean_over_half, 59),
    "window": ({"atol": 1e-3, "window_size": 3}, tf.reduce_all, 42),
    "min_num_steps": ({"atol": 1e-3, "min_num_steps": 5}, tf.reduce_any, 6),
    "min_num_steps of 0": ({"atol": 1e-3, "min_num_steps": 0}, tf.reduce_any, 2),
    "at the last step": ({"atol": 1e3, "min_num_steps": NUM_STEPS - 1}, tf.reduce_all, NUM_STEPS),
    "never": ({"atol": 1e3, "min_num_steps": NUM_STEPS}, tf.reduce_any, NUM_STEPS),
    "for each member": (
        {"atol": np.array([1e-2, 1e-3, 1e-4]), "min_num_steps": np.array([5, 30, 7])},
        tf.reduce_all,
        59,
    ),
    "tensors": ({"atol": tf.constant(1e-3, tf.float64), "window_size": tf.constant(4)}, tf.reduce_all, 44),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_not_decreasing_is_that_of_tfp(case):
    arguments, reduce_fn, num_taken = CASES[case]
    options = {"batch_convergence_reduce_fn": reduce_fn}
    theirs = tfp.optimizer.convergence_criteria.LossNotDecreasing(**arguments)
    expected = Batch().minimize(minimize=tfp.math.minimize, convergence_criterion=theirs, **options)
    assert int(expected.step[-1]) + 1 == num_taken
    problem = Batch()
    trace = problem.minimize(
        convergence_criterion=fusemin.LossNotDecreasing(**arguments), return_full_length_trace=False, **options
    )
    # Another class of namedtuple holds the state.
    assert_same(tf.nest.flatten(trace), [leaf[:num_taken] for leaf in tf.nest.flatten(expected)], rtol=RTOL)
    assert problem.num_steps_taken() == num_taken


def test_flags_are_those_of_the_rule():
    """The rule as the documentation of `LossNotDecreasing` states it, in NumPy."""
    window, atol, rtol, min_num_steps = 4, 1e-3, 0.1, 6
    criterion = fusemin.LossNotDecreasing(atol=atol, rtol=rtol, window_size=window, min_num_steps=min_num_steps)
    trace = to_numpy(Batch().minimize(convergence_criterion=criterion))
    average, initial = np.zeros([2, len(START)])
    num_taken = int(trace.step[-1]) + 1
    for t in range(1, num_taken):
        decrease = trace.loss[t - 1] - trace.loss[t]
        average = decrease + (1 - 1 / window) * (average - decrease)
        converged = (average < np.maximum(atol, rtol * initial)) & (t >= min_num_steps)
        np.testing.assert_array_equal(trace.has_converged[t], converged, err_msg=f"step {t}")
        initial = average if t <= window else initial
    assert not trace.has_converged[0].any()
    assert trace.has_converged[num_taken - 1].all()
    assert min_num_steps < num_taken < NUM_STEPS


Memory = collections.namedtuple("Memory", ["previous", "count"])


class WithNamedtuple:
    """Converged where a parameter moves by less than a limit for the third time."""

    def bootstrap(self, loss, grads, parameters):
        return Memory(previous=parameters, count=tf.zeros_like(loss, tf.int32))

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        moved = tf.abs(parameters[0] - auxiliary_state.previous[0])
        count = auxiliary_state.count + tf.cast(moved < 0.05, tf.int32)
        return count >= 3, Memory(parameters, count)


class WithoutState:
    def bootstrap(self, loss, grads, parameters):
        return ()

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        assert auxiliary_state == ()
        return tf.abs(grads[0]) < 0.02 * tf.cast(step, loss.dtype), ()


class WithNumbers:
    """What `bootstrap` returns need not be tensors."""

    def bootstrap(self, loss, grads, parameters):
        return {"count": 0, "more": [1.5]}

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        count = auxiliary_state["count"] + 1
        return tf.fill(tf.shape(loss), count == 11), {"count": count, "more": auxiliary_state["more"]}


class WithShapesNotKnown:
    """The state has a shape that only a step tells."""

    def bootstrap(self, loss, grads, parameters):
        return tf.boolean_mask(loss, tf.ones_like(loss, tf.bool))

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        state = tf.boolean_mask(loss, tf.ones_like(loss, tf.bool))
        return tf.reshape(auxiliary_state - state < 1e-2, tf.shape(loss)), state


class WithOneFlag:
    """One flag for all losses, where the trace does not show it."""

    def bootstrap(self, loss, grads, parameters):
        return tf.constant(0)

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        return step == 9, auxiliary_state + step


CRITERIA = [WithNamedtuple, WithoutState, WithNumbers, WithShapesNotKnown, WithOneFlag]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_of_users(criterion):
    def trace(quantities):
        flags = () if criterion is WithOneFlag else quantities.has_converged
        return (quantities.step, quantities.loss, flags, quantities.convergence_criterion_state)

    options = {"convergence_criterion": criterion(), "trace_fn": trace}
    expected = Batch().minimize(minimize=tfp.math.minimize, **options)
    taken = int(expected[0][-1]) + 1
    assert 5 < taken < NUM_STEPS
    for mode in (contextlib.nullcontext, functions_run_eagerly):
        problem = Batch()
        with mode():
            found = problem.minimize(**options)
        if mode is functions_run_eagerly and criterion is WithNumbers:
            # Op by op, Python numbers stay numbers.
            found, want = found[:3], expected[:3]
        else:
            want = expected
        assert_same(found, want, rtol=RTOL)
        assert problem.num_steps_taken() == taken


UNKNOWN_SHAPES = [
    [None],
    None,
]


@pytest.mark.parametrize("shape", UNKNOWN_SHAPES, ids=["length", "rank"])
def test_losses_of_unknown_shape(shape):
    """So are the criterion's state and flags."""
    known, unknown = Batch(), Batch()

    def loss():
        return tf.compat.v1.placeholder_with_default(batch_loss(unknown.variable), tf.TensorShape(shape))

    options = {
        "convergence_criterion": fusemin.LossNotDecreasing(atol=1e-3),
        "batch_convergence_reduce_fn": tf.reduce_any,
        "trainable_variables": None,
        "return_full_length_trace": False,
    }
    trace = fusemin.minimize(loss, NUM_STEPS, unknown.optimizer, trace_fn=trace_all, **options)
    assert_same(trace, known.minimize(**options), rtol=RTOL)


def as_it_is(problem, **options):
    return problem.minimize(**options)


def in_function(problem, **options):
    return tf.function(lambda: problem.minimize(**options), autograph=False)()


def in_function_with_tensor(problem, **options):
    run = tf.function(lambda num_steps: problem.minimize(num_steps, **options), autograph=False)
    return run(tf.constant(NUM_STEPS))


def in_eager_functions(problem, **options):
    with functions_run_eagerly():
        return problem.minimize(**options)


def with_jit_compile(problem, **options):
    return problem.minimize(jit_compile=True, **options)


def in_second_run(problem, **options):
    minimizer = fusemin.Minimizer(
        problem.loss, problem.optimizer, trainable_variables=[problem.variable], trace_fn=trace_all, **options
    )
    minimizer(1)
    problem.variable.assign(START)
    problem.evaluations.assign(0)
    problem.optimizer.iterations.assign(0)
    return minimizer(NUM_STEPS)


MODES = [as_it_is, in_function, in_function_with_tensor, in_eager_functions, with_jit_compile, in_second_run]


@pytest.fixture(scope="module")
def expected_run():
    trace = Batch().minimize(
        minimize=tfp.math.minimize,
        convergence_criterion=tfp.optimizer.convergence_criteria.LossNotDecreasing(atol=1e-3),
        batch_convergence_reduce_fn=tf.reduce_any,
    )
    return to_numpy(tf.nest.flatten(trace)), int(trace.step[-1]) + 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("full_length", [True, False])
def test_criterion_of_tfp_in_every_mode(expected_run, mode, full_length):
    leaves, taken = expected_run
    problem = Batch()
    trace = mode(
        problem,
        convergence_criterion=tfp.optimizer.convergence_criteria.LossNotDecreasing(atol=1e-3),
        batch_convergence_reduce_fn=tf.reduce_any,
        return_full_length_trace=full_length,
    )
    kept = [leaf[: NUM_STEPS if full_length else taken] for leaf in leaves]
    assert_same(tf.nest.flatten(trace), kept, rtol=1e-9 if mode is with_jit_compile else RTOL)
    assert problem.num_steps_taken() == taken


JIT_COMPILE = [
    False,
    True,
]


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
@pytest.mark.parametrize("full_length", [True, False])
@pytest.mark.parametrize("criterion", [None, fusemin.LossNotDecreasing(atol=1e-3)], ids=["no criterion", "criterion"])
def test_no_steps(criterion, full_length, jit_compile):
    problem = Batch()
    trace = problem.minimize(
        0,
        convergence_criterion=criterion,
        return_full_length_trace=full_length,
        jit_compile=jit_compile,
        trace_fn=lambda q: (q.loss, tf.identity(problem.variable)),
    )
    assert [leaf.shape for leaf in trace] == [(0, 3), (0, 3)]
    assert problem.num_steps_taken() == 0


def test_one_step_only_bootstraps():
    class FailsLater(WithoutState):
        def one_step(self, step, loss, grads, parameters, auxiliary_state):
            with tf.control_dependencies([tf.debugging.assert_greater(step, 0, message="step 0 is for `bootstrap`")]):
                return tf.fill(tf.shape(loss), True), ()

    for num_steps in (1, 3):
        problem = Batch()
        trace = problem.minimize(num_steps, convergence_criterion=FailsLater(), return_full_length_trace=False)
        np.testing.assert_array_equal(trace.has_converged, [[False] * 3, [True] * 3][:num_steps])
        assert problem.num_steps_taken() == min(num_steps, 2)


STATELESS_CASES = {
    "all": (tf.reduce_all, True, False),
    "any, truncated": (tf.reduce_any, False, False),
    "compiled": (tf.reduce_any, True, True),
    "compiled, truncated": (mean_over_half, False, True),
}


@pytest.mark.parametrize("case", STATELESS_CASES)
def test_minimize_stateless(case):
    reduce_fn, full_length, jit_compile = STATELESS_CASES[case]
    evaluations = tf.Variable(0)

    def loss(x):
        evaluations.assign_add(1)
        return batch_loss(x)

    def run(minimize_stateless, criterion, jit_compile):
        evaluations.assign(0)
        result = minimize_stateless(
            loss,
            tf.constant(START, tf.float64),
            NUM_STEPS,
            PureDescent(),
            convergence_criterion=criterion,
            batch_convergence_reduce_fn=reduce_fn,
            trace_fn=lambda q: (q.step, q.loss, q.has_converged, q.convergence_criterion_state, q.parameters),
            return_full_length_trace=full_length,
            jit_compile=jit_compile,
        )
        return tf.nest.flatten(result)

    theirs = tfp.optimizer.convergence_criteria.LossNotDecreasing(atol=1e-2)
    expected = run(tfp.math.minimize_stateless, theirs, False)
    taken = int(expected[1][-1]) + 1
    assert 20 < taken < NUM_STEPS
    for criterion in (theirs, fusemin.LossNotDecreasing(atol=1e-2)):
        trace = run(fusemin.minimize_stateless, criterion, jit_compile)
        assert_same(trace, expected, rtol=1e-9 if jit_compile else RTOL)
        assert int(evaluations) == taken


def test_minimize_stateless_without_steps():
    start = tf.constant(START, tf.float64)
    criterion = fusemin.LossNotDecreasing(atol=1e-2)
    final, losses = fusemin.minimize_stateless(batch_loss, start, 0, PureDescent(), convergence_criterion=criterion)
    np.testing.assert_array_equal(final, START)
    assert losses.shape == (0, 3)


def test_neither_atol_nor_rtol():
    with pytest.raises(ValueError, match="`atol` and `rtol`"):
        fusemin.LossNotDecreasing()


def test_numbers_of_a_user_are_in_the_type_of_the_loss():
    """`atol` as a Python number, with losses of a half type, where a float32 threshold would not do."""
    x = tf.Variable(START, dtype=tf.float16)
    trace = fusemin.minimize(
        lambda: batch_loss(x),
        NUM_STEPS,
        gradient_descent(),
        fusemin.LossNotDecreasing(atol=1e-2, rtol=1e-3),
        trace_fn=lambda q: (q.has_converged, q.convergence_criterion_state),
        return_full_length_trace=False,
    )
    assert len(trace[0]) < NUM_STEPS
    assert {leaf.dtype for leaf in trace[1]} == {tf.float16}
