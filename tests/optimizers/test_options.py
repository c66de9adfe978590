"""A step's options, against the optimizer's own update: clipping, decay, averages, accumulation, loss scales."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from fusemin import families
from fusemin.update.fused_step import fused_step
from fusemin.update.plan import plan
from tests.support.optimizer_table import OPTION_ROWS
from tests.support.own_optimizers import OwnUpdate
from tests.support.side_by_side import FUSED, STOCK, draw, largest_difference, run

NUM_STEPS = 24
FLOAT64_LIMIT = 1e-12
FLOAT32_LIMIT = 2e-6

every_row = pytest.mark.parametrize("row", OPTION_ROWS, ids=lambda row: row.id)


@every_row
def test_options_are_those_of_stock(row, record_difference):
    """In float64 the same; in float32 as near to that as stock is."""

    def make():
        return row.make(learning_rate=0.01)

    start = draw(families.rule_name(make()), tf.float32, row.num_variables, NUM_STEPS)
    exact = run(make, start, tf.float64, STOCK)
    measured, where = largest_difference(run(make, start, tf.float64, FUSED), exact, start)
    record_difference(f"float64 options {row.family} {row.optimizer}", measured, FLOAT64_LIMIT, where, 0.0)
    assert measured <= FLOAT64_LIMIT, f"{where} is off by {measured:.3g}"
    stock, _ = largest_difference(run(make, start, tf.float32, STOCK), exact, start)
    measured, where = largest_difference(run(make, start, tf.float32, FUSED), exact, start)
    limit = max(FLOAT32_LIMIT, stock)
    record_difference(f"float32 options {row.family} {row.optimizer}", measured, limit, where, stock)
    assert measured <= limit, f"{where} is off by {measured:.3g}, stock by {stock:.3g}"


@pytest.mark.parametrize("clip", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.5}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_spreads_non_finite_gradients_as_stock_does(clip, bad):
    def make():
        return keras.optimizers.SGD(learning_rate=0.1, **clip)

    start = draw("sgd", tf.float64, 3, num_steps=2)
    start.gradients[0][0].reshape(-1)[3] = bad
    fused, stock = (run(make, start, tf.float64, by) for by in (FUSED, STOCK))
    for name, value in stock.items():
        np.testing.assert_allclose(fused[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_decay_spares_the_variables_that_are_excluded(library):
    results = []
    for use_op in (True, False):
        kernel, bias = tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([3.0, 4.0], name="bias")
        optimizer = library.optimizers.AdamW(learning_rate=0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        gradients = [tf.zeros([2]), tf.zeros([2])]
        if use_op:
            fused_step(plan(optimizer, [kernel, bias]).bind(), gradients, loss=tf.constant(0.0))
        else:
            optimizer.apply_gradients(zip(gradients, [kernel, bias], strict=True))
        results.append([kernel.numpy(), bias.numpy()])
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0][1], [3.0, 4.0])
    assert (results[0][0] < [1.0, 2.0]).all()


def fused_step_of(update, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def take(gradient):
        fused_step(update, [gradient], loss=tf.constant(0.0))

    return take


@pytest.mark.parametrize("accumulation", [None, 3])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_dynamic_loss_scale_skips_shrinks_and_grows_as_stock_does(accumulation, jit_compile):
    """Steps 4, 5 and 11 have a gradient that is not finite."""
    states = []
    for use_op in (True, False):
        rng = np.random.default_rng(0)
        x = tf.Variable([1.0, 2.0, 3.0])
        inner = keras.optimizers.Adam(0.1, clipnorm=1.0, gradient_accumulation_steps=accumulation)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
        update = plan(optimizer, [x]).bind()
        take = fused_step_of(update, jit_compile)
        state = []
        for step in range(20):
            gradient = tf.constant(rng.standard_normal(3) * (np.inf if step in (4, 5, 11) else 10.0), tf.float32)
            if use_op:
                take(gradient)
            else:
                optimizer.apply_gradients([(gradient, x)])
            scale = [float(v) for v in (optimizer.dynamic_scale, optimizer.step_counter, inner.iterations)]
            state.append([*scale, *x.numpy()])
        states.append(np.array(state))
    np.testing.assert_allclose(*states, rtol=1e-6)
    scales = states[0][:, 0]
    assert (np.diff(scales) < 0).sum() == 3
    assert (np.diff(scales) > 0).sum() >= 3


@pytest.mark.parametrize(
    ("library", "variable"),
    [
        (keras.optimizers, lambda c: keras.Variable([1.0, -2.0], name="x", dtype="float32")),
        (tf_keras.optimizers, lambda c: tf.Variable([1.0, -2.0], constraint=c)),
        (tf_keras.optimizers.legacy, lambda c: tf.Variable([1.0, -2.0], constraint=c)),
    ],
    ids=["keras", "tf_keras", "tf_keras legacy"],
)
def test_constraints_hold_after_every_step(library, variable):
    """And the trace shows what they leave."""

    def limit(x):
        return tf.clip_by_value(x, -1.5, 1.5)

    results = []
    for make in (lambda: library.SGD(learning_rate=0.25), lambda: OwnUpdate(library.SGD(learning_rate=0.25))):
        x = variable(limit)
        if isinstance(x, keras.Variable):
            x.constraint = limit
        trace = fusemin.minimize(
            lambda x=x: tf.reduce_sum((x - [4.0, -4.0]) ** 2),
            6,
            make(),
            trainable_variables=[x],
            trace_fn=lambda q, x=x: (q.parameters[0], x),
        )
        results.append(trace)
    fused, stock = results
    np.testing.assert_array_equal(fused[0], stock[0])
    np.testing.assert_array_equal(fused[1], stock[1])
    np.testing.assert_array_equal(fused[0][-1], [1.5, -1.5])


@pytest.mark.parametrize("library", [keras.optimizers, tf_keras.optimizers, tf_keras.optimizers.legacy])
def test_global_norms_of_several_dtypes_are_stocks_error(library):
    variables = [tf.Variable(1.0), tf.Variable(1.0, dtype=tf.float64)]
    optimizer = library.Adam(global_clipnorm=1.0)
    reason = fusemin.explain(optimizer, variables).rows[0].reason
    assert reason == "global_clipnorm is over variables of several dtypes"
    assert fusemin.explain(optimizer, variables[:1]).fused
    with pytest.raises(tf.errors.InvalidArgumentError):
        optimizer.apply_gradients([(tf.ones_like(v), v) for v in variables])


def test_dynamic_loss_scale_over_several_dtypes():
    """A gradient that is not finite in one of them keeps the other as it is."""
    states = []
    for use_op in (True, False):
        variables = [tf.Variable([1.0, 2.0]), tf.Variable(3.0, dtype=tf.float64), tf.Variable(4.0, dtype=tf.float16)]
        inner = keras.optimizers.SGD(0.125, momentum=0.5)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
        update = plan(optimizer, variables).bind()
        state = []
        for step in range(12):
            gradients = [tf.cast(tf.fill(v.shape, 2.0), v.dtype) for v in variables]
            if step % 4 == 2:
                gradients[step % 3] *= tf.cast(np.inf, gradients[step % 3].dtype)
            if use_op:
                fused_step(update, gradients, loss=tf.constant(0.0))
            else:
                optimizer.apply_gradients(zip(gradients, variables, strict=True))
            held = [*variables, *optimizer.variables]
            state.append(np.concatenate([np.ravel(np.asarray(v)).astype(np.float64) for v in held]))
        states.append(np.array(state))
    np.testing.assert_allclose(*states, rtol=1e-3)
