"""What of the rules' own limits sends an optimizer to stock."""

import keras
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.ops import resource_variable_ops

from fusemin.update.plan import Context, plan


def _variables(n):
    return [tf.Variable(1.0, name=f"v{i}") for i in range(n)]


def test_nadam_of_tf_keras_with_several_variables():
    """In a graph stock multiplies its momentum product once for each of them."""
    optimizer = tf_keras.optimizers.Nadam()
    assert plan(optimizer, _variables(1)).reason is None
    assert "once for each variable" in plan(optimizer, _variables(2)).reason


def test_nadam_of_tf_keras_still_is_as_the_fallback_says():
    """Fails when a version of tf_keras advances the product once a step: then it can be fused."""
    optimizer, variables = tf_keras.optimizers.Nadam(beta_1=0.5), _variables(3)
    step = tf.function(lambda: optimizer.apply_gradients([(tf.ones([]), v) for v in variables]), autograph=False)
    factor = 1.0
    for i in range(1, 7):
        step()
        factor *= 0.5 * (1 - 0.5 * 0.96**i)
    assert optimizer._u_product.numpy() < 0.01 * factor


@pytest.mark.parametrize("make", [keras.optimizers.Nadam, tf_keras.optimizers.legacy.Nadam])
def test_nadam_of_several_dtypes(make):
    """Stock rounds the momentum product to one of them, before or after the variables of another use it."""
    variables = [tf.Variable(1.0), tf.Variable(1.0, dtype=tf.float64)]
    assert "one dtype" in plan(make(), variables).reason


@pytest.mark.parametrize("module", [keras.optimizers, tf_keras.optimizers], ids=["keras", "tf_keras"])
def test_a_subclass_that_overrides_the_update(module):
    class Mine(module.Nadam):
        def update_step(self, *args, **kwargs):
            super().update_step(*args, **kwargs)

    assert "Mine.update_step overrides" in plan(Mine(), _variables(1)).reason


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adafactor(),
        lambda: keras.optimizers.Muon(),
        lambda: tf_keras.optimizers.Adafactor(),
        lambda: tf.compat.v1.train.ProximalAdagradOptimizer(0.1),
        lambda: tf.compat.v1.train.AdagradDAOptimizer(0.1, tf.Variable(0, dtype=tf.int64)),
    ],
)
def test_optimizers_without_a_rule(make):
    optimizer = make()
    assert plan(optimizer, _variables(1)).reason.endswith(f"{type(optimizer).__name__} has no fused rule")


def test_a_gpu_without_cuda_kernels():
    """A build with FUSEMIN_CUDA=OFF; the variables only say that they are on a GPU."""

    class OnGpu(resource_variable_ops.ResourceVariable):
        device = "/job:localhost/replica:0/task:0/device:GPU:0"

    on_gpu, on_cpu = OnGpu(1.0, name="v"), _variables(1)
    optimizer, without = keras.optimizers.Adam(), Context(cuda_kernels=False)
    assert plan(optimizer, [on_gpu], context=Context(cuda_kernels=True)).reason is None
    assert plan(optimizer, on_cpu, context=without).reason is None
    reason = plan(optimizer, [*on_cpu, on_gpu], context=without).reason
    assert reason == "variable 'v:0' is on a GPU, and this build of fusemin has no CUDA kernels"
