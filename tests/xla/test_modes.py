"""Every way in which XLA comes to compile a fused step."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.compiled_steps import FORMS, form_of_update
from tests.support.minimize_runs import Problem, assert_same, run_program

NUM_STEPS = 9
RTOL = 1e-12

OPTIMIZERS = {
    "keras": lambda: keras.optimizers.Adam(0.1),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)),
    "legacy": lambda: tf_keras.optimizers.legacy.Adam(0.1),
    "compat_v1": lambda: tf.compat.v1.train.AdamOptimizer(0.1),
    "all options": lambda: keras.optimizers.AdamW(
        0.1, weight_decay=0.1, clipnorm=0.5, use_ema=True, gradient_accumulation_steps=2
    ),
}


def minimize(problem, **options):
    return problem.minimize(NUM_STEPS, **options)


MODES = {
    "minimize": lambda p: minimize(p, jit_compile=True),
    "Minimizer": lambda p: fusemin.Minimizer(
        p.loss, p.optimizer, trainable_variables=[p.variable], trace_fn=p.trace, jit_compile=True
    )(NUM_STEPS),
    "function": lambda p: tf.function(lambda: minimize(p), jit_compile=True)(),
    "nested function": lambda p: tf.function(tf.function(lambda: minimize(p)), jit_compile=True)(),
    "loss": lambda p: minimize(p, jit_compile="loss"),
    "loss in a function": lambda p: tf.function(lambda: minimize(p, jit_compile="loss"))(),
    "loss in a compiled function": lambda p: tf.function(lambda: minimize(p, jit_compile="loss"), jit_compile=True)(),
}


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.DEBUG, "fusemin"):
        yield caplog


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("mode", MODES)
def test_minimize_is_fused_and_as_in_the_default_mode(mode, optimizer, log):
    expected, got = Problem.make(OPTIMIZERS[optimizer]), Problem.make(OPTIMIZERS[optimizer])
    want = minimize(expected)
    log.clear()
    assert_same(MODES[mode](got), want, rtol=RTOL)
    assert "updates 1 variables in one op" in log.text
    assert "apply_gradients does the update" not in log.text
    np.testing.assert_allclose(got.variable, expected.variable, rtol=RTOL)
    # And both go on from there as one would.
    assert_same(minimize(got), minimize(expected), rtol=RTOL)


def test_a_minimizer_compiles_once_for_each_number_of_steps():
    traced = []
    problem = Problem.make()

    def loss():
        traced.append(1)
        return problem.loss()

    minimizer = fusemin.Minimizer(loss, problem.optimizer, trainable_variables=[problem.variable], jit_compile=True)
    first = minimizer(4)
    count = len(traced)
    assert_same(tf.concat([first, minimizer(4)], 0), Problem.make().minimize(8, trace_fn=lambda q: q.loss), rtol=RTOL)
    assert len(traced) == count


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_any_number_of_steps(form, num_steps):
    with form_of_update(form):
        got = Problem.make(OPTIMIZERS["keras"]).minimize(num_steps, jit_compile=True)
    assert_same(got, Problem.make(OPTIMIZERS["keras"]).minimize(num_steps), rtol=RTOL)


@pytest.mark.parametrize("form", FORMS)
def test_several_dtypes_and_ranks_in_one_step(form):
    def run(jit_compile):
        variables = [
            tf.Variable(tf.ones(shape, dtype))
            for dtype in (tf.float32, tf.float64)
            for shape in ([], [1], [3], [2, 3], [0], [3, 2, 2], [2, 3])
        ]

        def loss():
            return tf.add_n([tf.cast(tf.reduce_sum((v - 2.0) ** 2), tf.float64) for v in variables])

        trace = fusemin.minimize(
            loss,
            6,
            keras.optimizers.Adam(0.1),
            trainable_variables=variables,
            trace_fn=lambda q: (q.loss, q.gradients, q.parameters),
            jit_compile=jit_compile,
        )
        return trace, [v.numpy() for v in variables]

    with form_of_update(form):
        got = run(True)
    assert_same(got, run(False), rtol=2e-6)


def stochastic_run(minimize, jit_compile, num_steps=12):
    x = tf.Variable([1.0, 2.0], dtype=tf.float64)
    return minimize(
        lambda seed: tf.reduce_sum((x - tf.cast(seed, tf.float64) / 2**31) ** 2),
        num_steps=num_steps,
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        trainable_variables=[x],
        trace_fn=lambda q: (q.loss, q.seed),
        # A number would be another seed at each call.
        seed=tf.constant([1, 7]),
        jit_compile=jit_compile,
    )


def test_seeds_beside_a_compiled_loss_are_those_of_the_default_mode():
    assert_same(stochastic_run(fusemin.minimize, "loss"), stochastic_run(fusemin.minimize, False), rtol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 2, 12, 300])
def test_compiled_seeds_are_those_of_tfp(num_steps):
    """From the same seed TensorFlow draws other numbers under XLA than it does without. The first step is taken before
    the loop, and a long trace is written in chunks."""
    tfp_minimize = pytest.importorskip("tensorflow_probability").math.minimize
    want = stochastic_run(tfp_minimize, True, num_steps)
    assert_same(stochastic_run(fusemin.minimize, True, num_steps), want, rtol=1e-9)


@pytest.mark.parametrize("full_length", [True, False])
@pytest.mark.parametrize("jit_compile", [True, "loss"])
def test_convergence(full_length, jit_compile):
    def run(jit_compile):
        return Problem.make().minimize(
            200,
            convergence_criterion=fusemin.LossNotDecreasing(atol=1e-3),
            return_full_length_trace=full_length,
            jit_compile=jit_compile,
        )

    assert_same(run(jit_compile), run(False), rtol=1e-9)


def test_constraints():
    def run(jit_compile):
        x = tf.Variable([1.0, 2.0], constraint=lambda v: tf.clip_by_value(v, 0.0, 2.5))
        return fusemin.minimize(
            lambda: tf.reduce_sum((x - 4.0) ** 2),
            8,
            tf_keras.optimizers.Adam(0.5),
            trainable_variables=[x],
            trace_fn=lambda q: q.parameters,
            jit_compile=jit_compile,
        )

    assert_same(run(True), run(False), rtol=1e-6)
    assert np.max(run(True)[0]) == 2.5


@pytest.mark.parametrize("form", FORMS)
def test_a_dynamic_loss_scale_skips_shrinks_and_grows(form):
    """Steps 4, 5 and 11 have a gradient that is not finite."""
    rng = np.random.default_rng(0)
    gradients = tf.constant(rng.standard_normal([20, 3]) * 10.0, tf.float32)
    bad = tf.reduce_any(tf.range(20)[:, tf.newaxis] == [4, 5, 11], 1)
    gradients = tf.where(bad[:, tf.newaxis], gradients * np.inf, gradients)

    def run(jit_compile):
        x = tf.Variable([1.0, 2.0, 3.0])
        inner = keras.optimizers.Adam(0.1, clipnorm=1.0)
        optimizer = fusemin.fuse(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3))
        optimizer.build([x])
        step = tf.function(lambda g: optimizer.apply_gradients([(g, x)]), jit_compile=jit_compile)
        states = []
        for gradient in gradients:
            step(gradient)
            states.append(
                [float(optimizer.dynamic_scale), int(optimizer.step_counter), int(inner.iterations), *x.numpy()]
            )
        return np.array(states)

    with form_of_update(form):
        got = run(True)
    np.testing.assert_allclose(got, run(None), rtol=1e-6)
    assert (np.diff(got[:, 0]) < 0).sum() == 3


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_compiled_keras_model(library, log):
    def fit(jit_compile, fused):
        library.utils.set_random_seed(0)
        model = library.Sequential([library.layers.Dense(4, "tanh"), library.layers.Dense(1)])
        optimizer = library.optimizers.Adam(0.01)
        model.compile(fusemin.fuse(optimizer) if fused else optimizer, loss="mse", jit_compile=jit_compile)
        x = np.random.default_rng(0).standard_normal([64, 3]).astype(np.float32)
        return model.fit(x, x[:, :1], epochs=3, verbose=0, shuffle=False).history["loss"]

    log.clear()
    got = fit(True, fused=True)
    assert "updates 4 variables in one op" in log.text
    assert "takes its own step" not in log.text
    np.testing.assert_allclose(got, fit(False, fused=True), rtol=1e-5)
    np.testing.assert_allclose(got, fit(True, fused=False), rtol=1e-5)


def test_a_compiled_loop_of_ones_own(log):
    def run(jit_compile):
        x = tf.Variable([1.0, 2.0], dtype=tf.float64)
        optimizer = fusemin.fuse(keras.optimizers.Adam(0.1))
        optimizer.build([x])

        @tf.function(jit_compile=jit_compile)
        def train():
            for _ in tf.range(10):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum((x - 3.0) ** 2)
                optimizer.apply_gradients([(tape.gradient(loss, x), x)])
            return x.read_value()

        return train()

    log.clear()
    assert_same(run(True), run(None), rtol=RTOL)
    assert "takes its own step" not in log.text


def test_auto_clustering(tmp_path):
    """What XLA picks by itself, with the flags of a user: both ops among it."""
    program = """
        import json
        import keras, tensorflow as tf, fusemin

        x = tf.Variable([1.0, 2.0], dtype=tf.float64)
        def loss():
            return tf.reduce_sum((x - 3.0) ** 2)

        optimizer = keras.optimizers.Adam(0.1)
        fit = tf.function(lambda: fusemin.minimize(loss, 9, optimizer, trainable_variables=[x],
                          trace_fn=lambda q: (q.loss, q.parameters[0], q.loss * 2)))
        trace = [t.numpy().tolist() for t in fit()]
        optimizer = fusemin.fuse(keras.optimizers.Adam(0.1))
        optimizer.build([x])

        @tf.function
        def train():
            for _ in range(3):
                with tf.GradientTape() as tape:
                    value = loss()
                optimizer.apply_gradients([(tape.gradient(value, x), x)])
        train()
        print(json.dumps([trace, x.numpy().tolist(), int(optimizer.iterations)]))
    """
    flags = {
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=1",
        "XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text",
    }
    got = json.loads(run_program(program, **flags))
    clusters = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*before_optimizations.txt")]
    for op in ("FusedStep", "TraceRows"):
        assert any(f'op_type="Fusemin>{op}"' in cluster for cluster in clusters), f"{op} is in no cluster"
    want = json.loads(run_program(program))
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_the_library_may_be_loaded_after_xla_has_begun():
    program = """
        import tensorflow as tf
        assert int(tf.function(lambda: tf.constant(1) + 1, jit_compile=True)()) == 2
        import keras, fusemin

        x = tf.Variable(0.0)
        loss = lambda: (x - 5.0) ** 2
        print(len(fusemin.minimize(loss, 3, keras.optimizers.Adam(0.1), trainable_variables=[x], jit_compile=True)))
    """
    assert run_program(program) == "3\n"


def print_loss(x):
    def loss():
        value = tf.reduce_sum((x - 3.0) ** 2)
        tf.print("loss", value)  # Of the ops StringFormat and PrintV2.
        return value

    return loss


@pytest.mark.parametrize(
    ("jit_compile", "advice"),
    [(True, "of `loss_fn`, at line .*Leave `jit_compile` at False[.]$"), ("loss", "Leave `jit_compile` at False[.]$")],
)
def test_what_xla_cannot_compile_is_named(jit_compile, advice):
    x = tf.Variable([1.0, 2.0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"XLA cannot compile 'StringFormat'.*{advice}"):
        fusemin.minimize(print_loss(x), 3, keras.optimizers.Adam(), trainable_variables=[x], jit_compile=jit_compile)
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_other_parts_that_xla_cannot_compile():
    def trace_fn(quantities):
        return tf.strings.length(tf.strings.as_string(quantities.step))

    problem = Problem.make()
    trace = problem.minimize(12, trace_fn=trace_fn, jit_compile="loss")
    np.testing.assert_array_equal(trace, [1] * 10 + [2] * 2)
    # Here "loss" is a way out, as it is not where `loss_fn` has the op.
    advice = 'Leave `jit_compile` at False, or.*jit_compile="loss"'
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"XLA cannot compile 'AsString'.*{advice}"):
        problem.minimize(12, trace_fn=trace_fn, jit_compile=True)


def test_the_form_has_a_name_that_is_checked():
    with (
        form_of_update("other"),
        pytest.raises(
            tf.errors.InvalidArgumentError, match="FUSEMIN_XLA_FORM is 'other', it must be 'hlo', 'loops' or 'call'"
        ),
    ):
        Problem.make().minimize(3, jit_compile=True)


@pytest.mark.parametrize("wrong", ["losses", "True"])
def test_jit_compile_is_checked(wrong):
    with pytest.raises(ValueError, match='`jit_compile` must be True, False, "auto" or "loss"'):
        Problem.make().minimize(3, jit_compile=wrong)


@pytest.mark.parametrize("how", ["minimize", "fuse"])
def test_a_sparse_gradient_takes_the_optimizers_own_step(how, log):
    start = np.random.default_rng(0).normal(size=(5, 2))

    def run(jit_compile):
        table, optimizer = tf.Variable(start), keras.optimizers.Adam(0.1)

        def loss():
            return tf.reduce_sum(tf.gather(table, [1, 3, 1]) ** 2)

        def step():
            with tf.GradientTape() as tape:
                value = loss()
            optimizer.apply_gradients([(tape.gradient(value, table), table)])

        if how == "minimize":
            fusemin.minimize(loss, 4, optimizer, trainable_variables=[table], jit_compile=jit_compile)
        else:
            optimizer.build([table])
            compiled = tf.function(step, jit_compile=jit_compile)
            fusemin.fuse(optimizer)
            for _ in range(4):
                compiled()
        return table.numpy()

    want = run(False)
    assert "updates 1 variables in one op" in log.text
    log.clear()
    np.testing.assert_allclose(run(True), want, rtol=RTOL)
    assert "is sparse, and XLA compiles the step" in log.text
