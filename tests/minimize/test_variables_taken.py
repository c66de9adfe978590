"""What `trainable_variables` may be, and what is trained without it; beside TensorFlow Probability."""

import collections
import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow.python.util import object_identity

import fusemin
from tests.support.minimize_runs import assert_same
from tests.support.own_optimizers import PureDescent

RTOL = 1e-6
NUM_STEPS = 3
Pair = collections.namedtuple("Pair", ["a", "b"])


def module_of(x, y):
    module = tf.Module()
    module.all, module.by_name = [x, y], {"x": x, "y": y}
    return module


# What is passed, from two variables.
FORMS = {
    "a list": lambda x, y: [x, y],
    "a tuple": lambda x, y: (x, y),
    "a namedtuple": lambda x, y: Pair(x, y),
    "a deque": lambda x, y: collections.deque([x, y]),
    "values of a dict": lambda x, y: {"x": x, "y": y}.values(),
    "a set of TensorFlow's": lambda x, y: object_identity.ObjectIdentitySet([x, y]),
    "a list that a module wraps": lambda x, y: module_of(x, y).all,
    "variables of a module": lambda x, y: module_of(x, y).trainable_variables,
    "nested lists": lambda x, y: [[x], ((y,),)],
    "dicts in a list": lambda x, y: [{"a": x, "b": [y]}],
    "twice the same": lambda x, y: [x, y, x],
    "one": lambda x, y: [y],
}
# TFP sees the last element of these at its first look, and nothing at all later, or refuses them.
FORMS_OF_OURS = {
    "a generator": lambda x, y: (v for v in (x, y)),
    "an iterator": lambda x, y: iter([x, y]),
    "a map": lambda x, y: map(lambda v: v, [x, y]),
    "a dict": lambda x, y: {"x": x, "y": y},
    "a dict that a module wraps": lambda x, y: module_of(x, y).by_name,
}


def trace_all(quantities):
    return quantities.loss, quantities.gradients, quantities.parameters


def run_form(minimize, form, jit_compile=False):
    x, y = tf.Variable([1.0, 2.0], name="x"), tf.Variable(3.0, name="y")
    trace = minimize(
        lambda: tf.reduce_sum(x**2) + y**2,
        NUM_STEPS,
        tf_keras.optimizers.SGD(0.125),
        trainable_variables=form(x, y),
        trace_fn=trace_all,
        jit_compile=jit_compile,
    )
    return [trace, x, y]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_form_as_in_tfp(form, jit_compile):
    got, want = (run_form(m, FORMS[form], jit_compile) for m in (fusemin.minimize, tfp.math.minimize))
    assert_same(got, want, RTOL)


@pytest.mark.parametrize("form", FORMS_OF_OURS)
def test_form_that_tfp_does_not_take(form):
    got = run_form(fusemin.minimize, FORMS_OF_OURS[form])
    assert_same(got, run_form(fusemin.minimize, FORMS["a list"]), RTOL)


def test_parameters_are_in_the_order_given():
    """In TFP in the order in which the loss read them first."""
    got, want = (run_form(m, lambda x, y: [y, x])[0][2] for m in (fusemin.minimize, tfp.math.minimize))
    assert_same(got, want[::-1], RTOL)


def test_generator_is_for_all_runs_of_a_minimizer():
    x, y = tf.Variable(1.0), tf.Variable(2.0)
    fit = fusemin.Minimizer(lambda: x**2 + y**2, keras.optimizers.SGD(0.125), trainable_variables=(v for v in (x, y)))
    fit(2)
    fit(2, seed=1)  # Traced anew.
    np.testing.assert_allclose([x, y], np.array([1.0, 2.0]) * 0.75**4, RTOL)


def softplus(value, name):
    return tfp.util.TransformedVariable(value, tfp.bijectors.Softplus(), name=name)


DEFERRED = {
    "themselves": lambda a, b: [a, b],
    "their variables": lambda a, b: [a.trainable_variables, b.trainable_variables],
    "one of two": lambda a, b: [a],
    "what is transformed": lambda a, b: [b.pretransformed_input],
    "None": lambda a, b: None,
}


@pytest.mark.parametrize("case", DEFERRED)
def test_transformed_variables_as_in_tfp(case):
    def run(minimize):
        a, b = softplus(1.0, "a"), softplus(2.0, "b")
        trace = minimize(
            lambda: (a - 3.0) ** 2 + (b - 1.0) ** 2,
            NUM_STEPS,
            tf_keras.optimizers.Adam(0.125),
            trainable_variables=DEFERRED[case](a, b),
            trace_fn=trace_all,
        )
        return [trace, tf.identity(a), tf.identity(b)]

    assert_same(run(fusemin.minimize), run(tfp.math.minimize), RTOL)


def test_distribution_stands_for_its_variables():
    def run(minimize):
        normal = tfp.distributions.Normal(tf.Variable(0.0), softplus(1.0, "scale"))
        return minimize(
            lambda: -normal.log_prob(2.0), NUM_STEPS, tf_keras.optimizers.SGD(0.125), trainable_variables=[normal]
        )

    assert_same(run(fusemin.minimize), run(tfp.math.minimize), RTOL)


REFUSED = {
    "a transformed variable": (lambda x: softplus(1.0, "a"), "must be a list.*Put it into one"),
    "a module": (lambda x: module_of(x, x), "must be a list of variables.*Pass its trainable_variables"),
    "a module in a list": (lambda x: [module_of(x, x)], "must hold variables.*Pass its trainable_variables"),
    "None in a list": (lambda x: [x, None], "must hold variables, it holds None"),
    "a str": (lambda x: "x", "must hold variables, it holds 'x'"),
    # TFP ignores it, so it would not be trained.
    "the value of a variable": (lambda x: [x.read_value()], "must hold variables, it holds <tf.Tensor"),
    "a number": (lambda x: 0, "must be a list of variables, it is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_form_that_is_refused(case):
    x = tf.Variable(1.0)
    form, message = REFUSED[case]
    with pytest.raises(TypeError, match=f"(?s)`trainable_variables` {message}"):
        fusemin.minimize(lambda: x**2, NUM_STEPS, keras.optimizers.SGD(), trainable_variables=form(x))


OPTIMIZERS = {
    "keras": lambda: keras.optimizers.SGD(0.125),
    "tf_keras": lambda: tf_keras.optimizers.SGD(0.125),
    "tf_keras legacy": lambda: tf_keras.optimizers.legacy.SGD(0.125),
    "tf.compat.v1": lambda: tf.compat.v1.train.GradientDescentOptimizer(0.125),
}


class Recorder:
    """An optimizer of a user's own, which sees what it is given."""

    def __init__(self):
        self.seen = []

    def apply_gradients(self, grads_and_vars):
        self.seen.append(list(grads_and_vars))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("family", OPTIMIZERS)
def test_loss_that_reads_no_variable(family, jit_compile):
    """TFP runs it where the optimizer takes an empty list; those of keras and tf.compat.v1 do not."""
    optimizer = OPTIMIZERS[family]()
    with pytest.warns(UserWarning, match="reads no trainable variable, so nothing is updated") as warned:
        losses = fusemin.minimize(lambda: tf.constant(2.0), NUM_STEPS, optimizer, jit_compile=jit_compile)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(losses, [2.0] * NUM_STEPS)
    if family.startswith("tf_keras"):
        stock = OPTIMIZERS[family]()
        assert_same(losses, tfp.math.minimize(lambda: tf.constant(2.0), NUM_STEPS, stock), RTOL)
        assert int(optimizer.iterations) == int(stock.iterations) == 0
    # It is not built, and so can be used.
    x = tf.Variable(1.0)
    fusemin.minimize(lambda: x**2, NUM_STEPS, optimizer)


def test_optimizer_of_a_users_own_is_called_without_variables():
    optimizer = Recorder()
    with pytest.warns(UserWarning, match="reads no trainable variable"):
        fusemin.minimize(lambda: tf.constant(2.0), NUM_STEPS, optimizer)
    assert optimizer.seen == [[]]


def test_variable_that_is_not_trainable_is_none():
    x = tf.Variable(1.0, trainable=False)
    with pytest.warns(UserWarning, match="reads no trainable variable"):
        losses = fusemin.minimize(lambda: x**2, NUM_STEPS, keras.optimizers.SGD())
    np.testing.assert_array_equal(losses, [1.0] * NUM_STEPS)


def eagerly(run):
    tf.config.run_functions_eagerly(True)
    try:
        return run()
    finally:
        tf.config.run_functions_eagerly(False)


RUNS = {
    "at once": lambda *a: lambda: fusemin.minimize(a[0], NUM_STEPS, a[1], trace_fn=lambda q: q.parameters),
    "jit": lambda *a: (
        lambda: fusemin.minimize(a[0], NUM_STEPS, a[1], trace_fn=lambda q: q.parameters, jit_compile=True)
    ),
    "eager": lambda *a: (
        lambda: eagerly(lambda: fusemin.minimize(a[0], NUM_STEPS, a[1], trace_fn=lambda q: q.parameters))
    ),
    "minimizer": lambda *a: lambda: fusemin.Minimizer(*a, trace_fn=lambda q: q.parameters)(NUM_STEPS),
}


@pytest.mark.parametrize("mode", RUNS)
@pytest.mark.parametrize("family", OPTIMIZERS)
def test_what_has_no_gradient_is_left_out(family, mode):
    """Stock fails."""
    x, count, on = tf.Variable(3.0, name="x"), tf.Variable(2, name="count"), tf.Variable(True, name="on")
    rounded = tf.Variable(0.5, name="rounded")

    def loss():
        return tf.where(on, x - tf.cast(count, tf.float32), x) ** 2 + tf.floor(rounded)

    fit = RUNS[mode](loss, OPTIMIZERS[family]())
    with pytest.warns(UserWarning, match="no gradient with respect to them: left out") as warned:
        (trace,) = fit()
    # With jit_compile a function is traced twice if an optimizer has slots to make.
    (message,) = {str(w.message) for w in warned if w.category is UserWarning}
    assert all(f"'{name}:0'" in message for name in ("count", "on", "rounded")), message
    assert "'x:0'" not in message
    assert "trainable=False" in message
    np.testing.assert_allclose(trace, 2.0 + 0.75 ** np.arange(1, NUM_STEPS + 1), RTOL)


def of_keras(library):
    layer = library.layers.Dense(1, name=f"dense_{library.__name__}")
    layer.build((None, 2))
    return layer


class Owner:
    def __init__(self, layer):
        self.parts = {"layer": [layer]}

    def loss(self):
        return tf.reduce_sum(self.parts["layer"][0](tf.ones([1, 2])))


def loss_of(layer):
    return tf.reduce_sum(layer(tf.ones([1, 2])))


HOLDERS = {
    "a closure": lambda layer: lambda: loss_of(layer),
    "an object": lambda layer: Owner(layer).loss,
    "a partial": lambda layer: functools.partial(loss_of, layer),
    "a tf.function": lambda layer: tf.function(lambda: loss_of(layer)),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_frozen_keras_layer_that_is_trained_is_named(library, holder):
    layer = of_keras(library)
    loss = HOLDERS[holder](layer)
    layer.trainable = False
    with pytest.warns(UserWarning, match="Keras layer that is frozen") as warned:
        fusemin.minimize(loss, 1, library.optimizers.SGD(0.125))
    assert all(f"'{w.name}" in str(warned[0].message) or w.path in str(warned[0].message) for w in layer.weights[:1])
    assert "trainable_variables=model.trainable_variables" in str(warned[0].message)


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_layer_that_is_not_frozen_is_no_warning(library, holder):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fusemin.minimize(HOLDERS[holder](of_keras(library)), 1, library.optimizers.SGD(0.125))


COMPLEX_OPTIMIZERS = {
    "keras SGD": lambda: keras.optimizers.SGD(0.125),
    "keras Adam": lambda: keras.optimizers.Adam(0.125),
    "tf_keras SGD": lambda: tf_keras.optimizers.SGD(0.125),
    "tf_keras Adam": lambda: tf_keras.optimizers.Adam(0.125),
    "tf_keras legacy Adam": lambda: tf_keras.optimizers.legacy.Adam(0.125),
    "tf.compat.v1 Adam": lambda: tf.compat.v1.train.AdamOptimizer(0.125),
}


@pytest.mark.parametrize("dtype", [tf.complex64, tf.complex128])
@pytest.mark.parametrize("optimizer", COMPLEX_OPTIMIZERS)
def test_complex_variables_as_in_tfp(optimizer, dtype):
    if (optimizer, dtype) == ("keras Adam", tf.complex128):
        pytest.skip("stock fails")
    optimizer = COMPLEX_OPTIMIZERS[optimizer]

    def run(minimize, listed):
        z = tf.Variable(3 + 2j, dtype=dtype, name="z")
        trace = minimize(
            lambda: tf.abs(z - (1 + 3j)) ** 2,
            NUM_STEPS,
            optimizer(),
            trainable_variables=[z] if listed else None,
            trace_fn=trace_all,
        )
        return [np.asarray(leaf) for leaf in (*tf.nest.flatten(trace), z)]

    for listed in (False, True):
        got, want = run(fusemin.minimize, listed), run(tfp.math.minimize, listed)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, RTOL)


def test_explain_says_why_complex_variables_are_not_fused():
    z = tf.Variable(1j, dtype=tf.complex64, name="z")
    assert fusemin.explain(keras.optimizers.SGD(), [z]).rows[0].reason == "variable 'z:0' is of complex64"


LOSSES = {
    "of one shape": lambda x: [x[0] ** 2, (x[1] - 1) ** 2],
    "in a tuple": lambda x: (x[0] ** 2, (x[1] - 1) ** 2),
    "of one": lambda x: [tf.reduce_sum(x**2)],
    "of vectors": lambda x: [x**2, (x - 1) ** 2],
    "nested": lambda x: [[x[0] ** 2], [x[1] ** 2]],
}


@pytest.mark.parametrize("criterion", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", LOSSES)
def test_losses_in_a_list_as_in_tfp(case, jit_compile, criterion):
    def options(module):
        criteria = fusemin if module is fusemin else tfp.optimizer.convergence_criteria
        return {
            "jit_compile": jit_compile,
            "trace_fn": lambda q: (q.loss, q.gradients, q.parameters, q.has_converged),
            "convergence_criterion": criteria.LossNotDecreasing(atol=0.5, min_num_steps=1) if criterion else None,
        }

    def run(module):
        x = tf.Variable([1.0, 2.0])
        optimizer = tf_keras.optimizers.SGD(0.125)
        return [module.minimize(lambda: LOSSES[case](x), NUM_STEPS, optimizer, **options(module)), x]

    assert_same(run(fusemin), run(tfp.math), RTOL)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", LOSSES)
def test_losses_in_a_list_of_minimize_stateless_as_in_tfp(case, jit_compile):
    """There the losses stay in their list. TFP cannot compile them."""
    got, want = (
        module.minimize_stateless(
            LOSSES[case],
            init=np.array([1.0, 2.0]),
            num_steps=NUM_STEPS,
            optimizer=PureDescent(),
            trace_fn=lambda q: (q.loss, q.gradients, q.has_converged),
            jit_compile=compiled,
        )
        for module, compiled in ((fusemin, jit_compile), (tfp.math, False))
    )
    assert_same(got, want, RTOL)
