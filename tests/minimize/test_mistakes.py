"""What newcomers do wrong: each mistake has an error, or a warning, that says what to do."""

import json
import math
import traceback
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.minimize_runs import run_program
from tests.support.own_optimizers import PureDescent

NUM_STEPS = 3


class GradientTransformation:
    """As optax has it: functions of its modules."""

    def __init__(self):
        def init(parameters):
            """Not called."""

        def update(grads, state, parameters=None):
            """Not called."""

        self.init, self.update = init, update
        init.__module__ = update.__module__ = "optax._src.transform"


def square(x):
    return x**2


def of_seed(x, seed):
    return (x - tf.random.stateless_normal([], seed)) ** 2


# Positional arguments of a call, without `loss_fn`; the error's type, and a regular expression of its message.
ARGUMENTS = {
    "swapped": (lambda: (keras.optimizers.Adam(), 100), "`num_steps` is <keras.*`optimizer` is 100: they are swapped"),
    "optax": (
        lambda: (NUM_STEPS, GradientTransformation()),
        "has none. It is one of optax, which computes on arrays of JAX.*keras.optimizers",
    ),
    "a pure optimizer": (lambda: (NUM_STEPS, PureDescent()), "with init and update are for `minimize_stateless`"),
}
STATELESS_ARGUMENTS = {
    "swapped": (lambda: (PureDescent(), 100), "`num_steps` is <.*`optimizer` is 100: they are swapped"),
    "optax": (lambda: (NUM_STEPS, GradientTransformation()), "one of optax, which computes on arrays of JAX"),
    "an optimizer of Keras": (
        lambda: (NUM_STEPS, keras.optimizers.Adam()),
        "has no init. Optimizers with apply_gradients are for `minimize`",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_argument_of_minimize(case):
    x = tf.Variable(1.0)
    make, message = ARGUMENTS[case]
    with pytest.raises(TypeError, match=message):
        fusemin.minimize(lambda: square(x), *make())


@pytest.mark.parametrize("case", STATELESS_ARGUMENTS)
def test_argument_of_minimize_stateless(case):
    make, message = STATELESS_ARGUMENTS[case]
    with pytest.raises(TypeError, match=message):
        fusemin.minimize_stateless(square, 1.0, *make())


def test_loss_of_a_seed_that_is_not_given():
    x, message = tf.Variable(1.0), "`loss_fn` takes a `seed` and was given None.*pass seed=1"
    with pytest.raises(ValueError, match=message):
        fusemin.minimize(lambda seed: of_seed(x, seed), NUM_STEPS, keras.optimizers.SGD())
    with pytest.raises(ValueError, match=message):
        fusemin.minimize_stateless(of_seed, 1.0, NUM_STEPS, PureDescent())


# What a function does with a tensor as if it had a value.
VALUES = {
    "numpy()": lambda t: t.numpy(),
    "np.sum": np.sum,
    "np.log": np.log,
    "an f-string": lambda t: f"{t:.3f}",
    "float": float,
    "if": lambda t: 1 if t > 0 else 2,
    "a loop": list,
    "math.sqrt": math.sqrt,
    "predict of keras": lambda t: model_of(keras).predict(tf.reshape(t, [1, 1]), verbose=0),
    "predict of tf_keras": lambda t: model_of(tf_keras).predict(tf.reshape(t, [1, 1]), verbose=0),
}


def model_of(library):
    return library.Sequential([library.layers.Input((1,)), library.layers.Dense(1)])


def in_loss(look, x):
    return {"loss_fn": lambda: (look(x**2), x**2)[1]}


def in_loss_of_a_seed(look, x):
    return {"loss_fn": lambda seed: (look(x**2), x**2)[1], "seed": 1}


def in_trace(look, x):
    return {"trace_fn": lambda q: (look(q.loss), q.loss)[1]}


def in_older_trace(look, x):
    return {"trace_fn": lambda loss, grads, variables: (look(loss), loss)[1]}


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("where", [in_loss, in_loss_of_a_seed, in_trace, in_older_trace])
@pytest.mark.parametrize("case", VALUES)
def test_value_of_a_tensor_that_is_traced(case, where, in_function):
    x = tf.Variable(1.0)
    arguments = {"loss_fn": lambda: x**2, "num_steps": NUM_STEPS, "optimizer": keras.optimizers.SGD()}
    arguments.update(where(VALUES[case], x))

    def run():
        fusemin.minimize(**arguments)

    name = "loss_fn" if "loss" in where.__name__ else "trace_fn"
    with pytest.raises(Exception, match=f"^`{name}` is traced.*tf[.]reduce_sum for np[.]sum") as raised:
        tf.function(run, autograph=False)() if in_function else run()
    # The user's own line is in the traceback, also where TensorFlow drops the cause of an error.
    assert [f for f in traceback.extract_tb(raised.tb) if f.filename == __file__ and "look(" in f.line]
    np.testing.assert_array_equal(x, 1.0)


@pytest.mark.parametrize("where", ["loss_fn", "trace_fn"])
def test_value_of_a_tensor_that_is_traced_in_minimize_stateless(where):
    look = VALUES["np.sum"]
    arguments = {"loss_fn": square, where: {"loss_fn": look, "trace_fn": lambda q: look(q.loss)}[where]}
    with pytest.raises(NotImplementedError, match=f"^`{where}` is traced"):
        fusemin.minimize_stateless(init=1.0, num_steps=NUM_STEPS, optimizer=PureDescent(), **arguments)


def test_error_of_tracing_keeps_its_type_and_cause():
    x = tf.Variable(1.0)
    with pytest.raises(AttributeError) as raised:
        fusemin.minimize(lambda: x.read_value().numpy(), NUM_STEPS, keras.optimizers.SGD())
    assert isinstance(raised.value.__cause__, AttributeError)
    assert str(raised.value).endswith(str(raised.value.__cause__))


EXPLAINED = {
    "one variable": (lambda x: x, TypeError, "^`variables` must be a list.*Put it into one"),
    "no variable": (lambda x: [1.0], TypeError, "^`variables` must hold variables"),
    "none": (lambda x: [], ValueError, "`variables` is empty"),
    "integers": (lambda x: [tf.Variable(1, name="i")], TypeError, "^`variables` must be floating, 'i:0' is of int32"),
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_explain_speaks_of_its_own_argument(case):
    make, error, message = EXPLAINED[case]
    with pytest.raises(error, match=message) as raised:
        fusemin.explain(keras.optimizers.Adam(), make(tf.Variable(1.0)))
    assert "trainable_variables" not in str(raised.value)


def test_no_gradient_without_trainable_variables():
    """The way out is not to leave anything out of an argument that was not given."""
    x = tf.Variable(1.0, name="x")
    with pytest.raises(ValueError, match="depends on none of the variables that `loss_fn` reads, 'x:0'") as raised:
        fusemin.minimize(lambda: tf.floor(x), NUM_STEPS, keras.optimizers.SGD())
    assert "trainable_variables" not in str(raised.value)


DIVERGING = {
    "a learning rate": (lambda x: x**2, 1e9, "inf|nan"),
    "a logarithm": (lambda x: tf.math.log(x - 5.0), 0.1, "nan after 60 steps, first at step 0"),
    "a batch": (lambda x: tf.stack([x, tf.math.log(x - 5.0)]), 0.1, "elements of it after 60 steps, first at step 0"),
    "losses of float64": (lambda x: tf.math.log(tf.cast(x, tf.float64) - 5.0), 0.1, "nan"),
    "losses of bfloat16": (lambda x: tf.math.log(tf.cast(x, tf.bfloat16) - 5.0), 0.1, "nan"),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", DIVERGING)
def test_loss_that_is_not_finite(case, jit_compile):
    loss, learning_rate, message = DIVERGING[case]
    x = tf.Variable(1.0)
    with pytest.warns(RuntimeWarning, match=f"the loss is not finite: ({message}).*smaller learning rate") as warned:
        fusemin.minimize(lambda: loss(x), 60, keras.optimizers.SGD(learning_rate), jit_compile=jit_compile)
    assert warned[0].filename == __file__


def test_loss_of_minimize_stateless_that_is_not_finite():
    with pytest.warns(RuntimeWarning, match="the loss is not finite: nan after 3 steps"):
        fusemin.minimize_stateless(lambda x: tf.math.log(x - 5.0), 1.0, NUM_STEPS, PureDescent())


def test_finite_losses_and_traces_of_a_users_own_are_no_warning():
    x = tf.Variable(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusemin.minimize(lambda: x**2, NUM_STEPS, keras.optimizers.SGD(0.1))
        fusemin.minimize(lambda: x**2, 0, keras.optimizers.SGD(0.1))
        fusemin.minimize(lambda: x * np.nan, NUM_STEPS, keras.optimizers.SGD(0.1), trace_fn=lambda q: q.loss * 2)


def print_square(x):
    tf.print(x)
    return x**2


@pytest.mark.parametrize("jit_compile", [True, "loss"])
def test_what_xla_cannot_compile_is_said_in_one_line(jit_compile):
    x = tf.Variable(1.0)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        fusemin.minimize(lambda: print_square(x), NUM_STEPS, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    assert_names_the_line(raised.value)


def test_what_xla_cannot_compile_of_minimize_stateless():
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        fusemin.minimize_stateless(print_square, 1.0, NUM_STEPS, PureDescent(), jit_compile=True)
    assert_names_the_line(raised.value)


def assert_names_the_line(error):
    message = error.message
    assert "\n" not in message
    assert "XLA cannot compile 'StringFormat'" in message
    assert "test_mistakes.py" in message
    assert '"loss"' not in message
    # All that TensorFlow says is the cause.
    assert len(str(error.__cause__).splitlines()) > 10


# Of two copies of a variable, by hand and in a replica.
STRATEGIES = """
    import json, sys
    import tensorflow as tf, keras, tf_keras
    import fusemin

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategies = {
        "two replicas": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        "one replica": tf.distribute.MirroredStrategy(["CPU:0"]),
        "one device": tf.distribute.OneDeviceStrategy("/cpu:0"),
    }
    optimizers = {
        "keras": lambda: keras.optimizers.SGD(0.125),
        "tf_keras": lambda: tf_keras.optimizers.SGD(0.125),
        "legacy": lambda: tf_keras.optimizers.legacy.SGD(0.125),
        "v1": lambda: tf.compat.v1.train.GradientDescentOptimizer(0.125),
    }
    results = []
    for strategy_name, strategy in strategies.items():
        for family, make in optimizers.items():
            for how in ("outside", "outside, listed", "in scope", "in a replica"):
                with strategy.scope():
                    x = tf.Variable(3.0, name="x")
                    optimizer = make()
                if how == "outside":
                    optimizer = make()
                options = {"trainable_variables": [x]} if how == "outside, listed" else {}
                fit = lambda: fusemin.minimize(lambda: x**2, 3, optimizer, **options)
                try:
                    if how == "in scope":
                        with strategy.scope():
                            fit()
                    else:
                        strategy.run(fit) if how == "in a replica" else fit()
                    message = ""
                except Exception as error:
                    message = f"{type(error).__name__}: {error}"
                copies = [float(v.numpy()) for v in getattr(x, "values", [x])]
                results.append([strategy_name, family, how, message, copies])
    print(json.dumps(results))
"""


def test_variables_of_a_strategy():
    """A clear error, with nothing written, or a right result."""
    for strategy, family, how, message, copies in json.loads(run_program(STRATEGIES).splitlines()[-1]):
        where = f"{strategy}, {family}, {how}: {message}"
        if how == "in scope" and strategy != "one device" and family == "v1":
            assert "NotImplementedError: `minimize` in a `MirroredStrategy.scope()` takes" in message, where
        elif how == "in scope" and strategy == "two replicas":
            # The gradient is the sum over the replicas.
            assert message == "", where
            np.testing.assert_allclose(copies, [3 * 0.5**3] * 2, 1e-6, err_msg=where)
            continue
        elif how == "in a replica" and strategy != "one device":
            assert "NotImplementedError: `minimize` does not work inside of `MirroredStrategy.run`" in message, where
        elif how.startswith("outside") and strategy == "two replicas":
            assert "NotImplementedError: 'x:0' was made in the scope" in message, where
            assert "2 copies" in message, where
        else:
            assert message == "", where
            np.testing.assert_allclose(copies, 3 * 0.75**3, 1e-6, err_msg=where)
            continue
        assert set(copies) == {3.0}, where
