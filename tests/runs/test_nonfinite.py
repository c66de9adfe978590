"""What becomes of a step whose loss or gradient is not finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import NonFiniteError, Status
from tests.runs.fits import assert_same

MODES = pytest.mark.parametrize("jit_compile", [False, True, "loss"], ids=["default", "jit", "loss"])
NUM_STEPS, BAD_STEP = 12, 5


class Fit:
    """A loss whose gradient of `y`, or which itself, is not finite at one step."""

    def __init__(self, what, optimizer=None, dtypes=("float32", "float32")):
        self.x = tf.Variable(tf.constant([1.0, -2.0], dtypes[0]), name="x")
        self.y = tf.Variable(tf.constant(3.0, dtypes[1]), name="y")
        self.step = tf.Variable(0, trainable=False)
        self.optimizer = optimizer or keras.optimizers.Adam(0.1, name="adam")
        self.what = what

    @property
    def variables(self):
        return [self.x, self.y]

    def loss(self):
        bad = tf.equal(self.step.assign_add(1), BAD_STEP + 1)
        nan = tf.where(bad, float("nan"), 0.0)

        @tf.custom_gradient
        def spoil(y):
            return y, lambda g: g + tf.cast(nan, y.dtype)

        y = tf.cast(spoil(self.y) if self.what == "gradient" else self.y, tf.float32)
        loss = tf.reduce_sum(tf.cast(self.x, tf.float32) ** 2) + y**2
        return loss + tf.stop_gradient(nan) if self.what == "loss" else loss

    def minimizer(self, jit_compile, **keywords):
        return fusemin.Minimizer(
            self.loss, self.optimizer, trainable_variables=self.variables, jit_compile=jit_compile, **keywords
        )

    def state(self):
        return [v.numpy() for v in [*self.variables, *self.optimizer.variables]]


def whole(num_steps, **keywords):
    """A fit without such a step, after so many steps, and its losses."""
    fit = Fit(None, **keywords)
    return fit, fit.minimizer(False)(num_steps).numpy()


def close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=1e-5, atol=1e-7)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1),
    "global norm": lambda: keras.optimizers.Adam(0.1, global_clipnorm=0.5),
    "accumulation": lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3),
    "average": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
}
# Keras itself cannot clip two dtypes by their global norm.
DTYPES = {"one dtype": ("float32", "float32"), "two dtypes": ("float32", "float64")}
SKIPPED = [(o, d) for o in OPTIMIZERS for d in DTYPES if (o, d) != ("global norm", "two dtypes")]


@MODES
@pytest.mark.parametrize(("optimizer", "dtypes"), SKIPPED)
def test_skip(optimizer, dtypes, jit_compile):
    keywords = {"dtypes": DTYPES[dtypes]}
    fit = Fit("gradient", OPTIMIZERS[optimizer](), **keywords)
    result = fit.minimizer(jit_compile).run(NUM_STEPS, on_nonfinite="skip")
    expected, losses = whole(NUM_STEPS - 1, optimizer=OPTIMIZERS[optimizer](), **keywords)
    assert (result.status, result.steps, result.skipped) == (Status.FINISHED, NUM_STEPS, 1)
    close(fit.state(), expected.state())
    # The row of the step that was skipped is there; its loss was computed of the same variables as that of the next.
    close(result.trace, np.insert(losses, BAD_STEP, losses[BAD_STEP]))
    assert "skipped  1 step" in repr(result)


def test_skip_is_to_the_bit():
    fit, (expected, _) = Fit("gradient"), whole(NUM_STEPS - 1)
    fit.minimizer(False).run(NUM_STEPS, on_nonfinite="skip", callbacks=lambda state: None, every=5)
    assert_same(fit.state(), expected.state())


@pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
@pytest.mark.parametrize("policy", ["skip", "stop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_update_skips_by_itself(optimizer, policy, jit_compile):
    """Not in a `tf.cond`, for which XLA copies all variables."""
    fit = Fit("gradient", OPTIMIZERS[optimizer]())
    minimizer = fit.minimizer(jit_compile)
    result = minimizer.run(NUM_STEPS, on_nonfinite=policy)
    assert (result.skipped, result.steps) == ((1, NUM_STEPS) if policy == "skip" else (0, BAD_STEP))
    (program,) = minimizer._program.segment_programs.values()
    functions = program._take.graph.as_graph_def().library.function
    (body,) = [f for f in functions if any(node.op == "Fusemin>FusedStep" for node in f.node_def)]
    assert "cond" not in body.signature.name


def test_skip_where_the_update_cannot():
    """Where nothing counts steps, where the loss scale is dynamic, and where a constraint would move the variable."""
    makes = {
        "no count": lambda: tf.compat.v1.train.GradientDescentOptimizer(0.1),
        "dynamic": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1.0),
    }
    for make in makes.values():
        fit = Fit("gradient", make())
        result = fit.minimizer(False).run(NUM_STEPS, on_nonfinite="skip")
        assert result.skipped == 1
        assert np.isfinite(fit.y.numpy())
    calls = []
    x = tf.Variable([1.0, 1.0], constraint=lambda v: calls.append(v) or v + 1.0)
    minimizer = fusemin.Minimizer(
        lambda: tf.reduce_sum(x) * float("nan"), keras.optimizers.SGD(0.1), trainable_variables=[x]
    )
    assert minimizer.run(4, on_nonfinite="skip").skipped == 4
    assert calls
    np.testing.assert_array_equal(x, [1.0, 1.0])


def test_skip_a_sparse_gradient():
    table, step = tf.Variable(tf.ones([4, 2])), tf.Variable(0)

    def loss():
        nan = tf.where(tf.equal(step.assign_add(1), 3), float("nan"), 1.0)
        return tf.reduce_sum(nan * tf.gather(table, [1, 3, 1]) ** 2)

    result = fusemin.Minimizer(loss, keras.optimizers.SGD(0.1), trainable_variables=[table]).run(6, on_nonfinite="skip")
    assert result.skipped == 1
    assert np.isfinite(table.numpy()).all()


def test_skip_a_complex_gradient():
    z, step = tf.Variable(tf.constant(1.0 + 2.0j, tf.complex64)), tf.Variable(0)

    def loss():
        nan = tf.where(tf.equal(step.assign_add(1), 3), float("nan"), 1.0)
        return nan * tf.abs(z) ** 2

    result = fusemin.Minimizer(loss, keras.optimizers.SGD(0.1), trainable_variables=[z]).run(6, on_nonfinite="skip")
    assert result.skipped == 1
    assert np.isfinite(z.numpy())


@MODES
@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("every", [None, 3])
def test_stop(what, jit_compile, every):
    fit = Fit(what)
    keywords = {} if every is None else {"callbacks": lambda state: None, "every": every}
    result = fit.minimizer(jit_compile).run(NUM_STEPS, on_nonfinite="stop", **keywords)
    expected, losses = whole(BAD_STEP)
    assert (result.status, result.steps) == (Status.NOT_FINITE, BAD_STEP)
    close(fit.state(), expected.state())
    close(result.trace, losses)
    name = "the loss is" if what == "loss" else "the gradient of 'y:0' is"
    assert result.message.startswith(f"{name} not finite at step {BAD_STEP}")


@MODES
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_raise(what, jit_compile):
    fit = Fit(what)
    with pytest.raises(NonFiniteError, match=f"not finite at step {BAD_STEP}") as caught:
        fusemin.minimize(
            fit.loss,
            NUM_STEPS,
            fit.optimizer,
            trainable_variables=fit.variables,
            jit_compile=jit_compile,
            on_nonfinite="raise",
        )
    assert (caught.value.step, caught.value.variable) == (BAD_STEP, None if what == "loss" else "y:0")
    assert isinstance(caught.value, FloatingPointError)
    close(fit.state(), whole(BAD_STEP)[0].state())


@MODES
def test_continue_is_as_ever(jit_compile):
    fit = Fit("gradient")
    result = fit.minimizer(jit_compile).run(NUM_STEPS, on_nonfinite="continue")
    assert (result.status, result.skipped) == (Status.FINISHED, 0)
    assert np.isnan(fit.y.numpy())


@pytest.mark.parametrize("policy", ["skip", "stop", "raise"])
def test_the_first_step(policy):
    x = tf.Variable(1.0)
    minimizer = fusemin.Minimizer(lambda: x * float("inf"), keras.optimizers.SGD(0.1), trainable_variables=[x])
    if policy == "raise":
        with pytest.raises(NonFiniteError, match="step 0"):
            minimizer.run(3, on_nonfinite=policy)
    else:
        result = minimizer.run(3, on_nonfinite=policy)
        assert (result.steps, result.skipped) == ((3, 3) if policy == "skip" else (0, 0))
        assert len(result.trace) == result.steps
    assert x.numpy() == 1.0


@pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
def test_an_optimizer_that_is_not_fused(jit_compile):
    class Own(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * gradient)

    fit, (expected, _) = Fit("gradient", Own(0.1)), whole(NUM_STEPS - 1, optimizer=keras.optimizers.SGD(0.1))
    result = fit.minimizer(jit_compile).run(NUM_STEPS, on_nonfinite="skip")
    assert result.skipped == 1
    close(fit.state(), expected.state())


def test_with_a_criterion_and_a_trace_of_everything():
    fit = Fit("gradient")
    criterion = fusemin.LossNotDecreasing(atol=100.0, min_num_steps=9)
    everything = lambda q: (q.loss, q.gradients, q.parameters, q.has_converged)  # noqa: E731
    result = fit.minimizer(False, convergence_criterion=criterion, trace_fn=everything).run(40, on_nonfinite="skip")
    assert (result.status, result.steps, result.skipped) == (Status.CONVERGED, 10, 1)
    _, gradients, parameters, _ = result.trace
    assert np.isnan(gradients[1][BAD_STEP])
    assert_same(parameters[0][BAD_STEP], parameters[0][BAD_STEP - 1])
