"""What a row of a trace holds: the value after the update of its step, whatever memory it shares with the variable."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.minimize_runs import (
    LEARNING_RATE,
    START,
    TARGET,
    Problem,
    assert_same,
    gradient_descent,
    gradient_descent_run,
    quadratic,
    to_numpy,
)
from tests.support.own_optimizers import Descent

# Two iterations of the loop that takes four steps in one, and a rest.
NUM_STEPS = 9
RTOL = 1e-13


OPTIMIZERS = {"fused": gradient_descent, "fallback": Descent}
WATCHED = {"variables given": lambda x: [x], "variables found": lambda x: None}

LOSSES, GRADIENTS, PARAMETERS = gradient_descent_run(NUM_STEPS)
STEPS = np.arange(NUM_STEPS)

# What `trace_fn` returns, from the quantities and the variable, and the trace that it makes.
LEAVES = {
    "variable": (lambda q, x: x, PARAMETERS),
    "handle": (lambda q, x: tf.raw_ops.ReadVariableOp(resource=x.handle, dtype=x.dtype), PARAMETERS),
    "identity": (lambda q, x: tf.identity(x), PARAMETERS),
    "read_value": (lambda q, x: x.read_value(), PARAMETERS),
    "value": (lambda q, x: x.value(), PARAMETERS),
    "convert_to_tensor": (lambda q, x: tf.convert_to_tensor(x), PARAMETERS),
    # Ops that pass on the buffer that they read.
    "reshape": (lambda q, x: tf.reshape(x, [1, 2]), PARAMETERS[:, np.newaxis]),
    "slice": (lambda q, x: x[1:], PARAMETERS[:, 1:]),
    "sparse_read": (lambda q, x: x.sparse_read([1, 0]), PARAMETERS[:, ::-1]),
    "derived": (lambda q, x: 2 * x, 2 * PARAMETERS),
    "parameters": (lambda q, x: q.parameters[0], PARAMETERS),
    "identity of parameters": (lambda q, x: tf.identity(q.parameters[0]), PARAMETERS),
    "gradients": (lambda q, x: q.gradients[0], GRADIENTS),
    "identity of gradients": (lambda q, x: tf.identity(q.gradients[0]), GRADIENTS),
    "loss": (lambda q, x: q.loss, LOSSES),
    "identity of loss": (lambda q, x: tf.identity(q.loss), LOSSES),
    "step": (lambda q, x: q.step, STEPS.astype(np.int32)),
    "has_converged": (lambda q, x: q.has_converged, STEPS < 0),
    "no seed": (lambda q, x: q.seed, np.full(NUM_STEPS, -1, np.int32)),
    "string": (lambda q, x: tf.strings.as_string([q.step, 7]), np.array([[b"%d" % i, b"7"] for i in STEPS], object)),
    "int8": (lambda q, x: tf.cast(x * 10, tf.int8), (PARAMETERS * 10).astype(np.int8)),
    "complex": (lambda q, x: tf.complex(x, -x), PARAMETERS * (1 - 1j)),
    "bfloat16": (lambda q, x: tf.cast(q.step, tf.bfloat16), STEPS.astype(tf.bfloat16.as_numpy_dtype)),
    "number": (lambda q, x: 1.5, np.full(NUM_STEPS, 1.5, np.float32)),
    "array": (lambda q, x: np.eye(2), np.broadcast_to(np.eye(2), [NUM_STEPS, 2, 2])),
    "empty": (lambda q, x: tf.zeros([0, 3]), np.zeros([NUM_STEPS, 0, 3], np.float32)),
    "shape not known before the loop": (lambda q, x: tf.boolean_mask(x, x > -1), PARAMETERS),
    "rank not known before the loop": (lambda q, x: forget_shape(x), PARAMETERS),
}


def forget_shape(x):
    return tf.compat.v1.placeholder_with_default(x, tf.TensorShape(None))


# What may share memory with a variable or be written by the update op. Of the rest, no optimizer knows.
LEAVES_OF_THE_STEP = list(LEAVES)[: list(LEAVES).index("step")]


@pytest.mark.parametrize(
    ("leaf", "optimizer", "watched"),
    [
        *((leaf, "fused", "variables given") for leaf in LEAVES),
        *((leaf, "fused", "variables found") for leaf in LEAVES_OF_THE_STEP),
        *((leaf, "fallback", "variables found") for leaf in LEAVES_OF_THE_STEP),
    ],
)
def test_leaf_alone(leaf, optimizer, watched):
    problem = Problem.make(OPTIMIZERS[optimizer])
    make, expected = LEAVES[leaf]
    trace = problem.minimize(
        NUM_STEPS,
        trainable_variables=WATCHED[watched](problem.variable),
        trace_fn=lambda q: make(q, problem.variable),
    )
    assert_same(trace, expected, rtol=RTOL)


# One that each op writes, and of each kind of buffer. A graph of all leaves takes long to build.
FEW_LEAVES = ["variable", "gradients", "loss", "derived", "string", "shape not known before the loop"]


def all_leaves(problem, names=LEAVES):
    return lambda q: {name: LEAVES[name][0](q, problem.variable) for name in names}


def rows_of_all_leaves(num_steps, names=LEAVES):
    return {name: LEAVES[name][1][:num_steps] for name in names}


class BigProblem(Problem):
    """Of too many ops for several steps in an iteration of the loop."""

    def loss(self):
        return functools.reduce(lambda total, _: total + 0.0, range(100), super().loss())


# Less than an iteration of four steps, one, two, and with a rest.
STATIC_NUM_STEPS = [
    *(("fused", Problem, num_steps) for num_steps in (1, 3, 4, 7, 8)),
    *(("fused", BigProblem, num_steps) for num_steps in (1, 4, 7)),
    *(("fallback", Problem, num_steps) for num_steps in (1, 4, 7)),
]


@pytest.mark.parametrize(("optimizer", "problem_class", "num_steps"), STATIC_NUM_STEPS)
def test_static_number_of_steps(optimizer, problem_class, num_steps):
    problem = problem_class.make(OPTIMIZERS[optimizer])
    run = tf.function(functools.partial(problem.minimize, num_steps, trace_fn=all_leaves(problem, FEW_LEAVES)))
    assert_same(run(), rows_of_all_leaves(num_steps, FEW_LEAVES), rtol=RTOL)


@pytest.mark.parametrize("problem_class", [Problem, BigProblem])
def test_all_leaves_at_once_for_any_number_of_steps(problem_class):
    problem = problem_class.make()
    minimizer = fusemin.Minimizer(
        problem.loss, problem.optimizer, trainable_variables=[problem.variable], trace_fn=all_leaves(problem)
    )
    for num_steps in range(1, NUM_STEPS + 1):
        problem.variable.assign(START)
        assert_same(minimizer(num_steps), rows_of_all_leaves(num_steps), rtol=RTOL)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("static", [True, False], ids=["in a function", "eager"])
def test_no_steps_leave_empty_traces(static, optimizer):
    problem = Problem.make(OPTIMIZERS[optimizer])
    names = [*FEW_LEAVES, "rank not known before the loop"]
    run = functools.partial(problem.minimize, 0, trace_fn=all_leaves(problem, names))
    traces = (tf.function(run) if static else run)()
    expected = rows_of_all_leaves(0, names)
    for name in ("shape not known before the loop", "rank not known before the loop"):
        # No step has said what shape a row has.
        assert traces.pop(name).shape[0] == 0
        del expected[name]
    assert_same(traces, expected)
    np.testing.assert_array_equal(problem.variable, START)


def test_shapes_are_static_as_far_as_known():
    problem = Problem.make()

    def shapes(*num_steps):
        run = tf.function(lambda n=NUM_STEPS: problem.minimize(n, trace_fn=all_leaves(problem)))
        return {name: t.shape for name, t in run.get_concrete_function(*num_steps).structured_outputs.items()}

    unknown = {"shape not known before the loop": [None], "rank not known before the loop": None}
    rows = {name: unknown.get(name, expected.shape[1:]) for name, (_, expected) in LEAVES.items()}
    for found, steps in ((shapes(), NUM_STEPS), (shapes(tf.constant(NUM_STEPS)), None)):
        for name, row in rows.items():
            expected = tf.TensorShape(None) if row is None else tf.TensorShape([steps, *row])
            assert found[name].as_list() == expected.as_list() if row is not None else found[name].rank is None, name


Pair = collections.namedtuple("Pair", ["first", "second"])
STRUCTURES = {
    "dict": lambda q, x: {"b": x, "a": q.loss},
    "nested": lambda q, x: {"a": {"b": [x, {"c": q.step}]}, "d": (q.loss,)},
    "namedtuple": lambda q, x: Pair(first=x, second=Pair(q.loss, q.gradients)),
    "quantities": lambda q, x: q,
    "list": lambda q, x: [x, q.loss],
    "without a leaf": lambda q, x: {"a": (), "b": q.loss},
    "the same leaf twice": lambda q, x: [x, x, q.loss, q.loss, q.parameters, q.gradients[0], q.gradients],
}


@pytest.mark.parametrize(
    ("structure", "optimizer"),
    [*((structure, "fused") for structure in STRUCTURES), ("nested", "fallback"), ("the same leaf twice", "fallback")],
)
def test_structure_is_kept(structure, optimizer):
    problem = Problem.make(OPTIMIZERS[optimizer])
    trace = problem.minimize(NUM_STEPS, trace_fn=lambda q: STRUCTURES[structure](q, problem.variable))
    quantities = fusemin.MinimizeTraceableQuantities(
        step=STEPS.astype(np.int32),
        loss=LOSSES,
        gradients=[GRADIENTS],
        parameters=[PARAMETERS],
        has_converged=STEPS < 0,
        convergence_criterion_state=(),
        optimizer_state=(),
        seed=np.full(NUM_STEPS, -1, np.int32),
    )
    assert_same(trace, STRUCTURES[structure](quantities, PARAMETERS), rtol=RTOL)
    assert type(trace) is type(STRUCTURES[structure](quantities, PARAMETERS))


def loss_of_each_example(x):
    data = tf.compat.v1.placeholder_with_default(tf.fill([4, 2], tf.constant(TARGET, tf.float64)), [None, 2])
    return tf.reduce_sum((x - data) ** 2, axis=1) / 4


# Loss, declared shape of the variable, number of losses.
UNKNOWN_SHAPES = {
    "loss of each example": (loss_of_each_example, [2], 4),
    "variable of any length": (quadratic, [None], 1),
    "variable of any shape": (quadratic, None, 1),
}


@pytest.mark.parametrize("static", [True, False], ids=["in a function", "eager"])
@pytest.mark.parametrize("case", UNKNOWN_SHAPES)
def test_loss_and_variable_of_unknown_static_shape(case, static):
    loss_fn, shape, num_losses = UNKNOWN_SHAPES[case]
    x = tf.Variable(START, dtype=tf.float64, shape=tf.TensorShape(shape))
    run = functools.partial(
        fusemin.minimize,
        lambda: loss_fn(x),
        NUM_STEPS,
        gradient_descent(),
        trainable_variables=[x],
        trace_fn=lambda q: (q.loss, x, q.gradients[0], q.parameters[0]),
    )
    losses, *rest = (tf.function(run) if static else run)()
    np.testing.assert_allclose(np.reshape(losses, [NUM_STEPS, num_losses]).sum(-1), LOSSES, rtol=RTOL)
    assert_same(rest, [PARAMETERS, GRADIENTS, PARAMETERS], rtol=RTOL)


def test_a_row_of_another_shape_is_an_error():
    problem = Problem.make()
    with pytest.raises(tf.errors.InvalidArgumentError, match="every step must give the same shape"):
        problem.minimize(NUM_STEPS, trace_fn=lambda q: tf.range(q.step))


def test_what_trace_fn_captures():
    problem = Problem.make(lambda: tf_keras.optimizers.SGD(LEARNING_RATE, momentum=0.5))
    x, optimizer = problem.variable, problem.optimizer
    optimizer.build([x])
    counter = tf.Variable(0, trainable=False)

    def loss():
        counter.assign_add(1)
        return problem.loss()

    def trace(q):
        counter.assign_add(10)
        return optimizer.momentums[0], tf.identity(optimizer.momentums[0]), optimizer.iterations, counter

    momentum = fusemin.minimize(loss, NUM_STEPS, optimizer, trainable_variables=[x], trace_fn=trace)
    expected, m, value = [], np.zeros(2), np.array(START)
    for _ in range(NUM_STEPS):
        m = 0.5 * m - LEARNING_RATE * 2 * (value - TARGET)
        value = value + m
        expected.append(m)
    expected = np.array(expected)
    assert_same(momentum, (expected, expected, STEPS + 1, (11 * (STEPS + 1)).astype(np.int32)), rtol=RTOL)


@pytest.mark.parametrize("trainable", [True, False], ids=["variables given", "variables found"])
def test_keras_variables(trainable):
    x = keras.Variable(START, dtype="float64")
    trace = fusemin.minimize(
        lambda: quadratic(x.value),
        NUM_STEPS,
        keras.optimizers.SGD(LEARNING_RATE),
        trainable_variables=[x] if trainable else None,
        trace_fn=lambda q: [x, x.value, tf.identity(x), keras.ops.convert_to_tensor(x), q.parameters[0]],
    )
    assert_same(trace, [PARAMETERS] * 5, rtol=RTOL)


FORMS = {
    "lambda": lambda loss, grads, variables: (loss, grads, variables),
    "other names": lambda a, b, c: (a, b, c),
    "partial": functools.partial(lambda k, loss, grads, variables: (loss, grads, variables), 0),
    "one argument": lambda q: (q.loss, q.gradients, q.parameters),
    "one argument with a default": lambda q, unused=None, unused2=None: (q.loss, q.gradients, q.parameters),
    "any arguments": lambda *args: (args[0].loss, args[0].gradients, args[0].parameters),
}


@pytest.mark.parametrize(("form", "order"), [("lambda", (0, 1, 2)), *((form, (2, 0, 1)) for form in FORMS)])
def test_both_forms_of_trace_fn_and_the_order_of_variables(form, order):
    scales = [1.0, 2.0, 3.0]
    variables = [tf.Variable(scale, dtype=tf.float64) for scale in scales]
    losses, gradients, parameters = to_numpy(
        fusemin.minimize(
            lambda: tf.add_n([s * v for s, v in zip(scales, variables, strict=True)]),
            NUM_STEPS,
            gradient_descent(),
            trainable_variables=[variables[i] for i in order],
            trace_fn=FORMS[form],
        )
    )
    for gradient, parameter, i in zip(gradients, parameters, order, strict=True):
        np.testing.assert_allclose(gradient, np.full(NUM_STEPS, scales[i]))
        np.testing.assert_allclose(parameter, scales[i] * (1 - LEARNING_RATE * (STEPS + 1)), rtol=1e-6, atol=1e-6)
    assert losses[0] == 14.0


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_variables_of_several_dtypes_make_one_step(order):
    """An op is of one dtype; the loss goes with the last of them, and so does the count of steps."""
    optimizer = tf_keras.optimizers.Adam(LEARNING_RATE)
    variables = [tf.Variable(START, dtype=dtype) for dtype in (tf.float32, tf.float64, tf.float32)]

    def loss():
        return tf.add_n([tf.cast(quadratic(v), tf.float64) for v in variables])

    trace = fusemin.minimize(
        loss,
        NUM_STEPS,
        optimizer,
        trainable_variables=[variables[i] for i in order],
        trace_fn=lambda q: (q.loss, [variables, q.gradients], optimizer.iterations),
    )
    alone = Problem.make(lambda: tf_keras.optimizers.Adam(LEARNING_RATE))
    expected = alone.minimize(NUM_STEPS, trace_fn=lambda q: (q.loss, q.gradients[0], alone.variable))
    losses, gradients, parameters = to_numpy(expected)
    dtypes = [variables[i].dtype.as_numpy_dtype for i in order]
    assert_same(
        trace,
        (
            3 * losses,
            [
                [parameters.astype(v.dtype.as_numpy_dtype) for v in variables],
                [gradients.astype(dtype) for dtype in dtypes],
            ],
            STEPS + 1,
        ),
        rtol=1e-5,
    )


def hold_read_value(x):
    return x.read_value()


def hold_value(x):
    return x.value()


def hold_identity(x):
    return tf.identity(x)


def hold_other_variable(x):
    other = tf.Variable([0.0, 0.0], dtype=x.dtype)
    other.assign(x)
    return other


def hold_after_sparse_write(x):
    """A sparse write switches the variable to copy-on-read for good."""
    held = x.read_value()
    x.scatter_update(tf.IndexedSlices(tf.constant([START[0]], x.dtype), [0]))
    return [held, x.read_value()]


HELD = [hold_read_value, hold_value, hold_identity, hold_other_variable, hold_after_sparse_write]


def momentum_problem():
    """Variable and slot start from START."""
    problem = Problem.make(lambda: tf_keras.optimizers.SGD(LEARNING_RATE, momentum=0.5))
    problem.optimizer.build([problem.variable])
    problem.optimizer.momentums[0].assign(START)
    return problem


@functools.cache
def momentum_run():
    return to_numpy(momentum_problem().minimize(NUM_STEPS))


@pytest.mark.parametrize("hold", HELD)
@pytest.mark.parametrize("where", ["the variable", "its slot"])
def test_tensors_that_share_the_memory_keep_their_value(hold, where):
    problem = momentum_problem()
    held = hold(problem.variable if where == "the variable" else problem.optimizer.momentums[0])
    trace = problem.minimize(NUM_STEPS)
    for value in tf.nest.flatten(held):
        np.testing.assert_array_equal(value, START)
    assert_same(trace, momentum_run())


def test_rows_read_while_others_hold_the_variable_in_the_graph():
    """A read made before the update, in the loss, keeps the old value though the update comes in between."""
    problem = Problem.make()
    before = []

    def loss():
        before[:] = [tf.identity(problem.variable)]
        return quadratic(before[0])

    @tf.function
    def run():
        first = problem.variable.read_value()
        trace = fusemin.minimize(loss, NUM_STEPS, problem.optimizer, trainable_variables=[problem.variable])
        return first, trace, problem.variable.read_value()

    assert_same(run(), (np.array(START), LOSSES, PARAMETERS[-1]), rtol=RTOL)


def test_gradients_that_are_other_variables():
    """The gradients share the memory of the variables that the same step writes."""
    x, y, z = (tf.Variable(value, dtype=tf.float64) for value in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]))
    trace = fusemin.minimize(
        lambda: tf.reduce_sum(x * y) + tf.nn.l2_loss(z),
        NUM_STEPS,
        gradient_descent(),
        trainable_variables=[x, y, z],
        trace_fn=lambda q: (q.loss, q.gradients, [x, y, z]),
    )
    a, b, c = (np.array(v) for v in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]))
    losses, gradients, parameters = [], [], []
    for _ in range(NUM_STEPS):
        losses.append((a * b).sum() + (c**2).sum() / 2)
        gradients.append([b, a, c])
        a, b, c = a - LEARNING_RATE * b, b - LEARNING_RATE * a, c - LEARNING_RATE * c
        parameters.append([a, b, c])
    expected = (np.array(losses), list(np.moveaxis(gradients, 1, 0)), list(np.moveaxis(parameters, 1, 0)))
    assert_same(trace, expected, rtol=RTOL)
