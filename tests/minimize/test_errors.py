"""Bad input: one error of the right type, whose message names the argument or variable, and nothing written."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from fusemin import _build
from tests.support.minimize_runs import START, Problem, quadratic, run_program
from tests.support.own_optimizers import PureDescent

NUM_STEPS = 3


def integer_variable():
    return tf.Variable([1, 2], name="whole")


def other_variable(name="other"):
    return tf.Variable(START, dtype=tf.float64, name=name)


def built_for_another_variable(make_optimizer):
    optimizer = make_optimizer()
    optimizer.build([other_variable()])
    return optimizer


class WithoutOneStep:
    def bootstrap(self, loss, grads, parameters):
        return ()


# What a call is given instead of what is right, from the problem; the error, and a regular expression of its message.
CASES = {
    "num_steps negative": (lambda p: {"num_steps": -1}, ValueError, "`num_steps` must not be negative, it is -1"),
    "num_steps a negative tensor": (lambda p: {"num_steps": tf.constant(-2)}, ValueError, "`num_steps`.*-2"),
    "num_steps a negative array": (lambda p: {"num_steps": np.array(-3)}, ValueError, "`num_steps`.*-3"),
    "num_steps too large": (lambda p: {"num_steps": 2**31}, ValueError, "`num_steps`.*2147483648"),
    "num_steps a float": (lambda p: {"num_steps": 2.5}, TypeError, r"`num_steps`.*2\.5"),
    "num_steps a float tensor": (lambda p: {"num_steps": tf.constant(2.5)}, TypeError, r"`num_steps`.*2\.5"),
    "num_steps a float array": (lambda p: {"num_steps": np.array(2.5)}, TypeError, r"`num_steps`.*2\.5"),
    "num_steps infinite": (lambda p: {"num_steps": float("inf")}, TypeError, "`num_steps`.*inf"),
    "num_steps a complex number": (lambda p: {"num_steps": 3j}, TypeError, "`num_steps`.*3j"),
    "num_steps a bool": (lambda p: {"num_steps": True}, TypeError, "`num_steps`.*True"),
    "num_steps a string": (lambda p: {"num_steps": "3"}, TypeError, "`num_steps`.*'3'"),
    "num_steps None": (lambda p: {"num_steps": None}, TypeError, "`num_steps`.*None"),
    "num_steps a list": (lambda p: {"num_steps": [3]}, TypeError, r"`num_steps`.*\[3\]"),
    "num_steps a vector": (lambda p: {"num_steps": tf.constant([3])}, TypeError, r"`num_steps`.*\(1,\)"),
    "no variables": (lambda p: {"trainable_variables": []}, ValueError, "no trainable variables.*is empty"),
    "loss reads only what has no gradient": (
        lambda p: {"trainable_variables": None, "loss_fn": lambda: tf.floor(tf.cast(p.variable, tf.int32) / 2)},
        ValueError,
        "depends on none of the variables that `loss_fn` reads, 'x:0'",
    ),
    "variable of integers": (lambda p: {"trainable_variables": [integer_variable()]}, TypeError, "'whole:0'.*int32"),
    "tensor for a variable": (
        lambda p: {"trainable_variables": [tf.constant(1.0)]},
        TypeError,
        "`trainable_variables` must hold variables",
    ),
    "variable for a list": (
        lambda p: {"trainable_variables": p.variable},
        TypeError,
        "`trainable_variables` must be a list.*'x:0'",
    ),
    "loss of integers": (lambda p: {"loss_fn": lambda: tf.constant(1)}, TypeError, "`loss_fn`.*int32"),
    "loss of complex numbers": (
        lambda p: {"loss_fn": lambda: tf.complex(p.loss(), p.loss())},
        TypeError,
        "`loss_fn`.*complex128",
    ),
    "loss None": (lambda p: {"loss_fn": lambda: None}, TypeError, "`loss_fn`.*None.*`return` missing"),
    "loss a Python number": (lambda p: {"loss_fn": lambda: 1.5}, TypeError, r"`loss_fn`.*1\.5"),
    "loss a structure": (lambda p: {"loss_fn": lambda: {"a": p.loss()}}, TypeError, r"`loss_fn`.*\{'a'"),
    "losses of several shapes": (
        lambda p: {"loss_fn": lambda: [p.loss(), p.variable**2]},
        TypeError,
        "`loss_fn`.*one shape",
    ),
    "loss not a function": (lambda p: {"loss_fn": tf.constant(1.0)}, TypeError, "`loss_fn` must be callable"),
    "loss of another variable": (
        lambda p: {"trainable_variables": [p.variable, other_variable("idle"), other_variable("unused")]},
        ValueError,
        "does not depend on variables 'idle:0', 'unused:0'",
    ),
    "loss without a gradient": (
        lambda p: {"loss_fn": lambda: tf.stop_gradient(p.loss())},
        ValueError,
        "does not depend on variable 'x:0'",
    ),
    "optimizer without apply_gradients": (lambda p: {"optimizer": object()}, TypeError, "`optimizer`.*apply_gradients"),
    "optimizer None": (lambda p: {"optimizer": None}, TypeError, "`optimizer`.*None"),
    "optimizer a class": (lambda p: {"optimizer": keras.optimizers.Adam}, TypeError, "`optimizer`.*class Adam"),
    "optimizer a string": (lambda p: {"optimizer": "adam"}, TypeError, r"`optimizer`.*optimizers\.get\('adam'\)"),
    "keras optimizer of other variables": (
        lambda p: {"optimizer": built_for_another_variable(keras.optimizers.Adam)},
        ValueError,
        "`optimizer` was built for other variables.*'x:0'",
    ),
    "tf_keras optimizer of other variables": (
        lambda p: {"optimizer": built_for_another_variable(tf_keras.optimizers.Adam)},
        ValueError,
        "`optimizer` was built for other variables.*'x:0'",
    ),
    "trace_fn not a function": (lambda p: {"trace_fn": "loss"}, TypeError, "`trace_fn` must be callable"),
    "trace_fn of no argument": (lambda p: {"trace_fn": lambda: 1.0}, TypeError, r"`trace_fn`.*signature is \(\)"),
    "trace_fn of two arguments": (lambda p: {"trace_fn": lambda a, b: a}, TypeError, r"`trace_fn`.*\(a, b\)"),
    "trace_fn of four arguments": (lambda p: {"trace_fn": lambda a, b, c, d: a}, TypeError, "`trace_fn`.*c, d"),
    "trace_fn returns None": (lambda p: {"trace_fn": lambda q: None}, TypeError, "`trace_fn`.*returned None"),
    "trace_fn returns None in a structure": (
        lambda p: {"trace_fn": lambda q: {"loss": q.loss, "x": None}},
        TypeError,
        "`trace_fn`.*holds None",
    ),
    "trace_fn returns an object": (lambda p: {"trace_fn": lambda q: [object()]}, TypeError, "`trace_fn`.*object"),
    "jit_compile a string": (lambda p: {"jit_compile": "yes"}, ValueError, "`jit_compile`.*'yes'"),
    "jit_compile an array": (lambda p: {"jit_compile": np.array([True, False])}, TypeError, "`jit_compile`.*array"),
    "return_full_length_trace an array": (
        lambda p: {"return_full_length_trace": np.array([True, False])},
        TypeError,
        "`return_full_length_trace`.*array",
    ),
    "name None": (lambda p: {"name": None}, TypeError, "`name`.*None"),
    "seed a float": (lambda p: {"seed": 1.5}, TypeError, r"`seed`.*1\.5"),
    "seed a string": (lambda p: {"seed": "1"}, TypeError, "`seed`.*'1'"),
    "seed of three numbers": (lambda p: {"seed": [1, 2, 3]}, TypeError, r"`seed`.*\(3,\)"),
    "criterion without methods": (
        lambda p: {"convergence_criterion": 1e-3},
        TypeError,
        r"`convergence_criterion`.*0\.001 has no bootstrap",
    ),
    "criterion without one_step": (
        lambda p: {"convergence_criterion": WithoutOneStep()},
        TypeError,
        "`convergence_criterion`.*has no one_step",
    ),
    "criterion a class": (
        lambda p: {"convergence_criterion": fusemin.LossNotDecreasing},
        TypeError,
        "`convergence_criterion`.*class LossNotDecreasing",
    ),
    "batch_convergence_reduce_fn not a function": (
        lambda p: {"batch_convergence_reduce_fn": True},
        TypeError,
        "`batch_convergence_reduce_fn` must be callable",
    ),
}


def state(problem):
    return [v.numpy() for v in [problem.variable, *problem.optimizer.variables]]


@pytest.fixture(scope="module")
def problem():
    """After some steps, so that no slot is zero."""
    problem = Problem.make(lambda: keras.optimizers.Adam(0.1))
    problem.minimize(NUM_STEPS)
    return problem


@pytest.fixture
def unchanged(problem):
    """Fails if the test changes the problem."""
    before = state(problem)
    yield problem
    after = state(problem)
    assert len(before) == len(after)
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)


def call(problem, **changes):
    arguments = {
        "loss_fn": problem.loss,
        "num_steps": NUM_STEPS,
        "optimizer": problem.optimizer,
        "trainable_variables": [problem.variable],
    }
    return fusemin.minimize(**{**arguments, **changes})


@pytest.mark.parametrize("case", CASES)
def test_bad_argument(unchanged, case):
    changes, error, message = CASES[case]
    # Here, since no variable can be made inside of a function.
    changes = changes(unchanged)

    def run():
        call(unchanged, **changes)

    for mode in (run, tf.function(run, autograph=False)):
        with pytest.raises(error, match=f"(?s){message}"):
            mode()


@pytest.mark.parametrize("in_a_function", [False, True])
def test_seed_of_floats(unchanged, in_a_function):
    seed = tf.constant([1.0, 2.0])

    def run():
        call(unchanged, seed=seed)

    with pytest.raises(TypeError, match="`seed`"):
        tf.function(run, autograph=False)() if in_a_function else run()


def test_an_optimizer_refused_is_not_built():
    """So that it can still be used, for other variables."""
    problem = Problem.make(lambda: keras.optimizers.Adam(0.1))
    with pytest.raises(ValueError, match="'idle:0'"):
        call(problem, trainable_variables=[problem.variable, other_variable("idle")])
    assert not problem.optimizer.built


@pytest.mark.parametrize("jit_compile", [False, True])
def test_negative_tensor_that_only_the_run_knows(unchanged, jit_compile):
    @tf.function(autograph=False)
    def run(num_steps):
        return call(unchanged, num_steps=num_steps, jit_compile=jit_compile)

    # XLA needs to know the shape of the trace.
    error, message = (
        (ValueError, "`num_steps` must be known.*`jit_compile`")
        if jit_compile
        else (tf.errors.InvalidArgumentError, "`num_steps` must not be negative")
    )
    with pytest.raises(error, match=message):
        run(tf.constant(-1))


def raise_in_loss(error):
    def loss():
        raise error

    return {"loss_fn": loss}


def raise_in_loss_with_seed(error):
    def loss(seed):
        raise error

    return {"loss_fn": loss, "seed": 1}


def raise_in_trace(error):
    def trace(quantities):
        raise error

    return {"trace_fn": trace}


def raise_in_older_trace(error):
    def trace(loss, grads, variables):
        raise error

    return {"trace_fn": trace}


def raise_in_optimizer(error):
    class Raises:
        def apply_gradients(self, grads_and_vars):
            raise error

    return {"optimizer": Raises()}


def raise_in_bootstrap(error):
    class Raises:
        def bootstrap(self, loss, grads, parameters):
            raise error

        def one_step(self, step, loss, grads, parameters, auxiliary_state):
            """Not called."""

    return {"convergence_criterion": Raises()}


def raise_in_one_step(error):
    class Raises:
        def bootstrap(self, loss, grads, parameters):
            return ()

        def one_step(self, step, loss, grads, parameters, auxiliary_state):
            raise error

    return {"convergence_criterion": Raises()}


RAISERS = [
    raise_in_loss,
    raise_in_loss_with_seed,
    raise_in_trace,
    raise_in_older_trace,
    raise_in_optimizer,
    raise_in_bootstrap,
    raise_in_one_step,
]


@pytest.mark.parametrize("error", [TypeError("mine"), ValueError("mine")], ids=["TypeError", "ValueError"])
@pytest.mark.parametrize("raiser", RAISERS)
def test_errors_of_the_users_code_reach_the_user(unchanged, raiser, error):
    """A `try: ... except TypeError` around a call would hide them."""
    with pytest.raises(type(error)) as raised:
        call(unchanged, **raiser(error))
    assert raised.value is error


STATELESS_CASES = {
    "num_steps negative": ({"num_steps": -1}, ValueError, "`num_steps`.*-1"),
    "num_steps a float": ({"num_steps": 1.5}, TypeError, "`num_steps`"),
    "loss None": ({"loss_fn": lambda x: None}, TypeError, "`loss_fn`.*None"),
    "loss of integers": ({"loss_fn": lambda x: tf.constant(1)}, TypeError, "`loss_fn`.*int32"),
    "loss not a function": ({"loss_fn": 1.0}, TypeError, "`loss_fn` must be callable"),
    "loss of one of two": (
        {"init": [tf.constant(START)] * 2, "loss_fn": lambda x, y: quadratic(x)},
        ValueError,
        r"does not depend on `init\[1\]`: no gradient\. Leave it out",
    ),
    "optimizer with variables": ({"optimizer": keras.optimizers.SGD()}, TypeError, "`optimizer`.*has no init"),
    "trace_fn returns None": ({"trace_fn": lambda q: None}, TypeError, "`trace_fn`.*None"),
    "trace_fn not a function": ({"trace_fn": 1.0}, TypeError, "`trace_fn` must be callable"),
    "seed a float": ({"seed": 1.5}, TypeError, "`seed`"),
    "jit_compile an array": ({"jit_compile": np.zeros(2)}, TypeError, "`jit_compile`"),
    "return_full_length_trace an array": ({"return_full_length_trace": np.ones(2)}, TypeError, "`return_full_length_"),
    "name a number": ({"name": 1}, TypeError, "`name`.*1"),
    "criterion a class": (
        {"convergence_criterion": fusemin.LossNotDecreasing},
        TypeError,
        "`convergence_criterion`.*LossNotDecreasing",
    ),
    "batch_convergence_reduce_fn not a function": (
        {"batch_convergence_reduce_fn": None},
        TypeError,
        "`batch_convergence_reduce_fn` must be callable",
    ),
}


@pytest.mark.parametrize("case", STATELESS_CASES)
def test_bad_argument_of_minimize_stateless(case):
    changes, error, message = STATELESS_CASES[case]
    arguments = {"loss_fn": quadratic, "init": tf.constant(START), "num_steps": NUM_STEPS, "optimizer": PureDescent()}
    with pytest.raises(error, match=f"(?s){message}"):
        fusemin.minimize_stateless(**{**arguments, **changes})


MINIMIZER_CASES = {
    "loss_fn": ({"loss_fn": None}, TypeError, "`loss_fn`"),
    "optimizer": ({"optimizer": "adam"}, TypeError, "`optimizer`"),
    "trace_fn": ({"trace_fn": lambda a, b: a}, TypeError, "`trace_fn`"),
    "jit_compile": ({"jit_compile": "yes"}, ValueError, "`jit_compile`"),
    "convergence_criterion": ({"convergence_criterion": object()}, TypeError, "`convergence_criterion`"),
}


@pytest.mark.parametrize("case", MINIMIZER_CASES)
def test_minimizer_refuses_when_it_is_made(problem, case):
    changes, error, message = MINIMIZER_CASES[case]
    with pytest.raises(error, match=message):
        fusemin.Minimizer(**{"loss_fn": problem.loss, "optimizer": problem.optimizer, **changes})


# What is initialized, of the variable and the optimizer's slot, and a part of the message.
UNINITIALIZED = {"variable": (["slot"], "x"), "slot": (["x"], "slot 'momentum' of variable 'x")}


@pytest.mark.parametrize("case", UNINITIALIZED)
def test_variable_that_is_not_initialized(case):
    initialized, message = UNINITIALIZED[case]
    with tf.Graph().as_default():
        problem = Problem.make(lambda: tf.compat.v1.train.MomentumOptimizer(0.125, 0.5))
        losses = call(problem)
        variables = {"x": problem.variable, "slot": problem.optimizer.get_slot(problem.variable, "momentum")}
        with tf.compat.v1.Session() as session:
            for name in initialized:
                session.run(variables[name].initializer)
            before = session.run([variables[name] for name in initialized])
            with pytest.raises(tf.errors.FailedPreconditionError, match=message):
                session.run(losses)
            for got, want in zip(session.run([variables[name] for name in initialized]), before, strict=True):
                np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def errors_of_a_process():
    """Of what has to be set before TensorFlow starts: an instruction set that there is not."""
    program = """
        import json
        import tensorflow as tf
        import fusemin

        x = tf.Variable([1.0, 2.0], name="x")

        def report(variables):
            optimizer = tf.compat.v1.train.MomentumOptimizer(0.125, 0.5)
            try:
                fusemin.minimize(lambda: tf.add_n([tf.nn.l2_loss(v) for v in variables]), 3, optimizer,
                                 trainable_variables=variables)
            except Exception as error:
                slots = [optimizer.get_slot(v, "momentum") for v in variables]
                slots = [slot.numpy().tolist() for slot in slots if slot is not None]
                return [type(error).__name__, str(error), [v.numpy().tolist() for v in variables], slots]

        print(json.dumps({"isa": report([x])}))
    """
    return json.loads(run_program(program, FUSEMIN_ISA="vax").splitlines()[-1])


def test_instruction_set_that_there_is_not(errors_of_a_process):
    error, message, values, slots = errors_of_a_process["isa"]
    assert error == "InvalidArgumentError"
    assert "FUSEMIN_ISA" in message
    assert "vax" in message
    assert values == [[1.0, 2.0]]
    assert slots == [[0.0, 0.0]]


BUILT_FOR = {"2.20": pathlib.Path("fusemin_ops_2_20.so"), "2.21": pathlib.Path("fusemin_ops_2_21.so")}


@pytest.mark.parametrize("running", ["2.19.1", "2.2.0", "2.22.0-rc1", "3.21.0"])
def test_another_tensorflow_than_it_was_built_for(running):
    with pytest.raises(ImportError) as raised:
        _build.op_library(running, BUILT_FOR)
    for part in (
        f"TensorFlow {running} is running",
        "built for TensorFlow 2.20 and 2.21",
        "Install 'tensorflow==2.20.*' or 'tensorflow==2.21.*'",
        "--no-build-isolation",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize("running", ["2.20.1", "2.21.0", "2.21.3", "2.21.0-rc1"])
def test_the_tensorflow_it_was_built_for(running):
    assert _build.op_library(running, BUILT_FOR) == BUILT_FOR[running[:4]]
