"""`minimize` in the scope of a MirroredStrategy, on two logical CPUs, against `minimize` on one device: rounding only,
and the same bits on both replicas."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from benchmarks.two_replicas import mirrored
from tests.distribution.two_replicas import Minimization, data
from tests.support.fused_runs import debug_log

NUM_STEPS = 8
OPTIMIZERS = {
    "keras": keras.optimizers,
    "tf_keras": tf_keras.optimizers,
    "legacy": tf_keras.optimizers.legacy,
}
OPTIONS = {
    "plain": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "decay": {"decay": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "overwriting ema": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    "accumulation": {"gradient_accumulation_steps": 3},
    "loss scale": {"loss_scale_factor": 4.0},
}
CLIPPING = ("plain", "clipvalue", "clipnorm", "global_clipnorm")
AVERAGES = ("weight_decay", "ema", "overwriting ema")
OPTIONS_OF = {
    "keras": (*CLIPPING, *AVERAGES, "accumulation", "loss scale"),
    "tf_keras": (*CLIPPING, *AVERAGES),
    "legacy": (*CLIPPING, "decay"),
}
MAKERS = {
    **{
        f"{family}, {option}": lambda family=family, option=option: OPTIMIZERS[family].Adam(0.05, **OPTIONS[option])
        for family, options in OPTIONS_OF.items()
        for option in options
    },
    **{
        f"{family}, schedule": lambda family=family: OPTIMIZERS[family].Adam(
            (keras if family == "keras" else tf_keras).optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        )
        for family in OPTIMIZERS
    },
    **{f"{family}, Nadam": lambda family=family: OPTIMIZERS[family].Nadam(0.05) for family in ("keras", "legacy")},
    "keras, LossScaleOptimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05)),
    "keras, fused before": lambda: fusemin.fuse(keras.optimizers.Adam(0.05)),
    "fusemin, Prodigy": lambda: fusemin.optimizers.Prodigy(1.0, d0=1e-2),
    "fusemin, ScheduleFreeAdamW": lambda: fusemin.optimizers.ScheduleFreeAdamW(0.05),
}


class Halved(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(0.5 * gradient, variable, learning_rate)


# Of the library's own step, which adds the gradients up itself.
NOT_FUSED = {
    "keras, a subclass": lambda: Halved(0.05),
    "tf_keras, Adafactor": lambda: tf_keras.optimizers.Adafactor(0.05),
}


@pytest.fixture(autouse=True, scope="module")
def _devices():
    """Before TensorFlow makes its own."""
    mirrored()


def adam():
    return keras.optimizers.Adam(0.05)


def everything(traced):
    return {
        "loss": traced.loss,
        "gradients": traced.gradients,
        "parameters": traced.parameters,
        "step": traced.step,
        "sum": traced.loss + tf.reduce_sum(traced.gradients[0]),
    }


def pair(make, **options):
    """The fit on one device, and that on two replicas."""
    return Minimization(None, make, **options), Minimization(mirrored(), make, **options)


def assert_same(one, two):
    """Up to rounding; and both replicas to the bit."""
    first, second = two.copies()
    for a, b, of_one in zip(first, second, one.copies()[0], strict=True):
        np.testing.assert_array_equal(a, b)
        # Some optimizers have slots in float32.
        limit = 1e-11 if of_one.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(a, of_one, rtol=limit, atol=limit)


def assert_close(a, b):
    tf.nest.map_structure(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11), a, b)


@pytest.mark.parametrize("name", [*MAKERS, *NOT_FUSED])
def test_is_that_of_one_device(name):
    with debug_log() as log:
        one, two = pair({**MAKERS, **NOT_FUSED}[name])
        assert_close(two.minimize(NUM_STEPS), one.minimize(NUM_STEPS))
    assert_same(one, two)
    assert any("an op a replica" in message for message in log) == (name in MAKERS)


@pytest.mark.parametrize("family", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["listed", "of the tape", "loss", "auto"])
def test_trace_of_everything(family, mode):
    """In each mode of compilation that there is, and with the variables that the loss reads."""
    options = {"jit_compile": mode} if mode in ("loss", "auto") else {"listed": mode == "listed"}
    one, two = pair(lambda: OPTIMIZERS[family].Adam(0.05), trace_fn=everything, **options)
    assert_close(two.minimize(NUM_STEPS), one.minimize(NUM_STEPS))
    assert_same(one, two)


@pytest.mark.parametrize("full", [True, False])
def test_convergence(full):
    criterion = fusemin.LossNotDecreasing(atol=0.5)
    one, two = pair(adam, convergence_criterion=criterion, return_full_length_trace=full)
    of_one, of_two = one.minimize(100), two.minimize(100)
    assert full or 1 < len(of_two) < 100
    assert_close(of_two, of_one)
    assert_same(one, two)


def test_a_loss_that_is_no_scalar():
    with mirrored().scope():
        x = tf.Variable([1.0, 2.0])
        trace = fusemin.minimize(lambda: x**2, 3, keras.optimizers.SGD(0.125))
    # The gradient of two parts is twice that of one.
    factor = np.array([[1.0], [0.5], [0.25]])
    np.testing.assert_allclose(trace, 2.0 * (factor * [1.0, 2.0]) ** 2, rtol=1e-6)


def test_a_sparse_gradient():
    fits = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            table, optimizer = tf.Variable(np.arange(12.0).reshape(6, 2), name="table"), adam()

            def loss(table=table, strategy=strategy):
                rows = tf.constant([0, 2, 2, 5])
                share = 4 // strategy.num_replicas_in_sync
                start = tf.distribute.get_replica_context().replica_id_in_sync_group * share
                return tf.reduce_sum(tf.gather(table, rows[start : start + share]) ** 2)

            trace = fusemin.minimize(loss, NUM_STEPS, optimizer, trace_fn=lambda t: (t.loss, t.gradients[0]))
            fits.append((trace, table.numpy()))
    assert_close(*fits)


def test_constraints():
    with mirrored().scope():
        x = tf.Variable([0.1, 2.0], constraint=lambda v: tf.maximum(v, 0.05), name="x")
        trace = fusemin.minimize(lambda: tf.reduce_sum(x), 3, keras.optimizers.SGD(0.5), trace_fn=lambda t: x)
    np.testing.assert_allclose(trace, [[0.05, 1.0], [0.05, 0.05], [0.05, 0.05]])
    for copy in x.values:
        np.testing.assert_allclose(copy, [0.05, 0.05])


@pytest.mark.parametrize("name", ["fused", "not fused"])
def test_constraints_of_keras_variables(name):
    """Which the `tf.Variable`s inside do not know."""
    make = (lambda: keras.optimizers.SGD(0.5)) if name == "fused" else NOT_FUSED["keras, a subclass"]
    found = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            x = keras.Variable([0.01, 2.0], name="x")
            x.constraint = keras.constraints.NonNeg()
            number = strategy.num_replicas_in_sync

            def loss(x=x, number=number):
                return tf.reduce_sum(x.value) / number

            fusemin.minimize(loss, 3, make(), trainable_variables=[x])
        found.append([copy.numpy() for copy in strategy.experimental_local_results(x.value)])
    np.testing.assert_array_equal(found[1], [found[0][0]] * 2)
    assert found[0][0][0] == 0.0


@pytest.mark.parametrize("name", ["keras, plain", "tf_keras, schedule"])
def test_variables_of_several_dtypes(name):
    """In a graph TensorFlow sums one dtype at a time, and stock fails."""
    found = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            x, y = (tf.Variable([1.0, 3.0], dtype=dtype) for dtype in (tf.float32, tf.float64))
            number = strategy.num_replicas_in_sync

            def loss(x=x, y=y, number=number):
                return (tf.reduce_sum(x**2) + tf.cast(tf.reduce_sum(y**2), tf.float32)) / number

            trace = fusemin.minimize(loss, 4, MAKERS[name](), trainable_variables=[x, y])
        found.append((trace, x.numpy(), y.numpy()))
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *found)


def test_each_replica_has_a_seed_of_its_own():
    with mirrored().scope():
        x = tf.Variable(0.0, name="x")

        def loss(seed):
            return 0.0 * x + tf.stack([tf.random.stateless_normal([], seed), 1.0]) / 2.0

        draws = [
            fusemin.minimize(loss, 4, keras.optimizers.SGD(0.1), trainable_variables=[x], seed=(1, 2)) for _ in "ab"
        ]
    np.testing.assert_array_equal(*draws)
    x = tf.Variable(0.0)
    alone = fusemin.minimize(
        lambda seed: 0.0 * x + tf.random.stateless_normal([], seed), 4, keras.optimizers.SGD(0.1), seed=(1, 2)
    )
    # The first replica's is that of one device; the second adds another number.
    assert not np.isclose(draws[0][:, 0], alone).any()
    np.testing.assert_array_equal(draws[0][:, 1], 1.0)


def test_a_keras_model():
    keras.utils.set_random_seed(0)
    with mirrored().scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        x, y = map(tf.constant, data())

        def loss():
            start = tf.distribute.get_replica_context().replica_id_in_sync_group * 4
            return tf.reduce_sum((model(x[start : start + 4])[:, 0] - y[start : start + 4]) ** 2)

        losses = fusemin.minimize(loss, 50, adam(), trainable_variables=model.trainable_variables)
    assert losses[-1] < 0.2 * losses[0]
    for variable in model.trainable_variables:
        np.testing.assert_array_equal(*[copy.numpy() for copy in variable.value.values])


def test_a_distributed_dataset():
    """TensorFlow gives batches outside of the replicas only: they meet for them."""
    x, y = data()
    one, two = pair(adam)
    strategy = mirrored()
    with strategy.scope():
        dataset = tf.data.Dataset.from_tensor_slices((x.astype(float), y.astype(float))).repeat().batch(8)
        batches = iter(strategy.experimental_distribute_dataset(dataset))
        w, b = two.variables

        def loss():
            x, y = tf.distribute.get_replica_context().merge_call(lambda strategy: next(batches))
            return tf.reduce_sum((tf.linalg.matvec(tf.tanh(x @ w), b) - y) ** 2)

        trace = fusemin.minimize(loss, NUM_STEPS, two.optimizer)
    assert_close(trace, one.minimize(NUM_STEPS))
    assert_same(one, two)


def test_data_is_divided_among_the_replicas():
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x.astype(float), y.astype(float))).repeat()
    fits = []
    for fit in pair(adam):
        fit.minimizer = fusemin.Minimizer(
            lambda batch, w=fit.variables[0], b=fit.variables[1]: tf.reduce_sum(
                (tf.linalg.matvec(tf.tanh(batch[0] @ w), b) - batch[1]) ** 2
            ),
            fit.optimizer,
        )
        fits.append(fit.run(20, data=dataset.batch(4, drop_remainder=True)).trace)
    with pytest.raises(ValueError, match="3 rows, which cannot be divided among 2 replicas"):
        pair(adam)[1].run(20, data=dataset.batch(3, drop_remainder=True))
    assert_close(*fits)


@pytest.mark.parametrize("where", ["scope around", "scope inside"])
def test_in_a_function(where):
    one, two = pair(adam)

    @tf.function
    def fit():
        return two.minimize(NUM_STEPS) if where == "scope inside" else two.minimizer(NUM_STEPS)

    with contextlib.nullcontext() if where == "scope inside" else mirrored().scope():
        trace = fit()
    assert_close(trace, one.minimize(NUM_STEPS))
    assert_same(one, two)


@pytest.mark.parametrize(
    "make",
    [
        adam,
        lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=3, use_ema=True, ema_overwrite_frequency=7),
        lambda: tf_keras.optimizers.legacy.Adam(0.05, decay=0.1),
        NOT_FUSED["tf_keras, Adafactor"],
    ],
    ids=["Adam", "accumulation, ema", "legacy", "not fused"],
)
def test_a_run_is_resumed_to_the_bit(make, tmp_path):
    strategy = mirrored()
    whole = Minimization(strategy, make)
    result = whole.run(60)
    checkpoint = fusemin.Checkpoint(tmp_path, every=10)
    Minimization(strategy, make).run(60, checkpoint=checkpoint, callbacks=lambda state: "stop", every=25)
    resumed = Minimization(strategy, make)
    np.testing.assert_array_equal(resumed.run(60, checkpoint=checkpoint).trace, result.trace)
    for a, b in zip(resumed.copies(), whole.copies(), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    with pytest.raises(fusemin.CheckpointMismatchError, match="replicas: it had 2, now null"):
        Minimization(None, make).run(60, checkpoint=checkpoint)


def test_a_checkpoint_has_one_copy(tmp_path):
    """Of what is the same on all replicas."""
    for folder, strategy in (("one", None), ("two", mirrored())):
        Minimization(strategy, adam).run(20, checkpoint=fusemin.Checkpoint(tmp_path / folder, every=10))
    one, two = (tf.train.list_variables(str(tmp_path / folder / "step-20")) for folder in ("one", "two"))
    assert sorted(shape for _, shape in one) == sorted(shape for _, shape in two)


def test_the_best_step():
    fits = [f.run(60, keep_best=True, restore_best=True) for f in pair(lambda: keras.optimizers.Adam(0.9))]
    np.testing.assert_allclose(fits[0].best.value, fits[1].best.value)
    assert fits[0].best.step == fits[1].best.step
    one, two = pair(lambda: keras.optimizers.Adam(0.9))
    for fit in (one, two):
        fit.run(60, keep_best=True, restore_best=True)
    for mine, of_one in zip(two.variables, one.variables, strict=True):
        for copy in mine.values:
            np.testing.assert_allclose(copy, of_one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_a_step_that_is_not_finite(policy):
    results, variables = [], []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            x = tf.Variable([3.0, 1.0], name="x")
            number = strategy.num_replicas_in_sync

            def loss(x=x, number=number):
                # Of the last replica only.
                is_last = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, number - 1)
                bad = is_last & (x[0] < 2.0)
                return tf.reduce_sum(x**2) / number * tf.where(bad, float("nan"), 1.0)

            fit = fusemin.Minimizer(loss, keras.optimizers.SGD(0.125))
            results.append(fit.run(6, on_nonfinite=policy))
            variables.append(x)
    assert results[0].steps == results[1].steps
    assert results[0].skipped == results[1].skipped
    for copy in variables[1].values:
        np.testing.assert_allclose(copy, variables[0])


def test_plateau_sets_the_rate_of_all_replicas():
    fit = Minimization(mirrored(), lambda: keras.optimizers.Adam(0.5))
    fit.run(200, callbacks=[fusemin.ReduceOnPlateau(fit.optimizer, patience=5, min_delta=1e6)], every=10)
    rates = [float(copy) for copy in fit.optimizer.learning_rate.value.values]
    assert rates[0] == rates[1] < 0.5


def test_a_strategy_of_one_device_is_none():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    one, other = Minimization(None, adam), Minimization(strategy, adam)
    np.testing.assert_array_equal(other.minimize(NUM_STEPS), one.minimize(NUM_STEPS))
    np.testing.assert_array_equal(other.run(NUM_STEPS).trace, one.run(NUM_STEPS).trace)


class Custom:
    def apply_gradients(self, grads_and_vars):
        for gradient, variable in grads_and_vars:
            variable.assign_sub(0.1 * gradient)


def _of_replica(values):
    return values[int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))]


def _under_a_tape(x, y):
    with tf.GradientTape():
        fusemin.minimize(lambda: x**2, 3, adam())


def _eagerly(x, y):
    tf.config.run_functions_eagerly(True)
    try:
        fusemin.minimize(lambda: x**2, 3, adam())
    finally:
        tf.config.run_functions_eagerly(False)


MISTAKES = {
    "an unknown optimizer": (
        lambda x, y: fusemin.minimize(lambda: x**2, 3, Custom()),
        "Custom is of no known optimizer family, and its own `apply_gradients` may not add up",
    ),
    "an optimizer of TensorFlow 1": (
        lambda x, y: fusemin.minimize(lambda: x**2, 3, tf.compat.v1.train.AdamOptimizer(0.1)),
        "where tf.compat.v1.train optimizers take their own steps",
    ),
    "in a replica": (
        lambda x, y: mirrored().run(lambda: fusemin.minimize(lambda: x**2, 3, Custom())),
        r"inside of `MirroredStrategy.run`.* Call it outside, in `MirroredStrategy.scope\(\)`",
    ),
    "jit_compile": (
        lambda x, y: fusemin.minimize(lambda: x**2, 3, adam(), jit_compile=True),
        '`jit_compile=True` does not work in a `MirroredStrategy.scope.*"loss" compiles loss and gradients',
    ),
    "a tape": (_under_a_tape, "under a tf.GradientTape"),
    "eager functions": (_eagerly, "run_functions_eagerly"),
    "shapes": (
        lambda x, y: fusemin.minimize(lambda: x * tf.ones(_of_replica([2, 3])), 3, adam()),
        r"returned one of shape \(2,\) and one of \(3,\)",
    ),
    "variables": (
        lambda x, y: fusemin.minimize(lambda: x**2 + (y**2 if _of_replica([0, 1]) else 0.0), 3, adam()),
        "reads 'x:0' on one, 'x:0', 'y:0' on another. Add 0 times",
    ),
    "a policy of what is not fused": (
        lambda x, y: fusemin.minimize(lambda: x**2, 3, NOT_FUSED["keras, a subclass"](), on_nonfinite="skip"),
        "`on_nonfinite` other than 'continue' is for fused optimizers",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said_before_anything_is_written(name):
    call, message = MISTAKES[name]
    with mirrored().scope():
        x, y = (tf.Variable(1.0, name=name) for name in "xy")
        with pytest.raises((NotImplementedError, ValueError), match=message):
            call(x, y)
    assert [float(copy) for copy in (*x.values, *y.values)] == [1.0] * 4


def test_variables_of_another_place():
    outside = tf.Variable(1.0, name="outside")
    with mirrored().scope():
        inside = tf.Variable(1.0, name="inside")
        with pytest.raises(ValueError, match="'outside:0' was made outside of the scope of the MirroredStrategy"):
            fusemin.minimize(lambda: inside * outside, 3, adam())
    with pytest.raises(NotImplementedError, match=r"'inside:0' was made in the scope.*Call `minimize` in that scope"):
        fusemin.minimize(lambda: inside**2, 3, adam())


OUTSIDE = {
    "keras": (lambda: keras.optimizers.Adam(0.1), False),
    "keras, built": (lambda: keras.optimizers.Adam(0.1), True),
    "keras, not fused": (NOT_FUSED["keras, a subclass"], True),
    "LossScaleOptimizer": (MAKERS["keras, LossScaleOptimizer"], True),
    "fusemin": (lambda: fusemin.optimizers.Adan(0.1), False),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_optimizer_of_another_place(name):
    """Each replica would count its step, and the copies would go apart."""
    make, is_built = OUTSIDE[name]
    optimizer = make()
    with mirrored().scope():
        x = tf.Variable([1.0, 2.0], name="x")
    if is_built:
        optimizer.build([x])
    with (
        mirrored().scope(),
        pytest.raises(ValueError, match=r"was made outside of the scope.*and the optimizer, in `strategy.scope\(\)`"),
    ):
        fusemin.minimize(lambda: tf.reduce_sum(x**2), 3, optimizer)
    for copy in x.values:
        np.testing.assert_array_equal(copy, [1.0, 2.0])


@pytest.mark.parametrize("family", ["tf_keras", "legacy"])
def test_an_optimizer_that_makes_its_variables_later_may_be_made_outside(family):
    found = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        optimizer = OPTIMIZERS[family].Adam(0.1)
        with strategy.scope():
            x, number = tf.Variable([1.0, 2.0]), strategy.num_replicas_in_sync
            found.append(
                fusemin.minimize(lambda x=x, number=number: tf.reduce_sum(x**2) / number, 4, optimizer).numpy()
            )
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
