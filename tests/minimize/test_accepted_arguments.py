"""Each argument: what TensorFlow Probability takes is taken, with its meaning. A table beside TFP."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import fusemin
from fusemin.loop.convergence import LossNotDecreasingState
from tests.support.minimize_runs import Problem, assert_same, quadratic

RTOL = 1e-6
NUM_STEPS = 3

# By argument, what is passed. A function is called first, since TensorFlow has no variables before the tests run.
TRUTHS = {
    "None": None,
    "0": 0,
    "1": 1,
    "2.0": 2.0,
    "an empty str": "",
    "an empty list": [],
    "numpy True": np.True_,
    "numpy 0": np.int64(0),
    "an array": np.array(True),
    "an eager tensor": lambda: tf.constant(False),
}
ACCEPTED = {
    "num_steps": {
        "a whole float": 4.0,
        "a numpy float": np.float64(4),
        "a numpy int": np.int64(4),
        "an array": np.array(4),
        "an array of floats": np.array(4.0),
        "a tensor": lambda: tf.constant(4),
        "an int64 tensor": lambda: tf.constant(4, tf.int64),
        "a float tensor": lambda: tf.constant(4.0),
        "a variable": lambda: tf.Variable(4),
        "an int64 variable": lambda: tf.Variable(4, dtype=tf.int64),
        "a float variable": lambda: tf.Variable(4.0),
        "a Keras variable": lambda: keras.Variable(4, dtype="int32"),
    },
    "jit_compile": TRUTHS,
    "return_full_length_trace": {**TRUTHS, "a str": "yes"},
    "seed": {
        "an int": 3,
        "a negative int": -3,
        "an int of 41 bits": 2**40,
        "an int of 71 bits": 2**70,
        "a bool": True,
        "a list": [1, 2],
        "a tuple": (1, 2),
        "a range": range(1, 3),
        "a list of one": [3],
        "an array": np.array([1, 2], np.int32),
        "a tensor": lambda: tf.constant([1, 2]),
        "a scalar tensor": lambda: tf.constant(3),
        "a list of tensors": lambda: [tf.constant(1), tf.constant(2)],
        "a variable": lambda: tf.Variable([1, 2]),
        "a seed stream": lambda: tfp.util.SeedStream(3, "salt"),
    },
    "name": {"empty": "", "with a space": "a b", "with slashes": "a/b/", "of an underscore": "_x", "accented": "é"},
    "trace_fn": {
        "nothing": lambda q: (),
        "an empty list": lambda q: [],
        "all": lambda q: q,
        "an array": lambda q: np.ones(2),
        "a namedtuple": lambda q: LossNotDecreasingState(q.loss, q.step, q.seed),
        "states": lambda q: (q.optimizer_state, q.convergence_criterion_state, q.has_converged),
    },
    "batch_convergence_reduce_fn": {
        "any": tf.reduce_any,
        "a Python bool": lambda has_converged: False,
        "of one element": lambda has_converged: tf.reshape(has_converged, [1]),
        "a stop without a criterion": lambda has_converged: True,
    },
}
CASES = [(argument, case) for argument, cases in ACCEPTED.items() for case in cases]
FUNCTIONS = {"trace_fn", "batch_convergence_reduce_fn"}


class PureDescent:
    def init(self, parameters):
        return tf.nest.map_structure(tf.zeros_like, parameters)

    def update(self, grads, state, parameters):
        state = tf.nest.map_structure(lambda s, g: 0.5 * s + g, state, grads)
        return tf.nest.map_structure(lambda s: -0.125 * s, state), state


def minimize(module, **arguments):
    x = tf.Variable([1.0, 2.0])

    def loss(seed=None):
        return quadratic(x if seed is None else x + tf.random.stateless_normal([2], seed))

    return module.minimize(loss, optimizer=tf_keras.optimizers.SGD(0.125), **{"num_steps": NUM_STEPS, **arguments})


def minimize_stateless(module, **arguments):
    def loss(x, seed=None):
        return quadratic(x if seed is None else x + tf.random.stateless_normal([2], seed))

    arguments = {"num_steps": NUM_STEPS, **arguments}
    return module.minimize_stateless(loss, init=np.array([1.0, 2.0], np.float32), optimizer=PureDescent(), **arguments)


@pytest.mark.parametrize("run", [minimize, minimize_stateless])
@pytest.mark.parametrize(("argument", "case"), CASES)
def test_as_in_tfp(argument, case, run):
    def value():
        value = ACCEPTED[argument][case]
        return value() if callable(value) and argument not in FUNCTIONS else value

    def result(module):
        tf.random.set_seed(7)
        return run(module, **{argument: value()})

    got, want = result(fusemin), result(tfp.math)
    if (argument, case) == ("trace_fn", "all"):
        got, want = tuple(got if run is minimize else got[1]), tuple(want if run is minimize else want[1])
    assert_same(got, want, RTOL)


# What TFP takes by accident, and what would come of it; and that it is refused.
REFUSED = {
    "half a step": ({"num_steps": 2.5}, TypeError, NUM_STEPS),
    "a bool for a number": ({"num_steps": True}, TypeError, 1),
    "a list of a number": ({"num_steps": np.array([3])}, TypeError, NUM_STEPS),
    "fewer than no steps": ({"num_steps": -1}, ValueError, 1),
    "another str than auto and loss": ({"jit_compile": "losses"}, ValueError, NUM_STEPS),
}


@pytest.mark.parametrize("case", REFUSED)
def test_accidents_of_tfp_are_refused(case):
    arguments, error, rows_in_tfp = REFUSED[case]
    with pytest.raises(error):
        minimize(fusemin, **arguments)
    assert len(minimize(tfp.math, **arguments)) == rows_in_tfp


def test_no_steps_are_none():
    """TFP takes one step."""
    assert len(minimize(fusemin, num_steps=0)) == 0
    assert len(minimize(tfp.math, num_steps=0)) == 1


@pytest.mark.parametrize("value", [5.0, 2.5, -1.0])
def test_float_number_of_steps_that_only_the_run_knows(value):
    problem = Problem.make()
    run = tf.function(lambda num_steps: problem.minimize(num_steps), autograph=False)
    if value == 5.0:
        assert run(tf.constant(value))["loss"].shape == (5,)
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_steps` must"):
        run(tf.constant(value))
    np.testing.assert_array_equal(problem.variable, [1.0, 2.0])


def test_variable_for_the_number_of_steps_is_read_at_each_run():
    problem, num_steps = Problem.make(), tf.Variable(2)
    run = tf.function(lambda: problem.minimize(num_steps), autograph=False)
    assert run()["loss"].shape == (2,)
    num_steps.assign(4)
    assert run()["loss"].shape == (4,)


def test_seed_stream_gives_a_new_seed_to_each_run():
    stream, problem = tfp.util.SeedStream(1, "salt"), Problem.make()
    fit = fusemin.Minimizer(problem.loss, problem.optimizer, trace_fn=lambda q: q.seed)
    assert (fit(1, stream).numpy() != fit(1, stream).numpy()).any()


def test_user_stops_the_loop_without_a_criterion():
    stop = tf.Variable(False, trainable=False)
    x = tf.Variable([1.0, 2.0])

    def loss():
        stop.assign(tf.reduce_sum((x - 3.0) ** 2) < 1.0)
        return quadratic(x)

    def rows(module):
        stop.assign(False)
        x.assign([1.0, 2.0])
        return len(
            module.minimize(
                loss,
                50,
                tf_keras.optimizers.SGD(0.125),
                trainable_variables=[x],
                batch_convergence_reduce_fn=lambda has_converged: stop,
                return_full_length_trace=False,
            )
        )

    assert rows(fusemin) == rows(tfp.math) < 10


class StaticOptimizer:
    """A class with no need of an instance."""

    @staticmethod
    def apply_gradients(grads_and_vars):
        for gradient, variable in grads_and_vars:
            variable.assign_sub(0.125 * gradient)
        return tf.no_op()


def test_class_whose_method_is_static():
    x = tf.Variable([1.0, 2.0])
    got = fusemin.minimize(lambda: quadratic(x), NUM_STEPS, StaticOptimizer)
    x.assign([1.0, 2.0])
    assert_same(got, tfp.math.minimize(lambda: quadratic(x), NUM_STEPS, StaticOptimizer), RTOL)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda: tf.compat.v1.train.AdamOptimizer(0.125),
        lambda: tf.compat.v1.train.MomentumOptimizer(0.125, 0.5),
        lambda: tf_keras.optimizers.legacy.Adam(0.125),
        lambda: tf_keras.optimizers.legacy.Nadam(0.125),
        lambda: tf_keras.optimizers.legacy.SGD(0.125),
    ],
)
def test_optimizer_made_in_the_function_that_fits(make_optimizer, jit_compile):
    def run(module):
        x = tf.Variable([1.0, 2.0])

        @tf.function(autograph=False)
        def fit():
            return module.minimize(lambda: quadratic(x), NUM_STEPS, make_optimizer(), jit_compile=jit_compile)

        return [fit(), fit(), x]  # The function is traced twice at its first call.

    assert_same(run(fusemin), run(tfp.math), RTOL)


def accumulate(make_state):
    class Optimizer:
        init = staticmethod(make_state)

        def update(self, grads, state, parameters):
            return tf.nest.map_structure(lambda g: -0.125 * g, grads), tf.nest.map_structure(lambda s: s + 1, state)

    return Optimizer()


def sum_of_squares(*arguments):
    return tf.add_n([tf.cast(tf.reduce_sum(tf.abs(x) ** 2), tf.float64) for x in tf.nest.flatten(arguments)])


Pair = LossNotDecreasingState
INITS = {
    "a Python float": lambda: 1.0,
    "a Python int": lambda: 1,
    "a bool": lambda: True,
    "a complex number": lambda: 1 + 2j,
    "an array of float64": lambda: np.ones(2),
    "an array of float32": lambda: np.ones(2, np.float32),
    "a scalar of float64": lambda: np.float64(1.0),
    "a scalar of float16": lambda: np.float16(1.0),
    "a variable": lambda: tf.Variable(1.0),
    "a tensor of float64": lambda: tf.ones(2, tf.float64),
    "a list": lambda: [1.0, np.ones(2)],
    "a tuple of one": lambda: (1.0,),
    "a list in a tuple": lambda: ([1.0, 2.0], np.float64(3.0)),
    "a namedtuple": lambda: Pair(1.0, np.ones(2), 3.0),
    "a namedtuple in a list": lambda: [Pair(1.0, np.ones(2), 3.0)],
    "a dict": lambda: {"b": 1.0, "a": np.ones(2)},
    "a dict in a tuple": lambda: ({"b": 1.0, "a": np.ones(2)},),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", INITS)
def test_init_as_in_tfp(case, jit_compile):
    """In structure and dtypes, of parameters, gradients and state."""
    got, want = (
        module.minimize_stateless(
            sum_of_squares,
            init=INITS[case](),
            num_steps=NUM_STEPS,
            optimizer=accumulate(lambda p: [0, np.zeros(2)]),
            trace_fn=lambda q: (q.loss, q.gradients, q.parameters, q.optimizer_state),
            jit_compile=jit_compile,
        )
        for module in (fusemin, tfp.math)
    )
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        assert a.dtype == b.dtype
    assert_same(tf.nest.map_structure(tf.math.real, got), tf.nest.map_structure(tf.math.real, want), 1e-6)
    assert_same(tf.nest.map_structure(imaginary, got), tf.nest.map_structure(imaginary, want), 1e-6)


def imaginary(tensor):
    return tf.math.imag(tensor) if tensor.dtype.is_complex else tf.zeros_like(tensor)


def test_float64_init_is_minimized_in_float64():
    def loss(x):
        return tf.reduce_sum((x - tf.constant([1 / 3, 2 / 3], tf.float64)) ** 2)

    _, losses = fusemin.minimize_stateless(loss, np.zeros(2), 200, PureDescent())
    assert losses.dtype == tf.float64
    assert losses[-1] < 1e-25


def test_state_in_another_structure_than_it_began_with():
    class Optimizer(PureDescent):
        def init(self, parameters):
            return (0, parameters)

        def update(self, grads, state, parameters):
            return grads, [state[0] + 1, state[1]]

    run = functools.partial(fusemin.minimize_stateless, lambda x: x**2, 1.0, optimizer=Optimizer())
    _, trace = run(num_steps=3, trace_fn=lambda q: q.optimizer_state)
    assert isinstance(trace, list)
    np.testing.assert_array_equal(trace[0], [1, 2, 3])
