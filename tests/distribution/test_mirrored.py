"""`fuse` under MirroredStrategy, on two logical CPUs, against stock under the same strategy."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from benchmarks.two_replicas import mirrored
from fusemin import graphs
from tests.distribution.two_replicas import Regression
from tests.support.fused_runs import debug_log

OPTIMIZERS = {
    "keras": {
        "SGD": lambda **o: keras.optimizers.SGD(0.05, **o),
        "SGD, momentum": lambda **o: keras.optimizers.SGD(0.05, 0.9, nesterov=True, **o),
        "Adam": lambda **o: keras.optimizers.Adam(0.05, **o),
        "AMSGrad": lambda **o: keras.optimizers.Adam(0.05, amsgrad=True, **o),
        "AdamW": lambda **o: keras.optimizers.AdamW(0.05, **o),
        "Adamax": lambda **o: keras.optimizers.Adamax(0.05, **o),
        "RMSprop": lambda **o: keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True, **o),
        "Adagrad": lambda **o: keras.optimizers.Adagrad(0.05, **o),
        "Adadelta": lambda **o: keras.optimizers.Adadelta(0.5, **o),
        "Ftrl": lambda **o: keras.optimizers.Ftrl(0.05, **o),
        "Lion": lambda **o: keras.optimizers.Lion(0.05, **o),
        "Lamb": lambda **o: keras.optimizers.Lamb(0.05, **o),
    },
    "tf_keras": {
        "SGD": lambda **o: tf_keras.optimizers.SGD(0.05, **o),
        "Adam": lambda **o: tf_keras.optimizers.Adam(0.05, jit_compile=False, **o),
        "RMSprop": lambda **o: tf_keras.optimizers.RMSprop(0.05, jit_compile=False, **o),
        "Adagrad": lambda **o: tf_keras.optimizers.Adagrad(0.05, jit_compile=False, **o),
        "Lion": lambda **o: tf_keras.optimizers.Lion(0.05, jit_compile=False, **o),
    },
    "legacy": {
        "SGD": lambda **o: tf_keras.optimizers.legacy.SGD(0.05, 0.9, **o),
        "Adam": lambda **o: tf_keras.optimizers.legacy.Adam(0.05, **o),
        "RMSprop": lambda **o: tf_keras.optimizers.legacy.RMSprop(0.05, **o),
        "Adamax": lambda **o: tf_keras.optimizers.legacy.Adamax(0.05, **o),
        "Ftrl": lambda **o: tf_keras.optimizers.legacy.Ftrl(0.05, **o),
    },
}
OPTIMIZERS["fusemin"] = {
    "Adan": lambda **o: fusemin.optimizers.Adan(0.05, **o),
    "ScheduleFreeAdamW": lambda **o: fusemin.optimizers.ScheduleFreeAdamW(0.05, **o),
    "CautiousAdamW": lambda **o: fusemin.optimizers.CautiousAdamW(0.05, **o),
}
OPTIMIZERS["keras"]["Nadam"] = lambda **o: keras.optimizers.Nadam(0.05, **o)
OPTIONS = {
    "plain": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "use_ema": {"use_ema": True, "ema_momentum": 0.9},
    "EMA overwrite": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    "loss_scale_factor": {"loss_scale_factor": 4.0},
    "accumulation": {"gradient_accumulation_steps": 2},
    "accumulation and clipnorm": {"gradient_accumulation_steps": 2, "clipnorm": 0.5},
    "decay": {"decay": 0.1},
}
# Those that stock computes under the strategy, and in a function.
OPTIONS_OF = {
    "keras": ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema", "loss_scale_factor"),
    "tf_keras": ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema", "EMA overwrite"),
    "legacy": ("clipvalue", "clipnorm", "global_clipnorm", "decay"),
    "fusemin": ("clipnorm", "global_clipnorm"),
}
# Those for which Keras 3 calls `merge_call` inside of a cond.
REFUSED = ("EMA overwrite", "accumulation", "accumulation and clipnorm")
CASES = [
    *((family, name, "plain") for family, of_family in OPTIMIZERS.items() for name in of_family),
    *(("keras", "SGD, momentum", option) for option in OPTIONS_OF["keras"]),
    *((family, "Adam", option) for family, options in OPTIONS_OF.items() for option in options if family != "fusemin"),
    *(("fusemin", "Adan", option) for option in OPTIONS_OF["fusemin"]),
]
# TensorFlow rewrites stock's division by a root, in a graph, as a product with the root's inverse. Its own kernels,
# which the legacy optimizers call, multiply in another order at times.
REWRITTEN = ("RMSprop", "Adagrad", "Adadelta", "Lamb", "Nadam", "Adan", "ScheduleFreeAdamW", "CautiousAdamW")
ROUNDED = 2e-6
NUM_STEPS = 4


def _pair(make, **options):
    """Stock's and the fused fit, after some steps, and what the log says of the second."""
    stock = Regression(mirrored(), make, **options).take(NUM_STEPS)
    with debug_log() as log:
        fused = Regression(mirrored(), make, fusemin.fuse, **options).take(NUM_STEPS)
    return stock, fused, log


def _updates(fit) -> int:
    """How many ops of fusemin a step has."""
    graph = fit.step.get_concrete_function().graph
    return sum(op.type == "Fusemin>FusedStep" for op in graphs.with_called(graph.get_operations()))


def _assert_same(stock, fused, limit=0.0):
    for of_stock, of_fused in zip(stock.copies(), fused.copies(), strict=True):
        for a, b in zip(of_stock, of_fused, strict=True):
            np.testing.assert_allclose(b, a, rtol=limit, atol=limit)
    first, second = fused.copies()
    for variable in range(len(fused.variables)):
        np.testing.assert_array_equal(first[variable], second[variable])


@pytest.mark.parametrize(("family", "name", "option"), CASES)
def test_is_stock(family, name, option):
    def make():
        return OPTIMIZERS[family][name](**OPTIONS[option])

    stock, fused, _ = _pair(make)
    # Keras 3 clips before the sum, by its own method. The others clip after it, so that the op does: its norms are sums
    # in float64, as on one device. TensorFlow orders the factors of a decay anew in a graph, on one device too.
    rounded = name in REWRITTEN or family == "legacy" or (family == "tf_keras" and "norm" in option)
    rounded = rounded or (name == "SGD, momentum" and option == "weight_decay")
    _assert_same(stock, fused, ROUNDED if rounded else 0.0)
    assert _updates(fused) == 2


@pytest.mark.parametrize("option", REFUSED)
@pytest.mark.parametrize("name", ["SGD, momentum", "Adam", "Lion"])
def test_what_keras_refuses_is_as_on_one_device(name, option):
    """The replicas' gradients are summed before they are accumulated, clipped and averaged."""

    def make():
        return OPTIMIZERS["keras"][name](**OPTIONS[option])

    fused = Regression(mirrored(), make, fusemin.fuse).take(NUM_STEPS)
    alone = Regression(tf.distribute.get_strategy(), make).take(NUM_STEPS)
    for of_replica in fused.copies():
        for a, b in zip(alone.copies()[0], of_replica, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    _assert_same(fused, fused)
    assert _updates(fused) == 2


def test_keras_refuses_them_still():
    """If this fails, Keras mended keras#20582: compare with it under the strategy."""
    for option in ("EMA overwrite", "accumulation"):
        with pytest.raises(RuntimeError, match="merge_call"):
            Regression(mirrored(), lambda: keras.optimizers.Adam(0.05, **OPTIONS[option])).take(1)  # noqa: B023


def test_prodigy_is_as_on_one_device():
    """Its own step cannot be taken on several replicas: the sums that it adapts by are over all gradients."""

    def make():
        return fusemin.optimizers.Prodigy(1.0)

    with pytest.raises(ValueError, match="sums over the gradients"):
        Regression(mirrored(), make).take(1)
    fused = Regression(mirrored(), make, fusemin.fuse).take(NUM_STEPS)
    alone = Regression(tf.distribute.get_strategy(), make).take(NUM_STEPS)
    for a, b in zip(alone.copies()[0], fused.copies()[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


SCALED = ("plain", "clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema")


@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("option", SCALED)
def test_a_dynamic_loss_scale(option, lookup):
    def make():
        inner = keras.optimizers.Adam(0.05, **OPTIONS[option])
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**10, dynamic_growth_steps=3)

    stock = Regression(mirrored(), make, lookup=lookup).take(NUM_STEPS)
    fused = Regression(mirrored(), make, fusemin.fuse, lookup=lookup).take(NUM_STEPS)
    _assert_same(stock, fused, ROUNDED if lookup else 0.0)
    assert float(fused.optimizer.dynamic_scale.numpy()) == 2.0**11
    assert _updates(fused) == 2


def test_a_loss_scale_beyond_float16():
    """Of which the scaled gradients are, and the clipped ones."""
    results = []
    for prepare in (lambda o: o, fusemin.fuse):
        with mirrored().scope():
            x = tf.Variable([1.0, 2.0], dtype=tf.float16)
            inner = keras.optimizers.SGD(0.5, clipnorm=0.5)
            optimizer = prepare(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**16))
            optimizer.build([x])

        def step(x=x, optimizer=optimizer):
            optimizer.apply_gradients([(6000.0 * tf.ones_like(x), x)])

        mirrored().run(step)
        results.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    assert results[0][0][0] < 1.0
    np.testing.assert_array_equal(results[1], results[0])


def test_a_dynamic_loss_scale_of_tf_keras():
    """Its wrapper leaves the update to what it wraps, inside of a cond in which all replicas are at once."""

    def make():
        return tf_keras.mixed_precision.LossScaleOptimizer(tf_keras.optimizers.Adam(0.05, jit_compile=False))

    stock, fused, _ = _pair(make)
    _assert_same(stock, fused)
    assert _updates(fused) == 2


def _step_of(strategy, make, gradients, prepare=lambda o: o):
    """The values on each replica of a variable, which was 1, and the loss scale, after a step with a gradient for each
    replica."""
    with strategy.scope():
        x = keras.Variable(np.ones(3, np.float32))
        optimizer = prepare(make())
        optimizer.build([x])

    def on_replica():
        i = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.gather(tf.constant(gradients, tf.float32), i) * tf.ones(3)], [x])

    tf.function(lambda: strategy.run(on_replica))()
    copies = [v.numpy() for v in strategy.experimental_local_results(x.value)]
    scales = [float(v.numpy()) for v in strategy.experimental_local_results(optimizer.dynamic_scale.value)]
    return copies, scales, int(optimizer.iterations.numpy())


@pytest.mark.parametrize("option", SCALED)
@pytest.mark.parametrize("gradients", [(np.inf, 1.0), (1.0, np.inf), (1.0, np.nan), (np.inf, -np.inf)])
def test_a_gradient_that_is_not_finite_on_one_replica_skips_the_step_on_all(gradients, option):
    def make():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5, **OPTIONS[option]), initial_scale=4.0)

    copies, scales, iterations = _step_of(mirrored(), make, gradients, fusemin.fuse)
    np.testing.assert_array_equal(copies, np.ones([2, 3]))
    assert scales == [2.0, 2.0]
    assert iterations == 0


def test_stock_looks_at_the_first_replica_only():
    """If this fails, Keras mended it: take the line out of docs/differences.md."""

    def make():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)

    copies, _, iterations = _step_of(mirrored(), make, (1.0, np.inf))
    np.testing.assert_array_equal(copies, np.full([2, 3], -np.inf))
    assert iterations == 1


# Not that of Keras 3: it fails when it makes its variables in a function that runs on several replicas.
@pytest.mark.parametrize("how", ["graph", "eager"])
@pytest.mark.parametrize("family", ["keras", "tf_keras", "legacy"])
def test_an_optimizer_that_is_not_built(family, how):
    results = []
    for prepare in (lambda o: o, fusemin.fuse):
        with mirrored().scope():
            x = tf.Variable([1.0, 2.0])
            optimizer = prepare(OPTIMIZERS[family]["Adam"]())

        def step(x=x, optimizer=optimizer):
            i = tf.distribute.get_replica_context().replica_id_in_sync_group
            optimizer.apply_gradients([(tf.cast(i + 1, tf.float32) * x, x)])

        def take(step=step):
            mirrored().run(step)

        take = tf.function(take) if how == "graph" else take
        if family == "keras" and how == "graph" and not results:
            results.append(None)
            continue
        for _ in range(3):
            take()
        results.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    np.testing.assert_array_equal(results[1][0], results[1][1])
    if results[0] is not None:
        np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize("family", ["tf_keras", "legacy"])
def test_a_constraint(family):
    results = []
    for prepare in (lambda o: o, fusemin.fuse):
        with mirrored().scope():
            x = tf.Variable([1.0, 2.0], constraint=lambda value: tf.maximum(value, 0.95))
            optimizer = prepare(OPTIMIZERS[family]["Adam"]())

        def step(x=x, optimizer=optimizer):
            optimizer.apply_gradients([(tf.identity(x), x)])

        for _ in range(3):
            mirrored().run(step)
        results.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    np.testing.assert_array_equal(results[1], results[0])
    assert results[1][0][0] == np.float32(0.95)


def test_gradients_that_were_summed_before():
    results = []
    for prepare in (lambda o: o, fusemin.fuse):
        for family in ("tf_keras", "legacy"):
            with mirrored().scope():
                x = tf.Variable([1.0, 2.0])
                optimizer = prepare(OPTIMIZERS[family]["SGD"]())

            def step(x=x, optimizer=optimizer):
                i = tf.distribute.get_replica_context().replica_id_in_sync_group
                (gradient,) = tf.distribute.get_replica_context().all_reduce("SUM", [tf.cast(i, tf.float32) * x])
                optimizer.apply_gradients([(gradient, x)], experimental_aggregate_gradients=False)

            mirrored().run(step)
            results.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    np.testing.assert_array_equal(results[:2], results[2:])


def test_a_gradient_that_is_the_same_tensor_on_all_replicas_is_taken_as_stock_takes_it():
    results = []
    gradient = tf.constant([1.0, 2.0])
    for prepare in (lambda o: o, fusemin.fuse):
        with mirrored().scope():
            x = tf.Variable([1.0, 2.0])
            optimizer = prepare(keras.optimizers.SGD(0.25))
            optimizer.build([x])

        def step(x=x, optimizer=optimizer):
            optimizer.apply_gradients([(gradient, x)])

        for take in (mirrored().run, tf.function(mirrored().run)):
            take(step)
        results.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize("family", ["keras", "tf_keras", "legacy"])
def test_a_sparse_gradient(family):
    stock, fused, _ = _pair(OPTIMIZERS[family]["Adam"], lookup=True)
    # The order in which slices of one row are added up is free.
    _assert_same(stock, fused, ROUNDED)
    # The legacy Adam has another rule for slices.
    assert _updates(fused) == (4 if family == "legacy" else 2)


@pytest.mark.parametrize("how", ["graph", "eager"])
@pytest.mark.parametrize("family", ["keras", "tf_keras", "legacy"])
def test_variables_of_several_dtypes(family, how):
    """Which stock cannot sum in a graph: it is compared eagerly."""
    results = []
    for prepare in (lambda o: o, fusemin.fuse):
        with mirrored().scope():
            variables = [tf.Variable([1.0, 2.0], dtype=dtype) for dtype in (tf.float32, tf.float64)]
            optimizer = prepare(OPTIMIZERS[family]["SGD"]())

        def step(variables=variables, optimizer=optimizer):
            optimizer.apply_gradients([(2.0 * v, v) for v in variables])

        def take(step=step):
            mirrored().run(step)

        take = tf.function(take) if how == "graph" and results else take
        for _ in range(3):
            take()
        results.append([v.numpy() for variable in variables for v in mirrored().experimental_local_results(variable)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=ROUNDED)


@pytest.mark.parametrize("family", ["keras", "tf_keras", "legacy"])
def test_a_schedule(family):
    optimizers = (keras if family == "keras" else tf_keras).optimizers

    def make():
        schedule = optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        return (optimizers.legacy if family == "legacy" else optimizers).Adam(schedule)

    stock, fused, _ = _pair(make)
    _assert_same(stock, fused)
    assert _updates(fused) == 2


def test_eager_steps():
    fits = []
    for prepare in (lambda o: o, fusemin.fuse):
        fit = Regression(mirrored(), OPTIMIZERS["keras"]["Adam"], prepare)
        for _ in range(3):
            fit.step_as_is()
        fits.append(fit)
    _assert_same(*fits)


def test_eager_steps_say_once_why_they_are_stock():
    with mirrored().scope():
        x = tf.Variable([1.0, 2.0])
        optimizer = fusemin.fuse(keras.optimizers.Adam())
        optimizer.build([x])
    with debug_log() as log, fusemin.stock():
        for _ in range(3):
            mirrored().run(lambda: optimizer.apply_gradients([(tf.identity(x), x)]))
    assert len(log.reasons) == 1, log.reasons


def _fitted(scope, optimizer):
    """The weights of a model of Keras after a fit."""
    keras.utils.set_random_seed(0)
    with scope:
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        model.compile(optimizer(), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.standard_normal((16, 5)), rng.standard_normal((16, 1)), batch_size=8, epochs=2, verbose=0)
    return model.get_weights()


def test_model_fit():
    stock = _fitted(mirrored().scope(), lambda: keras.optimizers.Adam(0.05))
    fused = _fitted(mirrored().scope(), lambda: fusemin.fuse(keras.optimizers.Adam(0.05)))
    for a, b in zip(stock, fused, strict=True):
        np.testing.assert_array_equal(a, b)


def test_model_fit_with_accumulation():
    """Which Keras cannot do under the strategy."""

    def make():
        return keras.optimizers.Adam(0.05, gradient_accumulation_steps=2)

    alone = _fitted(contextlib.nullcontext(), make)
    fused = _fitted(mirrored().scope(), lambda: fusemin.fuse(make()))
    for a, b in zip(alone, fused, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_a_norm_of_what_was_accumulated_on_several_devices_is_stocks():
    """Each op would clip by the norm of its own device's."""
    mirrored()  # Makes the devices.
    found = []
    for prepare in (lambda o: o, fusemin.fuse):
        variables = []
        for device in ("CPU:0", "CPU:1"):
            with tf.device(device):
                variables.append(tf.Variable([1.0, 2.0]))
        optimizer = prepare(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2, global_clipnorm=0.5))
        for _ in range(4):
            optimizer.apply([tf.identity(v) for v in variables], variables)
        found.append([v.numpy() for v in variables])
    np.testing.assert_allclose(found[1], found[0], 1e-6)
    reason = fusemin.explain(optimizer, variables).rows[0].reason
    assert reason == "global_clipnorm is of gradients that were accumulated, for variables of several devices"


def test_explain_says_what_is_summed_and_when():
    with mirrored().scope():
        x = tf.Variable(tf.ones([1000]), name="x")
        optimizer = fusemin.fuse(keras.optimizers.Adam(clipnorm=1.0, weight_decay=0.1))
        explained = fusemin.explain(optimizer, [x])
    (row,) = explained.rows
    assert explained.fused
    assert (row.rule, row.device) == ("adam", "CPU:0")
    # The parameter, two slots and the gradient are read, and all but the last written: of one device, without clipping.
    assert row.num_bytes == 7 * 4000
    assert explained.replication == ("MirroredStrategy", 2, 2, ("clipnorm",), 4000, (8000, 8000), False)
    text = " ".join(str(explained).split())
    assert "2 replicas, 2 on this machine. Each applies clipnorm to its gradients. The gradients are summed" in text
    assert "once a step, 4 kB of each. Then each device updates its copies, as above. Each holds slots of 8 kB." in text
    assert "once a step, 4 kB of each." in explained._repr_html_()


def test_explain_says_why_a_step_under_a_strategy_is_stock():
    with mirrored().scope():
        explained = fusemin.explain(tf.compat.v1.train.AdamOptimizer(), [tf.Variable(1.0)])
    assert explained.replication is None
    assert explained.rows[0].reason == (
        "a MirroredStrategy is in use, where tf.compat.v1.train optimizers take their own steps"
    )


@pytest.mark.parametrize("family", ["keras", "tf_keras", "legacy"])
def test_one_device_is_as_no_strategy(family):
    one = tf.distribute.OneDeviceStrategy("/cpu:0")
    make = OPTIMIZERS[family]["Adam"]
    stock, fused = (Regression(one, make, prepare).take(NUM_STEPS) for prepare in (lambda o: o, fusemin.fuse))
    for a, b in zip(stock.copies()[0], fused.copies()[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=ROUNDED, atol=ROUNDED)
    assert _updates(fused) == 1


def test_stock_is_stock():
    fit = Regression(mirrored(), OPTIMIZERS["keras"]["Adam"], fusemin.fuse)
    with fusemin.stock():
        assert _updates(fit) == 0
