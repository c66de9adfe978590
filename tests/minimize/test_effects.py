"""What users' functions do besides returning tensors happens once a step, in order, in every mode."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import fusemin
from tests.support.minimize_runs import functions_run_eagerly
from tests.support.own_optimizers import PureDescent

NUM_STEPS = 7


class Fit:
    """A loss of one variable, whose trace and functions a test chooses."""

    def __init__(self):
        self.x = tf.Variable(0.0, name="x")

    def loss(self, *parameters):
        return ((parameters[0] if parameters else self.x) - 5.0) ** 2

    def run(self, mode, trace_fn, loss_fn=None, num_steps=NUM_STEPS, optimizer=None, **options):
        loss_fn = self.loss if loss_fn is None else loss_fn
        optimizer = keras.optimizers.SGD(0.1, name="sgd") if optimizer is None else optimizer
        options = {"trainable_variables": [self.x], "trace_fn": trace_fn, **options}
        if mode == "stateless":
            options.pop("trainable_variables")
            return fusemin.minimize_stateless(loss_fn, tf.constant(0.0), num_steps, PureDescent(), **options)[1]
        if mode == "tfp":
            return tfp.math.minimize(loss_fn, num_steps, optimizer, **options)
        if mode == "Minimizer":
            return fusemin.Minimizer(loss_fn, optimizer, **options)(num_steps)
        if mode == "tf.function":
            fit = tf.function(lambda: fusemin.minimize(loss_fn, num_steps, optimizer, **options), autograph=False)
            return fit()
        if mode == "eagerly":
            with functions_run_eagerly():
                return fusemin.minimize(loss_fn, num_steps, optimizer, **options)
        jit_compile = {"default": False, "loss": "loss", "jit": True}[mode]
        return fusemin.minimize(loss_fn, num_steps, optimizer, jit_compile=jit_compile, **options)


MODES = ("default", "loss", "Minimizer", "tf.function", "eagerly", "stateless")
MODES_WITH_XLA = (*MODES, "jit")
# Leaves that the op writes, and one that it does not.
LEAVES = {
    "loss": lambda q: q.loss,
    "parameter": lambda q: tf.nest.flatten(q.parameters)[0],
    "gradient": lambda q: tf.nest.flatten(q.gradients)[0],
    "derived": lambda q: 2.0 * q.loss,
    "several": lambda q: (q.loss, q.parameters, q.gradients),
    "nothing": lambda q: (),
}


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("mode", MODES_WITH_XLA)
def test_trace_fn_may_assign(mode, leaf):
    if mode == "eagerly" and leaf == "nothing":
        pytest.skip("stacking no leaf has no number of steps")
    seen, count = tf.Variable(tf.fill([NUM_STEPS], np.nan)), tf.Variable(0)

    def trace_fn(q):
        seen.scatter_nd_update([[count]], [q.loss])
        count.assign_add(1)
        return LEAVES[leaf](q)

    fit = Fit()
    trace = fit.run(mode, trace_fn)
    plain = Fit().run(mode, lambda q: (q.loss, LEAVES[leaf](q)))
    assert count.numpy() == NUM_STEPS
    np.testing.assert_array_equal(seen, plain[0])
    tf.nest.map_structure(np.testing.assert_array_equal, trace, plain[1])


@pytest.mark.parametrize("mode", [*MODES_WITH_XLA, "tfp"])
def test_best_so_far_is_kept(mode):
    best_loss, best_x = tf.Variable(np.float32(np.inf)), tf.Variable(np.float32(np.nan))

    def trace_fn(q):
        better = q.loss < best_loss
        best_x.assign(tf.where(better, tf.nest.flatten(q.parameters)[0], best_x))
        best_loss.assign(tf.minimum(best_loss, q.loss))
        return q.loss

    # Overshoots, so the best step is not the last.
    losses = Fit().run(mode, trace_fn, optimizer=keras.optimizers.SGD(1.05, name="sgd"))
    assert best_loss.numpy() == losses.numpy().min()
    assert np.isfinite(best_x.numpy())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("leaf", ["loss", "derived"])
def test_trace_fn_may_print(mode, leaf, tmp_path):
    path = tmp_path / "log"

    def trace_fn(q):
        tf.print(q.step, q.loss, output_stream=f"file://{path}")
        return LEAVES[leaf](q)

    Fit().run(mode, trace_fn)
    losses = Fit().run(mode, LEAVES["loss"]).numpy()
    printed = [line.split() for line in path.read_text().splitlines()]
    assert [int(step) for step, _ in printed] == list(range(NUM_STEPS))
    np.testing.assert_allclose([float(loss) for _, loss in printed], losses, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_trace_fn_may_write_summaries(mode, tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))

    def trace_fn(q):
        with writer.as_default(step=tf.cast(q.step, tf.int64)):
            # `tf.summary.scalar` is this with metadata of TensorBoard, which it needs.
            tf.summary.write("loss", q.loss)
        return q.loss

    losses = Fit().run(mode, trace_fn).numpy()
    writer.flush()
    (file,) = tmp_path.iterdir()
    events = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
    written = [(e.step, float(tf.make_ndarray(v.tensor))) for e in events for v in e.summary.value]
    assert written == list(enumerate(losses))


@pytest.mark.parametrize("mode", MODES)
def test_trace_fn_may_call_python(mode):
    seen = []

    def trace_fn(q):
        tf.py_function(lambda step, loss: seen.append((int(step), float(loss))), [q.step, q.loss], [])
        return q.loss

    losses = Fit().run(mode, trace_fn).numpy()
    assert seen == list(enumerate(losses))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("check", ["check_numerics", "assert"])
def test_a_check_in_trace_fn_stops_the_run(mode, check):
    def trace_fn(q):
        if check == "check_numerics":
            tf.debugging.check_numerics(tf.math.log(q.loss - 5.0), "log of the loss")
        else:
            tf.debugging.assert_greater(q.loss, 5.0, message="log of the loss")
        return q.loss

    fit = Fit()
    with pytest.raises(tf.errors.InvalidArgumentError, match="log of the loss"):
        fit.run(mode, trace_fn)
    if mode != "stateless":
        # Losses are 25, 16, 10.24, 6.55, 4.19: at the fifth step.
        np.testing.assert_allclose(fit.x.numpy(), 5.0 - 5.0 * 0.8**5, rtol=1e-6)


@pytest.mark.parametrize("mode", [m for m in MODES_WITH_XLA if m != "stateless"])
def test_trace_fn_may_change_what_is_trained(mode):
    fit, reference = Fit(), Fit()

    def trace_fn(q, x):
        x.assign(tf.minimum(x, 2.0))
        return q.loss, x, q.parameters[0]

    trace = fit.run(mode, lambda q: trace_fn(q, fit.x))
    expected = reference.run("tfp", lambda q: trace_fn(q, reference.x))
    assert fit.x.numpy() == reference.x.numpy() == 2.0
    np.testing.assert_allclose(trace[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(trace[1], expected[1], rtol=1e-6)
    np.testing.assert_allclose(trace[2], expected[2], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES_WITH_XLA)
def test_loss_fn_may_assign(mode):
    count, fit = tf.Variable(0), Fit()

    def loss_fn(*parameters):
        count.assign_add(1)
        return fit.loss(*parameters)

    fit.run(mode, LEAVES["loss"], loss_fn)
    assert count.numpy() == NUM_STEPS


@pytest.mark.parametrize("mode", MODES_WITH_XLA)
def test_a_criterion_may_assign(mode):
    bootstraps, steps, reductions = tf.Variable(0), tf.Variable(tf.fill([NUM_STEPS], -1)), tf.Variable(0)

    class Counting:
        def bootstrap(self, loss, grads, parameters):
            bootstraps.assign_add(1)
            return ()

        def one_step(self, step, loss, grads, parameters, auxiliary_state):
            steps.scatter_nd_update([[step]], [step])
            return tf.zeros_like(loss, tf.bool), ()

    def reduce(has_converged):
        reductions.assign_add(1)
        return tf.reduce_all(has_converged)

    Fit().run(mode, LEAVES["loss"], convergence_criterion=Counting(), batch_convergence_reduce_fn=reduce)
    assert bootstraps.numpy() == 1
    np.testing.assert_array_equal(steps, [-1, *range(1, NUM_STEPS)])
    assert reductions.numpy() == NUM_STEPS


@pytest.mark.parametrize("mode", [m for m in MODES_WITH_XLA if m != "eagerly"])
def test_python_in_trace_fn_runs_while_it_is_traced(mode):
    calls = []

    def trace_fn(q):
        calls.append(q)
        return 2.0 * q.loss

    Fit().run(mode, trace_fn, num_steps=100)
    assert len(calls) < 10


@pytest.mark.parametrize("mode", [m for m in MODES if m != "eagerly"])
def test_random_numbers_are_new_at_every_step(mode):
    """Copies of an op in one graph would begin with the same numbers."""
    tf.random.set_seed(3)
    fit = Fit()
    noise = fit.run(
        mode,
        LEAVES["loss"],
        lambda *parameters: tf.stop_gradient(tf.random.normal([])) + 0.0 * fit.loss(*parameters),
    )
    assert len(set(noise.numpy().tolist())) == NUM_STEPS


def test_a_pure_trace_fn_is_not_called_in_the_loop():
    """What the op writes costs no further op."""
    x = tf.Variable(0.0)
    graphs = []

    def trace_fn(q):
        graphs.append(q.loss.graph)
        return q.loss, x, q.parameters[0], q.gradients[0]

    fusemin.minimize(lambda: (x - 5.0) ** 2, 3, keras.optimizers.SGD(0.1, name="sgd"), trace_fn=trace_fn)
    assert [graph.name for graph in graphs] == ["trial"]


@pytest.mark.parametrize(
    "effect",
    [
        lambda q: tf.print(q.loss),
        lambda q: tf.py_function(lambda: None, [], []),
    ],
    ids=["print", "py_function"],
)
def test_what_xla_cannot_compile_is_named(effect):
    def trace_fn(q):
        effect(q)
        return q.loss

    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError), match="XLA cannot compile"):
        Fit().run("jit", trace_fn)
