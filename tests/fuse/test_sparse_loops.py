"""Fused optimizers with sparse gradients, as of embeddings: what stock does with them, and no dense gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from tests.support.families import FAMILIES, each_family, legacy, v1
from tests.support.fused_runs import Lookup, assert_close, assert_same, debug_log, variables_of

each_mode = pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "function"])


@each_family
@each_mode
@pytest.mark.parametrize("index_dtype", [tf.int32, tf.int64], ids=["int32", "int64"])
def test_same_as_stock(family, in_graph, index_dtype):
    """Two dtypes, and slices beside a dense gradient."""
    for make in (family.adam, family.momentum):
        stock = Lookup(make(0.05), in_graph, index_dtype).take(6)
        with debug_log() as log:
            fused = Lookup(fusemin.fuse(make(0.05)), in_graph, index_dtype).take(6)
        assert log.fused
        assert not log.reasons
        assert_close(fused.values(), stock.values())


def test_a_gradient_is_sparse_at_one_step_and_dense_at_the_next():
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        x = tf.Variable(tf.ones([4, 2]))
        optimizer = prepare(keras.optimizers.Adam(0.1))
        slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2]), tf.constant([4, 2], tf.int64))
        with debug_log() as log:
            for gradient in (slices, 2.0 * x, slices, 2.0 * x):
                optimizer.apply_gradients([(gradient, x)])
        assert not log.reasons
        runs.append([x, *variables_of(optimizer)])
    assert_close(runs[1], runs[0])


@each_family
@each_mode
@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3)], ids=str)
@pytest.mark.parametrize("indices", [[], [4, 4, 0, 4]], ids=str)
def test_slices_of_any_rank_and_number_without_a_dense_shape(family, in_graph, shape, indices):
    """Without `dense_shape` some of stock fails, so the gradient of stock has one here."""
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        x = tf.Variable(tf.ones(shape))
        optimizer = prepare(family.adam(0.1))
        values = tf.reshape(
            tf.range(len(indices) * np.prod(shape[1:], dtype=int), dtype=tf.float32), [len(indices), *shape[1:]]
        )
        dense_shape = tf.constant(shape, tf.int64) if prepare is not fusemin.fuse else None
        slices = tf.IndexedSlices(values, tf.constant(indices, tf.int64), dense_shape)

        def step(optimizer=optimizer, slices=slices, x=x):
            optimizer.apply_gradients([(slices, x)])

        step = tf.function(step) if in_graph else step
        with debug_log() as log:
            step()
            step()
        assert not log.reasons
        runs.append([x, *variables_of(optimizer)])
    assert_close(runs[1], runs[0])


@each_family
@each_mode
@pytest.mark.parametrize("index", [-1, 8])
def test_an_index_out_of_range_names_the_variable_and_writes_nothing(family, in_graph, index):
    loop = Lookup(fusemin.fuse(family.adam(0.1)), in_graph).take(2)
    before = loop.values()
    wrong = tf.IndexedSlices(tf.ones([2, 3]), tf.constant([0, index]), tf.constant([8, 3], tf.int64))
    rest = list(zip(loop.gradients(), loop.variables, strict=True))[1:]

    def step():
        loop.optimizer.apply_gradients([(wrong, loop.table), *rest])

    message = rf"sparse gradient of variable 'table.*' has index {index} at position 1, the variable has 8 rows"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        (tf.function(step) if in_graph else step)()
    assert_same(loop.values(), before)


@pytest.mark.parametrize("make", [legacy.Adam, v1.AdamOptimizer], ids=["legacy", "v1"])
def test_a_constraint_is_stocks_error(make):
    x = tf.Variable(tf.ones([4, 2]), constraint=tf.nn.relu)
    slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2]), tf.constant([4, 2], tf.int64))
    with pytest.raises(RuntimeError, match="constraint function on a sparse"), debug_log() as log:
        fusemin.fuse(make(0.1)).apply_gradients([(slices, x)])
    assert "a constraint of 'Variable:0', which stock refuses with a sparse gradient" in log.reasons[0]


def test_a_loss_scale_factor_is_stocks_error():
    x = tf.Variable(tf.ones([4, 2]))
    slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2]), tf.constant([4, 2], tf.int64))
    optimizer = fusemin.fuse(keras.optimizers.Adam(0.1, loss_scale_factor=2.0))
    with pytest.raises(TypeError), debug_log() as log:
        optimizer.apply_gradients([(slices, x)])
    assert "uses loss_scale_factor, which stock refuses" in log.reasons[0]


@each_mode
def test_a_dynamic_loss_scale_looks_at_every_slice(in_graph):
    """Over two dtypes. Steps 2 and 5 have a slice that is not finite, in one of them."""
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        inner = keras.optimizers.Adam(0.1, clipnorm=1.0)
        optimizer = prepare(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3))
        loop = Lookup(optimizer)
        bad = tf.Variable(1.0)

        def step(loop=loop, bad=bad):
            table, vector, dense = loop.gradients()
            table = tf.IndexedSlices(table.values * bad, table.indices, table.dense_shape)
            loop.optimizer.apply_gradients(list(zip([table, vector, dense], loop.variables, strict=True)))

        step = tf.function(step) if in_graph else step
        states = []
        with debug_log() as log:
            for i in range(9):
                bad.assign(np.inf if i in (2, 5) else 1.0)
                step()
                states += loop.values()
        assert not log.reasons
        runs.append(states)
    assert_close(runs[1], runs[0])


@pytest.mark.parametrize("bad", [0, 1, 4])
def test_a_skipped_step_adds_nothing_to_the_accumulators(bad):
    """Also where it would only have added."""
    runs = []
    for prepare in (lambda o: o, fusemin.fuse):
        inner = keras.optimizers.Adam(0.1, gradient_accumulation_steps=3)
        optimizer = prepare(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0))
        x = tf.Variable([1.0, -2.0])
        for i in range(7):
            optimizer.apply_gradients([(x / (0.0 if i == bad else 1.0), x)])
        runs.append([x, *variables_of(optimizer)])
    assert_close(runs[1], runs[0])


@pytest.mark.parametrize("family", FAMILIES[2:], ids=lambda family: family.name)
def test_a_subclass_with_a_sparse_update_of_its_own(family):
    class Lazy(legacy.Adam if family.name == "tf_keras legacy" else v1.AdamOptimizer):
        def _resource_apply_sparse(self, grad, var, indices, **kwargs):
            return var.scatter_sub(tf.IndexedSlices(grad, indices))

    loop = Lookup(fusemin.fuse(Lazy(0.1)))
    assert "_resource_apply_sparse overrides" in fusemin.explain(loop.optimizer, loop.variables).rows[0].reason
