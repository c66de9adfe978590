"""`minimize` and `minimize_stateless` do what TFP 0.25 does: for each optimizer, documented example, kind of seed."""

import collections
import functools
import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import fusemin
from tests.support.parity_table import (
    FUSED_ROWS,
    NUM_STEPS,
    ROWS,
    coupled_loss,
    float64_stock_steps,
    largest_difference,
    largest_difference_of_steps,
    new_variables,
    row_id,
)

# By dtype, relative, in the maximum norm of each step.
LIMITS = {"float64": 1e-12, "float32": 1e-5}


class Run(collections.namedtuple("Run", ["trace", "variables", "state"])):
    """What a call of `minimize` leaves: its trace, the variables, and what the optimizer holds by name."""


def run(minimize, row, dtype, loss_dtype=None):
    """200 steps of a row's optimizer on the problem, everything traced."""
    variables, optimizer = new_variables(dtype), row.new()
    row.check_explained(optimizer, variables)
    trace = minimize(
        lambda: coupled_loss(variables, loss_dtype),
        num_steps=NUM_STEPS,
        optimizer=optimizer,
        trainable_variables=variables,
        trace_fn=lambda q: {"loss": q.loss, "gradients": q.gradients, "parameters": q.parameters, "step": q.step},
    )
    row.check_explained(optimizer, variables)
    return Run(
        tf.nest.map_structure(lambda t: t.numpy(), trace),
        [v.numpy() for v in variables],
        row.state(optimizer, variables),
    )


def check_log(caplog, row):
    """The debug log says what is in the graph, `explain` only what is meant to be."""
    messages = [r.getMessage() for r in caplog.records if r.name == "fusemin"]
    expected = (
        f"rule '{row.rule}' updates 3 variables" if row.rule else f"apply_gradients does the update: {row.reason}"
    )
    assert any(expected in message for message in messages), messages


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32], ids=lambda d: d.name)
@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_agrees_with_tfp_and_with_stock(row, dtype, caplog, check_difference):
    """Losses, traces, final variables, slots and count of steps, after 200 steps."""
    with caplog.at_level(logging.DEBUG, logger="fusemin"):
        ours = run(fusemin.minimize, row, dtype)
    check_log(caplog, row)
    theirs = run(tfp.math.minimize, row, dtype)

    # Not a comparison of a run that does not move, and the problem is as its docstring says.
    assert ours.trace["loss"][-1] < 0.25 * ours.trace["loss"][0]
    assert all(np.max(np.abs(g[-1])) > 1e-4 for g in ours.trace["gradients"])
    assert list(ours.state) == list(theirs.state)
    np.testing.assert_array_equal(ours.trace["step"], np.arange(NUM_STEPS))
    np.testing.assert_array_equal(theirs.trace["step"], np.arange(NUM_STEPS))

    group = f"{row.id} {dtype.name}"
    check = functools.partial(check_difference, group, limit=LIMITS[dtype.name])
    for name in ("loss", "gradients", "parameters"):
        check(what=f"trace of {name}", measured=largest_difference_of_steps(ours.trace[name], theirs.trace[name]))
    check(what="final variables", measured=largest_difference(ours.variables, theirs.variables))
    for name, value in ours.state.items():
        check(what=name, measured=largest_difference([value], [theirs.state[name]]))

    reference, as_float64 = float64_stock_steps(row), tf.nest.map_structure(np.float64, ours.trace)
    check = functools.partial(check_difference, f"{dtype.name}, from float64 stock loop", limit=LIMITS[dtype.name])
    for name in ("loss", "parameters"):
        measured = largest_difference_of_steps(as_float64[name], getattr(reference, name))
        check(what=f"{row.id}: {name}", measured=measured)


@pytest.mark.parametrize("row", [r for r in FUSED_ROWS if r.name == "Adam"], ids=row_id)
def test_variables_of_several_dtypes_share_one_count_of_steps(row, check_difference):
    """A step of several dtypes is several ops; counts and powers advance once."""
    dtypes = [tf.float32, tf.float64, tf.float32]
    ours = run(fusemin.minimize, row, dtypes, loss_dtype=tf.float64)
    theirs = run(tfp.math.minimize, row, dtypes, loss_dtype=tf.float64)
    check = functools.partial(check_difference, "variables of several dtypes", limit=LIMITS["float32"])
    for name in ("loss", "gradients", "parameters"):
        check(what=name, measured=largest_difference_of_steps(ours.trace[name], theirs.trace[name]))
    assert list(ours.state) == list(theirs.state)
    for name, value in ours.state.items():
        check(what=name, measured=largest_difference([value], [theirs.state[name]]))


# What follows quotes TFP's documentation, and checks the quotation on the installed TFP too. `LIBRARIES` are the names
# that an example needs, of each library.

Library = collections.namedtuple("Library", ["minimize", "minimize_stateless", "LossNotDecreasing"])
LIBRARIES = {
    "fusemin": Library(fusemin.minimize, fusemin.minimize_stateless, fusemin.LossNotDecreasing),
    "tfp": Library(
        tfp.math.minimize, tfp.math.minimize_stateless, tfp.optimizer.convergence_criteria.LossNotDecreasing
    ),
}


def run_example(example):
    """`{library: what the example returns, as arrays}`; asserts that the two agree."""
    results = {}
    for name, library in LIBRARIES.items():
        results[name] = tf.nest.map_structure(np.asarray, example(library))
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), results["fusemin"], results["tfp"]
    )
    return results.values()


def adam():
    return tf_keras.optimizers.Adam(learning_rate=0.1)


def test_documented_example():
    """ "To minimize the scalar function `(x - 5)**2`: [...] In TF2/eager mode, the optimization runs immediately." """

    def example(library):
        x = tf.Variable(0.0)
        losses = library.minimize(lambda: (x - 5.0) ** 2, num_steps=100, optimizer=adam())
        return losses, x

    for losses, x in run_example(example):
        assert losses.shape == (100,)
        assert losses[0] == 25.0
        assert losses[-1] < 1e-2
        assert abs(x - 5.0) < 0.1


def test_documented_graph_mode():
    """ "In graph mode (e.g., inside of `tf.function` wrapping), retrieving any Tensor that depends on the minimization
    op will trigger the optimization" """

    def example(library):
        x, optimizer = tf.Variable(0.0), adam()

        @tf.function
        def optimize():
            losses = library.minimize(lambda: (x - 5.0) ** 2, num_steps=100, optimizer=optimizer)
            with tf.control_dependencies([losses]):
                optimized_x = tf.identity(x)  # Use a dummy op to attach the dependency.
            return optimized_x

        first, count = optimize().numpy(), optimizer.iterations.numpy()
        return first, count, optimize(), x, optimizer.iterations

    for first, count, second, x, final_count in run_example(example):
        assert abs(first - 5.0) < 0.1
        assert second == x != first
        assert (count, final_count) == (100, 200)


def test_documented_graph_mode_of_tensorflow_1():
    """The same in a graph with a session: nothing happens before the run, and a second run goes on.

    Such a graph has no automatic control dependencies, so that order must come from the ops of the loop.
    """

    def example(library):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.get_variable("x", initializer=0.0, use_resource=True)
            optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
            losses = library.minimize(lambda: (x - 5.0) ** 2, num_steps=50, optimizer=optimizer)
            with tf.control_dependencies([losses]):
                optimized_x = tf.identity(x)
            session.run(tf.compat.v1.global_variables_initializer())
            before = session.run(x)
            first, after = session.run([losses, optimized_x])
            return before, first, after, session.run(losses), session.run(x)

    x = tf.Variable(0.0)
    losses = fusemin.minimize(lambda: (x - 5.0) ** 2, 100, tf.compat.v1.train.AdamOptimizer(0.1)).numpy()
    for before, first, after, second, last in run_example(example):
        assert before == 0.0
        assert (after - 5.0) ** 2 == pytest.approx(second[0], rel=1e-5)
        np.testing.assert_allclose(np.concatenate([first, second]), losses, rtol=1e-5, atol=1e-6)
        assert last == pytest.approx(x.numpy(), rel=1e-5)


@pytest.mark.parametrize("full_length", [True, False])
def test_documented_convergence(full_length):
    """ "to stop the optimization once a moving average of the per-step decrease in loss drops below `0.01`"

    "return_full_length_trace: whether to return a trace of the full length `num_steps`, even if a convergence criterion
    stopped the optimization early, by tiling the value(s) traced at the final optimization step. [...] otherwise it is
    equal equal to the number of optimization steps taken."
    """

    def example(library):
        x, optimizer = tf.Variable(0.0), adam()
        trace = library.minimize(
            lambda: (x - 5.0) ** 2,
            num_steps=1000,
            optimizer=optimizer,
            convergence_criterion=library.LossNotDecreasing(atol=0.01),
            trace_fn=lambda q: {
                "loss": q.loss,
                "step": q.step,
                "x": x,
                "gradients": q.gradients,
                "has_converged": q.has_converged,
                "state": tuple(q.convergence_criterion_state),
            },
            return_full_length_trace=full_length,
        )
        return trace, x, optimizer.iterations

    for trace, x, num_taken in run_example(example):
        assert 20 < num_taken < 1000
        assert len(trace["loss"]) == (1000 if full_length else num_taken)
        last = num_taken - 1
        assert trace["has_converged"].tolist() == [False] * last + [True] * (len(trace["loss"]) - last)
        np.testing.assert_array_equal(trace["step"], np.minimum(np.arange(len(trace["step"])), last))
        np.testing.assert_array_equal(trace["x"][last:], x)
        np.testing.assert_array_equal(trace["loss"][last:], trace["loss"][last])
        # The criterion, from its documentation: average[t] = decrease[t] + (1 - 1/10)(average[t-1] - decrease[t]).
        average = [np.float32(0.0)]
        for decrease in -np.diff(trace["loss"][:num_taken]):
            average.append(decrease + np.float32(0.9) * (average[-1] - decrease))
        assert average[-1] < 0.01 <= min(average[20:-1])
        np.testing.assert_allclose(trace["state"][1][:num_taken], average, rtol=1e-4, atol=1e-5)


def test_documented_upper_bound():
    """ "Here `num_steps=1000` defines an upper bound: the optimization will be stopped after 1000 steps even if no
    convergence is detected." """

    def example(library):
        x, optimizer = tf.Variable(0.0), adam()
        losses = library.minimize(
            lambda: (x - 5.0) ** 2,
            num_steps=30,
            optimizer=optimizer,
            convergence_criterion=library.LossNotDecreasing(atol=0.01),
            return_full_length_trace=False,
        )
        return losses, optimizer.iterations

    for losses, num_taken in run_example(example):
        assert len(losses) == num_taken == 30


def test_documented_trace():
    """ "it may also report the values of trainable parameters or other derived quantities by capturing them in its
    closure. For example, we can capture `x` and track its value over the optimization" """

    def example(library):
        x = tf.Variable(0.0)
        return library.minimize(
            lambda: (x - 5.0) ** 2,
            num_steps=100,
            optimizer=adam(),
            trace_fn=lambda traceable_quantities: {"loss": traceable_quantities.loss, "x": x, "twice": 2.0 * x},
        )

    for trace in run_example(example):
        assert trace["loss"].shape == (100,)
        assert trace["x"].shape == (100,)
        # The loss is evaluated before the update of its step, x is seen after it.
        np.testing.assert_allclose(trace["loss"][1:], (trace["x"][:-1] - 5.0) ** 2, rtol=1e-6)
        np.testing.assert_array_equal(trace["twice"], 2.0 * trace["x"])
        assert len(set(trace["x"].tolist())) == 100


@pytest.mark.parametrize(
    "reduce_fn",
    [tf.reduce_all, tf.reduce_any, lambda converged: tf.reduce_mean(tf.cast(converged, tf.float32)) > 0.5],
    ids=["all", "any", "more than half"],
)
def test_documented_batch_of_losses(reduce_fn):
    """ "When optimizing a batch of losses, some batch members will converge before others. The optimization will
    continue until the condition defined by the `batch_convergence_reduce_fn` becomes `True`. During these additional
    steps, converged elements will continue to be updated and may become unconverged. The convergence status of batch
    members can be diagnosed by tracing `has_converged`" """
    batch_size = 10
    goals = np.linspace(0.0, 5.0, batch_size, dtype=np.float32)

    def example(library):
        x, optimizer = tf.Variable([0.0] * batch_size), adam()
        trace = library.minimize(
            lambda: (x - goals) ** 2,
            num_steps=200,
            optimizer=optimizer,
            trace_fn=lambda q: {"loss": q.loss, "has_converged": q.has_converged, "x": x},
            convergence_criterion=library.LossNotDecreasing(atol=0.01),
            batch_convergence_reduce_fn=reduce_fn,
        )
        return trace, optimizer.iterations

    for trace, num_taken in run_example(example):
        assert trace["loss"].shape == trace["has_converged"].shape == (200, batch_size)
        stops = [bool(reduce_fn(tf.constant(row))) for row in trace["has_converged"]]
        assert stops.index(True) == num_taken - 1 < 199
        first = np.argmax(trace["has_converged"], axis=0)
        assert trace["has_converged"][-1, 0]
        # Batch members that converged first go on being updated.
        assert (trace["x"][num_taken - 1] != trace["x"][first.min()])[goals > 0].all()


def test_without_a_criterion_nothing_has_converged():
    """The documentation says that `has_converged` is then None; it is False of the shape of the loss."""

    def example(library):
        x = tf.Variable([0.0, 1.0])
        return library.minimize(
            lambda: (x - 5.0) ** 2, num_steps=3, optimizer=adam(), trace_fn=lambda q: (q.has_converged, q.seed)
        )

    for has_converged, seed in run_example(example):
        np.testing.assert_array_equal(has_converged, np.zeros((3, 2), bool))
        np.testing.assert_array_equal(seed, [-1, -1, -1])


def test_one_step():
    def example(library):
        x, optimizer = tf.Variable(0.0), adam()
        return library.minimize(lambda: (x - 5.0) ** 2, num_steps=1, optimizer=optimizer), x, optimizer.iterations

    for losses, x, num_taken in run_example(example):
        assert losses.tolist() == [25.0]
        assert num_taken == 1
        assert x == pytest.approx(0.1, rel=1e-4)


class PureMomentum:
    """ "any similar object that implements methods `optimizer_state = optimizer.init(parameters)` and
    `updates, optimizer_state = optimizer.update(grads, optimizer_state, parameters)`" """

    State = collections.namedtuple("State", ["count", "average"])

    def init(self, parameters):
        return self.State(tf.constant(0), tf.nest.map_structure(tf.zeros_like, parameters))

    def update(self, grads, state, parameters):
        average = tf.nest.map_structure(lambda a, g: 0.9 * a + g, state.average, grads)
        decay = 1e-3
        updates = tf.nest.map_structure(lambda a, p: -0.01 * a - decay * p, average, parameters)
        return updates, self.State(state.count + 1, average)


Pair = collections.namedtuple("Pair", ["first", "second"])
X, Y = tf.constant(0.0), tf.constant([1.0, 2.0])


def distance(x, y):
    return (x - 5.0) ** 2 + tf.reduce_sum((y - x) ** 2)


@pytest.mark.parametrize(
    ("init", "loss_fn"),
    [
        (X, lambda x: (x - 5.0) ** 2),
        ((X, Y), distance),
        ([X, Y], distance),
        (Pair(X, Y), distance),
        ({"x": X, "y": Y}, lambda p: distance(p["x"], p["y"])),
        (({"x": X}, Pair(X + 1.0, Y)), lambda p, q: distance(p["x"], q.first * q.second)),
    ],
    ids=["tensor", "tuple", "list", "namedtuple", "dict", "nested"],
)
def test_documented_stateless(init, loss_fn):
    """ "Minimize a loss expressed as a pure function of its parameters. [...] final_parameters: Tuple of final
    parameter values, with the same structure and `Tensor` shapes as `init`." """

    def example(library):
        return library.minimize_stateless(
            loss_fn,
            init,
            num_steps=50,
            optimizer=PureMomentum(),
            trace_fn=lambda q: {
                "loss": q.loss,
                "gradients": q.gradients,
                "parameters": q.parameters,
                "count": q.optimizer_state.count,
                "average": q.optimizer_state.average,
                "step": q.step,
            },
        )

    for final, trace in run_example(example):
        tf.nest.assert_same_structure(final, init)
        tf.nest.map_structure(lambda f, i: np.testing.assert_array_equal(f.shape, i.shape), final, init)
        tf.nest.map_structure(lambda f, t: np.testing.assert_array_equal(f, t[-1]), final, trace["parameters"])
        np.testing.assert_array_equal(trace["count"], np.arange(1, 51))
        np.testing.assert_array_equal(trace["step"], np.arange(50))
        assert trace["loss"][-1] < 0.2 * trace["loss"][0]


@pytest.mark.parametrize("full_length", [True, False])
def test_documented_stateless_convergence(full_length):
    """ "We can attempt to automatically detect convergence and stop the optimization" """

    def example(library):
        return library.minimize_stateless(
            lambda x: (x - 5.0) ** 2,
            init=0.0,
            num_steps=300,
            optimizer=PureMomentum(),
            convergence_criterion=library.LossNotDecreasing(rtol=0.01),
            trace_fn=lambda q: (q.loss, q.has_converged, q.optimizer_state.count),
            return_full_length_trace=full_length,
        )

    for final, (losses, has_converged, count) in run_example(example):
        num_taken = np.argmax(has_converged) + 1
        assert 20 < num_taken < 300
        assert len(losses) == (300 if full_length else num_taken)
        assert count[-1] == num_taken
        assert final < 5.5


# "This may optionally take a `seed` keyword argument, used to specify a per-iteration seed for stochastic loss
# functions (a stateless `Tensor` seed will be passed; see `tfp.random.sanitize_seed`)." The same seed, the same draws.

SEEDS = {"tensor": lambda: tf.constant([1, -2]), "pair": lambda: (3, 4), "int": lambda: 5}


def minimize_noisy(library, seed):
    x = tf.Variable([0.0, 1.0])

    def noisy_loss(seed=None):
        return tf.reduce_sum((x - 5.0 + tf.random.stateless_normal([2], seed)) ** 2)

    return library.minimize(
        noisy_loss, num_steps=20, optimizer=adam(), seed=seed, trace_fn=lambda q: (q.loss, x, q.seed)
    )


def minimize_noisy_stateless(library, seed):
    def noisy_loss(x, seed=None):
        return tf.reduce_sum((x - 5.0 + tf.random.stateless_normal([2], seed)) ** 2)

    return library.minimize_stateless(
        noisy_loss,
        tf.constant([0.0, 1.0]),
        num_steps=20,
        optimizer=PureMomentum(),
        seed=seed,
        trace_fn=lambda q: (q.loss, q.parameters, q.seed),
    )[1]


@pytest.mark.parametrize("minimize", [minimize_noisy, minimize_noisy_stateless], ids=["minimize", "stateless"])
@pytest.mark.parametrize("seed", SEEDS)
def test_same_seed_gives_the_draws_of_tfp(minimize, seed):
    def example(library):
        tf.random.set_seed(7)  # "if the `seed` argument is an `int` [...] we use `tf.random.uniform`", statefully.
        return minimize(library, SEEDS[seed]())

    for losses, _, seeds in run_example(example):
        assert len(set(losses.tolist())) == 20
        assert seeds.shape == (20, 2)


@pytest.mark.parametrize("minimize", [minimize_noisy, minimize_noisy_stateless], ids=["minimize", "stateless"])
def test_other_seed_gives_other_draws(minimize):
    library = LIBRARIES["fusemin"]
    first, second, again = (minimize(library, seed)[0].numpy() for seed in ([1, 2], [1, 3], [1, 2]))
    assert not np.any(first == second)
    np.testing.assert_array_equal(first, again)


def test_int_seed_is_stateful():
    """Two calls with the same int draw anew, as samplers of TensorFlow do, unless the global seed is set again."""

    def example(library):
        tf.random.set_seed(7)
        return [minimize_noisy(library, 5)[0] for _ in range(2)]

    for first, second in run_example(example):
        assert not np.any(first == second)


def test_seed_without_a_seeded_loss():
    """A `seed` does no harm to a loss that takes none, and a loss that takes one is called without: with None."""

    def example(library):
        x, seen = tf.Variable(0.0), []

        def loss_fn(seed="not given"):
            seen.append(seed)
            return (x - 5.0) ** 2

        without_argument = library.minimize(lambda: (x - 5.0) ** 2, num_steps=4, optimizer=adam(), seed=[1, 2])
        without_seed = library.minimize(loss_fn, num_steps=4, optimizer=adam())
        assert set(seen) == {None}
        return without_argument, without_seed

    for without_argument, without_seed in run_example(example):
        assert without_argument[0] == 25.0
        assert without_seed[-1] < without_argument[-1]
