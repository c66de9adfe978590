"""Loops with GradientTape: a fused optimizer leaves what stock leaves, whoever took the step."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.families import FAMILIES, each_family, legacy, v1
from tests.support.fused_runs import Loop, assert_close, assert_same, debug_log, to_numpy, variables_of

each_mode = pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "function"])


_OPTIMIZERS = {
    f"{family.name} {kind}": make
    for family in FAMILIES
    for kind, make in {
        "adam": lambda family=family: family.adam(0.1),
        "momentum": lambda family=family: family.momentum(0.02),
        # Of TensorFlow 1 a learning rate may be a tensor or a function, but there are no schedules that count steps.
        "schedule": lambda family=family: family.adam(family.schedule() if family.schedules else lambda: 0.05),
    }.items()
}


@pytest.mark.parametrize("name", _OPTIMIZERS)
@each_mode
def test_same_as_stock(name, in_graph):
    make = _OPTIMIZERS[name]
    stock = Loop(make(), in_graph).take(12)
    with debug_log() as log:
        fused = Loop(fusemin.fuse(make()), in_graph).take(12)
    assert log.fused
    assert not log.reasons
    assert_same(fused.values(), stock.values())


@each_family
def test_fused_and_stock_steps_can_alternate(family):
    stock, fused = Loop(family.adam(0.1)), Loop(fusemin.fuse(family.adam(0.1)))
    for loop in (stock, fused):
        loop.take(3)
        # A gradient of NumPy is nothing that the op knows; the step is stock's.
        x, y = loop.variables
        loop.optimizer.apply_gradients([(np.full([2, 2], 0.5, np.float32), x), (tf.ones([3], tf.float64), y)])
        loop.take(3)
    assert_same(fused.values(), stock.values())


@each_mode
def test_what_apply_gradients_returns(in_graph):
    """Stock returns the count of steps in Keras; the op or None in TensorFlow 1."""
    for family in FAMILIES:
        loops = [Loop(family.adam(0.1)), Loop(fusemin.fuse(family.adam(0.1)))]
        returned = []
        for loop in loops:
            loop.take(2)

            def step(loop=loop):
                result = loop.optimizer.apply_gradients(list(zip(loop.gradients(), loop.variables, strict=True)))
                if in_graph and isinstance(result, tf.Operation):
                    with tf.control_dependencies([result]):
                        return tf.identity(loop.variables[0])
                return result

            result = (tf.function(step) if in_graph else step)()
            returned.append(None if result is None else to_numpy(result))
        if returned[0] is None:
            assert returned[1] is None, family.name
        else:
            np.testing.assert_array_equal(*returned, err_msg=family.name)


@each_mode
def test_global_step_of_tensorflow_1(in_graph):
    loop, count = Loop(fusemin.fuse(v1.AdamOptimizer(0.1))), tf.Variable(5, dtype=tf.int64)

    def step():
        loop.optimizer.apply_gradients(zip(loop.gradients(), loop.variables, strict=True), global_step=count)

    step = tf.function(step) if in_graph else step
    with debug_log() as log:
        step()
        step()
    assert log.fused
    assert int(count) == 7


def test_session_graph_takes_stock_steps():
    with tf.Graph().as_default(), debug_log() as log:
        x = tf.compat.v1.get_variable("x", initializer=[1.0, 2.0], use_resource=True)
        train = fusemin.fuse(v1.AdamOptimizer(0.5)).minimize(tf.reduce_sum(x**2), var_list=[x])
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(train)
            np.testing.assert_allclose(session.run(x), [0.5, 1.5], rtol=1e-6)
    assert "TensorFlow 1" in log.reasons[0]


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name != "tf.compat.v1.train"], ids=lambda f: f.name)
@each_mode
def test_learning_rate_changes_between_steps(family, in_graph):
    loops = [Loop(family.adam(0.1), in_graph), Loop(fusemin.fuse(family.adam(0.1)), in_graph)]
    for loop in loops:
        loop.take(3)
        loop.optimizer.learning_rate = 0.01
        loop.take(3)
    assert_same(loops[1].values(), loops[0].values())


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_attributes_change_between_eager_steps(library):
    """Stock reads its attributes at each eager step, so must we."""
    stock, fused = (Loop(o) for o in (library.optimizers.Adam(0.1), fusemin.fuse(library.optimizers.Adam(0.1))))
    for loop in (stock, fused):
        loop.take(2)
        loop.optimizer.beta_1 = 0.5
        loop.take(2)
        loop.optimizer.clipnorm = 0.1  # May take stock's steps.
        loop.take(2)
        loop.optimizer.clipnorm = None
        loop.take(2)
    assert_same(fused.values(), stock.values())


def test_attributes_of_an_inner_optimizer_change():
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        x = tf.Variable([1.0, -2.0])
        inner = keras.optimizers.Adam(0.1)
        outer = prepare(keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2))
        for inner.beta_1 in (0.9, 0.9, 0.5, 0.5):
            outer.apply_gradients([(4.0 * x, x)])
        outer.apply_gradients([(x / 0.0, x)])  # Not finite: no step, and half the scale.
        runs.append([x, *outer.variables])
    assert_same(runs[1], runs[0])


def test_attribute_that_changes_at_every_step():
    """Tracing at each step would be slower than stock: after some, the steps are stock's, until it is quiet."""
    stock, fused = Loop(keras.optimizers.Adam(0.1)), Loop(fusemin.fuse(keras.optimizers.Adam(0.1)))
    with debug_log() as log:
        for i in range(14):
            for loop in (stock, fused):
                loop.optimizer.beta_1 = 0.9 - i * 0.01
                loop.take(1)
    assert log.reasons == ["its attributes change from step to step"]
    with debug_log() as log:
        for loop in (stock, fused):
            loop.take(12)
    assert log.fused
    assert_same(fused.values(), stock.values())


@pytest.mark.parametrize("make", [keras.optimizers.Adam, legacy.Adam, v1.AdamOptimizer], ids=["keras", "legacy", "v1"])
def test_python_learning_rate_is_called_at_each_step(make):
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        rate = [0.1]
        loop = Loop(prepare(make(lambda rate=rate: rate[0])))
        for rate[0] in (0.1, 0.03, 0.2):
            loop.take(1)
        runs.append(loop.values())
    assert_same(runs[1], runs[0])


def _steps_on_variables_of_two_kinds(optimizer, in_graph):
    """Of two dtypes; and on in `minimize`."""
    x, y = keras.Variable([1.0, -2.0], name="x"), tf.Variable(3.0, dtype=tf.float64, name="y")
    z = keras.Variable([[0.5]], dtype="float64", name="z")
    variables = [x, y, z]

    def loss():
        return tf.reduce_sum(x.value**2) + tf.cast(y**2 + tf.reduce_sum(z.value), tf.float32)

    def step():
        with tf.GradientTape() as tape:
            value = loss()
        optimizer.apply_gradients(list(zip(tape.gradient(value, [x.value, y, z.value]), variables, strict=True)))

    step = tf.function(step) if in_graph else step
    for _ in range(5):
        step()
    fusemin.minimize(loss, 3, optimizer, trainable_variables=variables)
    return [*variables, *variables_of(optimizer)]


@each_mode
@pytest.mark.parametrize("make", [keras.optimizers.Adam, lambda rate: keras.optimizers.SGD(rate, momentum=0.9)])
def test_variables_of_keras_and_of_tensorflow_in_one_step(make, in_graph):
    stock = _steps_on_variables_of_two_kinds(make(0.1), in_graph)
    with debug_log() as log:
        fused = _steps_on_variables_of_two_kinds(fusemin.fuse(make(0.1)), in_graph)
    assert log.fused
    assert not log.reasons
    assert_close(fused, stock)


# Each: what is done to a pair (gradient of x, x), and what the reason says.
_UNKNOWN = {
    "none": (lambda g, x: (None, x), "is None"),
    "slices of another dtype": (
        lambda g, x: (
            tf.IndexedSlices(tf.ones([2, 2], tf.float64), tf.constant([1, 1]), tf.constant([2, 2], tf.int64)),
            x,
        ),
        "is of float64",
    ),
    "numpy": (lambda g, x: (np.ones([2, 2], np.float32), x), "is a ndarray"),
    "dtype": (lambda g, x: (tf.cast(g, tf.float64), x), "is of float64"),
    "shape": (lambda g, x: (tf.constant(0.5), x), "has shape ()"),
}


@pytest.mark.parametrize("case", _UNKNOWN)
@each_mode
def test_unknown_gradients_take_stock_steps(case, in_graph):
    change, says = _UNKNOWN[case]
    runs = []
    for optimizer in (keras.optimizers.Adam(0.1), fusemin.fuse(keras.optimizers.Adam(0.1))):
        loop = Loop(optimizer)
        loop.optimizer.build(loop.variables)

        def step(loop=loop):
            gradients = loop.gradients()
            pairs = [change(gradients[0], loop.variables[0]), (gradients[1], loop.variables[1])]
            loop.optimizer.apply_gradients(pairs)

        step = tf.function(step) if in_graph else step
        with debug_log() as log:
            step()
            step()
        runs.append(loop.values())
    assert len(log.reasons) == 1
    assert says in log.reasons[0]
    assert_same(runs[1], runs[0])


def test_variable_of_another_optimizer_is_stocks_error():
    loop = Loop(fusemin.fuse(keras.optimizers.Adam(0.1))).take(1)
    with pytest.raises(ValueError, match="Unknown variable"), debug_log() as log:
        loop.optimizer.apply_gradients([(tf.ones([2]), tf.Variable([1.0, 2.0]))])
    assert "built for other variables" in log.reasons[0]


@each_family
@pytest.mark.parametrize("pairs", [[], [(1.0,)], [(1.0, 2.0, 3.0)]], ids=["empty", "single", "triple"])
def test_errors_of_stock(family, pairs):
    raised = []
    for optimizer in (family.adam(0.1), fusemin.fuse(family.adam(0.1))):
        try:
            optimizer.apply_gradients(pairs)
            raised.append(None)
        except (ValueError, TypeError) as error:
            raised.append(type(error))
    assert raised[1] is raised[0]


def test_xla_compiles_the_fused_step():
    loop = Loop(fusemin.fuse(keras.optimizers.Adam(0.1)))
    stock = Loop(keras.optimizers.Adam(0.1))
    with debug_log() as log:
        for each in (loop, stock):
            step = tf.function(each.step_as_is, jit_compile=True)
            step()
            step()
    assert not log.reasons
    for a, b in zip(loop.values(), stock.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_strategy_of_one_device_is_none():
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        with strategy.scope(), debug_log() as log:
            loop = Loop(prepare(keras.optimizers.Adam(0.1)))
            strategy.run(tf.function(loop.step_as_is))
        runs.append(loop.values())
    assert log.reasons == []
    assert any("rule 'adam' updates" in message for message in log)
    assert_same(runs[1], runs[0])


@each_mode
def test_constraints_of_keras_variables(in_graph):
    def run(optimizer):
        x = keras.Variable([1.0, -2.0], name="x")
        x.constraint = keras.constraints.NonNeg()

        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum((x + 1.0) ** 2)
            optimizer.apply_gradients([(tape.gradient(loss, x.value), x)])

        step = tf.function(step) if in_graph else step
        for _ in range(4):
            step()
        assert (to_numpy(x) >= 0).all()
        return [x, *optimizer.variables]

    stock = run(keras.optimizers.Adam(0.5))
    with debug_log() as log:
        fused = run(fusemin.fuse(keras.optimizers.Adam(0.5)))
    assert log.fused
    assert_same(fused, stock)


def test_slots_are_named_as_stock_names_them():
    """Of a Keras variable by its path, which the `tf.Variable` inside does not know."""
    paths = []
    for prepare in (lambda o: o, fusemin.fuse):
        layer = keras.layers.Dense(2, name="dense")
        layer.build((3, 2))
        optimizer = prepare(keras.optimizers.Adam(0.1, name="adam"))
        optimizer.apply([tf.ones(v.shape) for v in layer.variables], layer.variables)
        paths.append([v.path for v in optimizer.variables])
        assert optimizer._trainable_variables == layer.trainable_variables
    assert paths[1] == paths[0]


def test_apply_without_variables():
    stock, fused = Loop(keras.optimizers.Adam(0.1)), Loop(fusemin.fuse(keras.optimizers.Adam(0.1)))
    for loop in (stock, fused):
        with pytest.raises(ValueError, match="must already be built"):
            loop.optimizer.apply(loop.gradients())
        loop.optimizer.build(loop.variables)
        loop.optimizer.apply(loop.gradients())
    assert_same(fused.values(), stock.values())


def test_variables_come_and_go():
    """Some of the variables at a time, as in a GAN, and legacy optimizers that outlive their variables."""
    optimizer = fusemin.fuse(keras.optimizers.SGD(0.5))
    x, y = tf.Variable(1.0), tf.Variable(2.0)
    optimizer.build([x, y])
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant(1.0), x)])
        optimizer.apply_gradients([(tf.constant(1.0), y)])
        optimizer.apply_gradients([(tf.constant(1.0), y), (tf.constant(1.0), x)])
    np.testing.assert_array_equal([x, y, optimizer.iterations], [-1.0, 0.0, 6])

    optimizer = fusemin.fuse(legacy.SGD(0.5))
    for _ in range(5):
        x = tf.Variable(1.0)
        optimizer.apply_gradients([(tf.constant(1.0), x)])
        assert float(x) == 0.5
    assert len(optimizer._fusemin_steps._steps) == 1


def test_threads():
    """Steps of several threads are all taken; plain gradient descent makes their order no matter."""
    optimizer, x = fusemin.fuse(tf_keras.optimizers.legacy.SGD(1.0)), tf.Variable(tf.zeros([50]))
    optimizer.apply_gradients([(tf.zeros([50]), x)])
    errors = []

    def run():
        try:
            for _ in range(100):
                optimizer.apply_gradients([(tf.ones([50]), x)])
        except Exception as error:  # Would be lost in the thread.
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    np.testing.assert_array_equal(x, tf.fill([50], -400.0))
    assert int(optimizer.iterations) == 401


def test_in_a_function_that_creates_the_variables():
    class Model:
        x = None

        @tf.function
        def step(self):
            if self.x is None:
                self.x = tf.Variable([1.0, 2.0])
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(self.x**2)
            self.optimizer.apply_gradients([(tape.gradient(loss, self.x), self.x)])

    model, stock = Model(), Model()
    model.optimizer, stock.optimizer = fusemin.fuse(tf_keras.optimizers.Adam(0.1)), tf_keras.optimizers.Adam(0.1)
    for _ in range(3):
        model.step()
        stock.step()
    assert_same([model.x, *variables_of(model.optimizer)], [stock.x, *variables_of(stock.optimizer)])


def test_functions_run_eagerly():
    stock = Loop(keras.optimizers.Adam(0.1), in_graph=True)
    fused = Loop(fusemin.fuse(keras.optimizers.Adam(0.1)), in_graph=True)
    tf.config.run_functions_eagerly(True)
    try:
        stock.take(3)
        fused.take(3)
    finally:
        tf.config.run_functions_eagerly(False)
    assert_same(fused.values(), stock.values())
