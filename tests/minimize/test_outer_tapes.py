"""Tapes around an optimization: the gradients of TensorFlow Probability, of traces and of pure optimizations."""

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import fusemin

NUM_STEPS = 5

OPTIMIZERS = {
    "keras": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.1),
    "tf_keras legacy": lambda: tf_keras.optimizers.legacy.Adam(0.1),
    "tf.compat.v1.train": lambda: tf.compat.v1.train.AdamOptimizer(0.1),
    # Has no fused rule.
    "fallback": lambda: keras.optimizers.Adafactor(0.1),
}

TRACES = {
    "loss": lambda traced: traced.loss,
    "gradient": lambda traced: traced.gradients[0],
    "parameter": lambda traced: traced.parameters[0],
    "derived": lambda traced: traced.loss * tf.reduce_sum(traced.parameters[0]),
    "all": lambda traced: [traced.loss, traced.gradients, traced.parameters, traced.step],
    # Its shape is known at the first step only.
    "unknown shape": lambda traced: tf.boolean_mask(traced.gradients[0], traced.gradients[0] < 1e9),
}


def converging():
    return tfp.optimizer.convergence_criteria.LossNotDecreasing(atol=1e3, min_num_steps=3)


def numbered(tensor):
    """1, 2, ... in the shape and dtype of a tensor."""
    return tf.reshape(tf.cast(1 + tf.range(tf.size(tensor)), tensor.dtype), tf.shape(tensor))


def weighted(trace):
    """A scalar in which every element of a trace has a weight of its own."""
    leaves = [leaf for leaf in tf.nest.flatten(trace) if leaf.dtype.is_floating]
    return tf.add_n([tf.reduce_sum(leaf * numbered(leaf)) for leaf in leaves])


def gradients_around(minimize, optimizer, trace="loss", in_graph=False, gather=None, **arguments):
    """The gradients of a trace with respect to what the loss captures, and to the variables."""
    x, w, y = tf.Variable([1.0, 2.0]), tf.Variable(2.0), tf.constant([0.5, -1.0])
    if hasattr(optimizer, "build"):
        optimizer.build([x])

    def loss():
        at, to = (x, y) if gather is None else (gather(x), gather(y))
        return w**2 * tf.reduce_sum((at - to) ** 2) + 0.1 * tf.reduce_sum(at**3)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(y)
            traces = minimize(
                loss, optimizer=optimizer, trainable_variables=[x], trace_fn=TRACES[trace],
                **{"num_steps": NUM_STEPS, **arguments},
            )  # fmt: skip
            target = weighted(traces)
        return [target, *map(tf.convert_to_tensor, tape.gradient(target, [y, w, x], unconnected_gradients="zero"))]

    return [t.numpy() for t in (tf.function(run, autograph=False) if in_graph else run)()]


def by_minimizer(loss_fn, num_steps, optimizer, **arguments):
    return fusemin.Minimizer(loss_fn, optimizer, **arguments)(num_steps)


def assert_close(ours, stock):
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.max(np.abs(b), initial=0.0))


# The same elements, with a gradient that is sparse, and one that is dense.
SPARSE = lambda x: tf.gather(x, [1, 0, 1])  # noqa: E731
DENSE = lambda x: tf.linalg.matvec([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], x)  # noqa: E731

# What differs from the call with the optimizer "keras" that traces the loss.
CALLS = {
    **{f"optimizer {name}": {"optimizer": name} for name in OPTIMIZERS},
    **{f"trace {name}": {"trace": name} for name in TRACES},
    "sparse gradient": {"gather": SPARSE},
    "in a graph": {"in_graph": True, "trace": "all"},
    "many steps": {"num_steps": 23, "trace": "all"},
    "one step": {"num_steps": 1, "trace": "all"},
    "converged, full": {"convergence_criterion": converging(), "num_steps": 9, "trace": "derived"},
    "converged, cut": {
        "convergence_criterion": converging(),
        "num_steps": 9,
        "trace": "all",
        "return_full_length_trace": False,
    },
}


@pytest.mark.parametrize("call", CALLS)
def test_gradients_of_traces(call):
    arguments = {**CALLS[call]}
    name = arguments.pop("optimizer", "keras")
    ours = gradients_around(fusemin.minimize, OPTIMIZERS[name](), **arguments)
    assert_close(ours, gradients_around(tfp.math.minimize, OPTIMIZERS[name](), **arguments))


def test_gradients_of_the_trace_of_a_sparse_gradient():
    # Stock cannot trace slices.
    ours = gradients_around(fusemin.minimize, OPTIMIZERS["keras"](), "all", gather=SPARSE)
    assert_close(ours, gradients_around(tfp.math.minimize, OPTIMIZERS["keras"](), "all", gather=DENSE))


@pytest.mark.parametrize("trace", ["loss", "all"])
def test_gradients_around_a_minimizer(trace):
    ours = gradients_around(by_minimizer, OPTIMIZERS["keras"](), trace)
    assert_close(ours, gradients_around(tfp.math.minimize, OPTIMIZERS["keras"](), trace))


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("jit_compile", [True, "loss"])
def test_gradients_of_what_is_compiled(jit_compile, in_graph):
    # Stock fails here: TensorFlow gives no lists of tensors out of XLA.
    ours = gradients_around(fusemin.minimize, OPTIMIZERS["keras"](), "all", in_graph=in_graph, jit_compile=jit_compile)
    assert_close(ours, gradients_around(tfp.math.minimize, OPTIMIZERS["keras"](), "all"))


@pytest.mark.parametrize("num_steps", [1, 5, 300])
def test_tape_inside_of_xla(num_steps):
    def compiled(minimize):
        x, y, optimizer = tf.Variable([1.0, 2.0]), tf.constant([0.5, -1.0]), OPTIMIZERS["tf_keras"]()
        optimizer.build([x])

        @tf.function(autograph=False, jit_compile=True)
        def run():
            with tf.GradientTape() as tape:
                tape.watch(y)
                losses, parameters = minimize(
                    lambda: tf.tensordot(x - y, x - y, 1), num_steps, optimizer, trainable_variables=[x],
                    trace_fn=lambda traced: (traced.loss, traced.parameters[0]),
                )  # fmt: skip
                target = tf.tensordot(losses, numbered(losses), 1) + parameters[-1, 1]
            return target, *map(tf.convert_to_tensor, tape.gradient(target, [y, x]))

        return [t.numpy() for t in run()]

    assert_close(compiled(fusemin.minimize), compiled(tfp.math.minimize))


def test_second_order_through_traces():
    def second(minimize):
        x, y, optimizer = tf.Variable([1.0, 2.0]), tf.constant([0.5, -1.0]), OPTIMIZERS["keras"]()
        with tf.GradientTape() as outer:
            outer.watch(y)
            with tf.GradientTape() as inner:
                inner.watch(y)
                losses = minimize(lambda: tf.reduce_sum((x - y) ** 4), NUM_STEPS, optimizer, trainable_variables=[x])
                target = weighted(losses)
            first = inner.gradient(target, y)
            # The minimizer of `minimize` is gone by now.
            gc.collect()
        return [first.numpy(), outer.gradient(first, y).numpy()]

    assert_close(second(fusemin.minimize), second(tfp.math.minimize))


@pytest.mark.parametrize("fit", [fusemin.minimize, by_minimizer], ids=["minimize", "Minimizer"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_does_not_depend_on_the_fit(fit, jit_compile):
    x, w = tf.Variable([1.0, 2.0]), tf.Variable(2.0)
    with tf.GradientTape() as tape:
        fit(
            lambda: tf.reduce_sum((x - 1.0) ** 2), 5, OPTIMIZERS["keras"](), trainable_variables=[x],
            jit_compile=jit_compile,
        )  # fmt: skip
        outer = w**2 * tf.reduce_sum(x)
    gradients = tape.gradient(outer, [w, x])
    np.testing.assert_allclose(gradients[0], 4.0 * np.sum(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose(gradients[1], [4.0, 4.0])


def test_graphs_under_a_tape_are_freed_after_it():
    x = tf.Variable([1.0, 2.0])
    optimizer = OPTIMIZERS["keras"]()

    def loss():
        return tf.reduce_sum((x - 1.0) ** 2)

    with tf.GradientTape() as tape:
        losses = fusemin.minimize(loss, 5, optimizer, trainable_variables=[x])
    reference = weakref.ref(loss)
    del loss, tape, losses
    gc.collect()
    assert reference() is None


class Momentum:
    """A pure optimizer with hyperparameters that are tensors."""

    def __init__(self, learning_rate, momentum):
        self.learning_rate, self.momentum = learning_rate, momentum

    def init(self, parameters):
        return tf.nest.map_structure(tf.zeros_like, parameters)

    def update(self, grads, state, parameters):
        state = tf.nest.map_structure(lambda s, g: self.momentum * s + g, state, grads)
        return tf.nest.map_structure(lambda s: -self.learning_rate * s, state), state


def hypergradients(minimize_stateless, order=1, of="parameters", in_graph=False, in_xla=False, **arguments):
    """Gradients of an unrolled optimization with respect to hyperparameters, data and initial value."""
    # Each with the seed of a direction, for the second order.
    inputs = [tf.constant(0.1), tf.constant(0.5), tf.constant([3.0, 1.0]), tf.constant([0.0, 0.5])]
    directions = [tf.constant(1.0), tf.constant(-2.0), tf.constant([2.0, 3.0]), tf.constant([4.0, 5.0])]

    def run(learning_rate, momentum, y, start):
        watched = [learning_rate, momentum, y, start]
        with tf.GradientTape() if order == 2 else contextlib.nullcontext() as outer:
            if order == 2:
                outer.watch(watched)
            with tf.GradientTape() as tape:
                tape.watch(watched)
                parameters, losses = minimize_stateless(
                    lambda x: tf.tensordot(x - y, x - y, 1) + 0.1 * tf.tensordot(tf.sin(x), y, 1),
                    **{
                        "init": start,
                        "num_steps": NUM_STEPS,
                        "optimizer": Momentum(learning_rate, momentum),
                        **arguments,
                    },
                )
                if of == "parameters":
                    target = tf.tensordot(parameters, tf.constant([1.0, 2.0]), 1)
                else:
                    target = tf.tensordot(losses, numbered(losses), 1)
            gradients = tape.gradient(target, watched)
            if order == 1:
                return gradients
            pairs = zip(gradients, directions, strict=True)
            along = tf.add_n([tf.reduce_sum(gradient * direction) for gradient, direction in pairs])
        return outer.gradient(along, watched)

    if in_graph or in_xla:
        run = tf.function(run, autograph=False, jit_compile=in_xla or None)
    return [t.numpy() for t in run(*inputs)]


STATELESS_CALLS = {
    "first order": {},
    "first order of losses": {"of": "losses"},
    "first order of many steps": {"of": "losses", "num_steps": 23},
    "first order in a graph": {"in_graph": True},
    "first order in XLA": {"in_xla": True},
    "first order in XLA, losses": {"in_xla": True, "of": "losses"},
    "second order of losses": {"order": 2, "of": "losses"},
    "second order in a graph": {"order": 2, "of": "losses", "in_graph": True},
    "second order in XLA": {"order": 2, "of": "losses", "in_xla": True},
    "converged, full": {"convergence_criterion": converging(), "num_steps": 9, "of": "losses"},
    "converged, cut": {
        "convergence_criterion": converging(),
        "num_steps": 9,
        "of": "losses",
        "return_full_length_trace": False,
    },
}


@pytest.mark.parametrize("call", STATELESS_CALLS)
def test_hypergradients(call):
    arguments = STATELESS_CALLS[call]
    ours = hypergradients(fusemin.minimize_stateless, **arguments)
    assert_close(ours, hypergradients(tfp.math.minimize_stateless, **arguments))


@pytest.mark.parametrize(("order", "in_graph"), [(1, False), (1, True), (2, False)])
def test_hypergradients_of_what_is_compiled(order, in_graph):
    # Stock fails here, see above.
    ours = hypergradients(fusemin.minimize_stateless, order, in_graph=in_graph, jit_compile=True)
    assert_close(ours, hypergradients(tfp.math.minimize_stateless, order))


def test_hypergradients_by_differences():
    def final(learning_rate):
        parameters, _ = fusemin.minimize_stateless(
            lambda x: (x - 3.0) ** 2, init=tf.constant(0.0, tf.float64), num_steps=20,
            optimizer=Momentum(learning_rate, tf.constant(0.5, tf.float64)),
        )  # fmt: skip
        return parameters

    rate = tf.constant(0.1, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(rate)
        value = final(rate)
    numeric = (final(rate + 1e-6) - final(rate - 1e-6)) / 2e-6
    np.testing.assert_allclose(tape.gradient(value, rate), numeric, rtol=1e-7)
