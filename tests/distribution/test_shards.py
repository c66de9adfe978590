"""`fuse(..., shard_slots=True)` on two logical CPUs, against the fused step with slots on both."""

import contextlib
import copy
import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from benchmarks.two_replicas import mirrored
from fusemin.update import replicas
from fusemin.update.shards import balanced
from tests.distribution.two_replicas import Regression
from tests.support.fused_runs import debug_log

SHARD = functools.partial(fusemin.fuse, shard_slots=True)
NUM_STEPS = 4


def _adam(**options):
    return keras.optimizers.Adam(0.05, **options)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05),
    "SGD, momentum": lambda: keras.optimizers.SGD(0.05, 0.9),
    "Adam": _adam,
    "AMSGrad": lambda: _adam(amsgrad=True),
    "Nadam": lambda: keras.optimizers.Nadam(0.05),
    "Lamb": lambda: keras.optimizers.Lamb(0.05),
    "Lion": lambda: keras.optimizers.Lion(0.05),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "Adan": lambda: fusemin.optimizers.Adan(0.05),
    "ScheduleFreeAdamW": lambda: fusemin.optimizers.ScheduleFreeAdamW(0.05),
    "clipnorm": lambda: _adam(clipnorm=0.5),
    "global_clipnorm": lambda: _adam(global_clipnorm=0.5),
    "weight_decay": lambda: _adam(weight_decay=0.1),
    "EMA": lambda: _adam(use_ema=True, ema_momentum=0.9),
    "EMA overwrite": lambda: _adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3),
    "accumulation": lambda: _adam(gradient_accumulation_steps=2),
    "accumulation and clipnorm": lambda: _adam(gradient_accumulation_steps=2, clipnorm=0.5),
    "loss_scale_factor": lambda: _adam(loss_scale_factor=4.0),
    "LossScaleOptimizer": lambda: keras.optimizers.LossScaleOptimizer(_adam(), dynamic_growth_steps=3),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
}


def _held(optimizer) -> list[tf.Variable]:
    return [v if isinstance(v, tf.Variable) else v.value for v in optimizer.variables]


@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_results_are_those_without(name, lookup):
    if lookup and name == "loss_scale_factor":
        return  # Which Keras refuses.
    whole = Regression(mirrored(), OPTIMIZERS[name], fusemin.fuse, lookup).take(NUM_STEPS)
    parts = Regression(mirrored(), OPTIMIZERS[name], SHARD, lookup).take(NUM_STEPS)
    # The order in which slices of one row are added up is free.
    limit = 2e-6 if lookup else 0.0
    for of_whole, of_parts in zip(whole.copies(), parts.copies(), strict=True):
        for a, b in zip(of_whole, of_parts, strict=True):
            np.testing.assert_allclose(b, a, rtol=limit, atol=limit)


def test_each_slot_is_on_one_device_and_counts_are_on_all():
    fit = Regression(mirrored(), lambda: _adam(use_ema=True, gradient_accumulation_steps=2), SHARD).take(2)
    held = [(v.name.split("/")[-1], mirrored().experimental_local_results(v)) for v in _held(fit.optimizer)]
    assert len(held) == 2 + 4 * 2
    assert [name for name, copies in held if len(copies) == 2] == ["iteration:0", "learning_rate:0"]
    devices = {copies[0].device.rsplit("/", 1)[-1] for _, copies in held if len(copies) == 1}
    assert devices == {"device:CPU:0", "device:CPU:1"}
    # Those of one variable are together.
    optimizer = fit.optimizer
    kinds = (optimizer._momentums, optimizer._velocities, optimizer._accumulated_gradients)
    for slots in zip(*kinds, optimizer._model_variables_moving_average, strict=True):
        assert len({slot.value.device for slot in slots}) == 1


@pytest.mark.parametrize("built", [False, True])
def test_explain_says_who_holds_how_much(built):
    with mirrored().scope():
        variables = [tf.Variable(tf.ones([n]), name=f"x{n}") for n in (1000, 600, 500)]
        optimizer = SHARD(_adam(use_ema=True, gradient_accumulation_steps=2))
        if built:
            optimizer.build(variables)
        explained = fusemin.explain(optimizer, variables)
    assert explained.replication.sharded
    # Two slots, a moving average and an accumulator each.
    assert explained.replication.slot_bytes == (4 * 4 * 1000, 4 * 4 * 1100)
    text = " ".join(str(explained).split())
    assert "updates its part of the variables, and sends them to the others. They hold slots of 16 kB, 17.6 kB." in text
    if built:
        held = {}
        for copies in map(mirrored().experimental_local_results, _held(optimizer)):
            if len(copies) == 1:
                held.setdefault(copies[0].device, []).append(copies[0].shape.num_elements() * 4)
        assert tuple(sum(held[device]) for device in sorted(held)) == explained.replication.slot_bytes


def test_more_replicas_than_variables():
    with mirrored().scope():
        x = keras.Variable(np.ones(3, np.float32))
        inner = keras.optimizers.Adam(0.1)
        optimizer = SHARD(keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2))
        optimizer.build([x])
    step = tf.function(lambda: mirrored().run(lambda: optimizer.apply([4.0 * tf.ones(3)], [x])))
    for _ in range(2):
        step()
    for variable, value in ((x.value, 0.8), (inner.iterations.value, 2), (optimizer.dynamic_scale.value, 8.0)):
        for of_replica in mirrored().experimental_local_results(variable):
            np.testing.assert_allclose(of_replica.numpy(), np.full(variable.shape, value), 1e-5)


def test_minimize():
    """Whose steps are then calls of `apply_gradients`."""
    found = []
    for prepare in (fusemin.fuse, SHARD):
        with mirrored().scope():
            x, y = tf.Variable([1.0, 2.0]), tf.Variable([3.0])
            losses = fusemin.minimize(
                lambda x=x, y=y: tf.reduce_sum(x**2) + tf.reduce_sum(y**4),
                5,
                prepare(_adam()),
                trainable_variables=[x, y],
            )
        found.append([losses.numpy(), x.numpy(), y.numpy()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, 1e-6)


def _model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])


def _fit(model, epochs=2):
    rng = np.random.default_rng(0)
    model.fit(rng.standard_normal((16, 5)), rng.standard_normal((16, 1)), batch_size=8, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("how", ["weights", "checkpoint", "keras"])
def test_what_is_saved_is_whole_and_goes_on_with_stock_on_one_device(how, tmp_path):
    with mirrored().scope():
        model = _model()
        model.compile(SHARD(_adam()), "mse")
    _fit(model)
    if how == "keras":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        loaded = _model()
        loaded.compile(_adam(), "mse")
        loaded.optimizer.build(loaded.trainable_variables)
        if how == "weights":
            model.save_weights(tmp_path / "saved.weights.h5")
            loaded.load_weights(tmp_path / "saved.weights.h5")
        else:
            path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "saved"))
            restored = tf.train.Checkpoint(model=loaded, optimizer=loaded.optimizer).restore(path)
            restored.assert_existing_objects_matched()
    for a, b in zip(_held(model.optimizer), _held(loaded.optimizer), strict=True):
        np.testing.assert_array_equal(b.numpy(), a.numpy())
    for a, b in zip(_fit(model).get_weights(), _fit(loaded).get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_stock_is_taken(tmp_path):
    alone = _model()
    alone.compile(_adam(), "mse")
    path = tf.train.Checkpoint(model=_fit(alone), optimizer=alone.optimizer).save(str(tmp_path / "saved"))
    with mirrored().scope():
        model = _model()
        model.compile(SHARD(_adam()), "mse")
        model.optimizer.build(model.trainable_variables)
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(path).assert_existing_objects_matched()
    for a, b in zip(_held(alone.optimizer), _held(model.optimizer), strict=True):
        np.testing.assert_array_equal(b.numpy(), a.numpy())


def test_what_is_not_possible():
    with pytest.raises(ValueError, match=r"outside of the scope of a tf.distribute.MirroredStrategy"):
        SHARD(_adam())
    with mirrored().scope():
        x = tf.Variable([1.0, 2.0])
        built = _adam()
        built.build([x])
        for optimizer, words in (
            (built, "Adam is built"),
            (fusemin.fuse(_adam()), "Adam is fused already"),
            (keras.optimizers.Adafactor(), "has no fused rule"),
            (tf_keras.optimizers.Adam(), "is not of `keras.optimizers`"),
        ):
            with pytest.raises(ValueError, match=words):
                SHARD(optimizer)
        optimizer = SHARD(_adam())
        assert SHARD(optimizer) is optimizer
    with pytest.raises(ValueError, match="built outside of the scope of the strategy"):
        optimizer.build([x])
    with mirrored().scope():
        optimizer.build([x])
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(optimizer)


REFUSED = {
    "inside of fusemin.stock()": _adam,
    "not inside of `strategy.run`": _adam,
    "rule 'prodigy' has sums over all variables": lambda: fusemin.optimizers.Prodigy(1.0),
    "global_clipnorm is of gradients that were accumulated": lambda: _adam(
        gradient_accumulation_steps=2, global_clipnorm=1.0
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_where_the_op_cannot_be_it_is_an_error_and_nothing_is_written(reason):
    with mirrored().scope():
        x = tf.Variable([1.0, 2.0])
        optimizer = SHARD(REFUSED[reason]())
        optimizer.build([x])

    def step():
        optimizer.apply_gradients([(tf.constant([1.0, 1.0]), x)])

    is_inside = "strategy.run" not in reason
    around = fusemin.stock() if "stock" in reason else contextlib.nullcontext() if is_inside else mirrored().scope()
    with pytest.raises(ValueError, match=f"has its slots in parts.*{re.escape(reason)}"), around:
        (mirrored().run if is_inside else lambda step: step())(step)
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])


def test_a_loss_scale_on_gpus_is_left_to_keras(monkeypatch):
    """Their kernels take no sums over the gradients of others; the step inside is fused still."""
    monkeypatch.setattr(replicas, "is_on_gpu", lambda variable: True)
    found = []
    for prepare in (lambda o: o, SHARD):
        with mirrored().scope():
            x = tf.Variable([1.0, 2.0])
            optimizer = prepare(keras.optimizers.LossScaleOptimizer(_adam()))
            optimizer.build([x])
        with debug_log() as log:
            for _ in range(2):
                mirrored().run(lambda optimizer=optimizer, x=x: optimizer.apply([1e3 * x], [x]))
        found.append([v.numpy() for v in mirrored().experimental_local_results(x)])
    np.testing.assert_array_equal(found[1], found[0])
    assert log.reasons == ["dynamic_growth_steps is over gradients on several GPUs"]
    assert log.fused


def test_owners_are_balanced():
    assert balanced([1, 5, 3, 3], 2) == [1, 0, 1, 1] or balanced([1, 5, 3, 3], 2) == [0, 0, 1, 1]
    sizes = np.random.default_rng(0).integers(1, 1000, 50).tolist()
    for number in (1, 2, 7):
        owners = balanced(sizes, number)
        sums = [sum(s for s, o in zip(sizes, owners, strict=True) if o == i) for i in range(number)]
        assert max(sums) - min(sums) < max(sizes)
    assert balanced([1], 3) == [0]
