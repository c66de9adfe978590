"""The op on variables of 1 and of 10^8 elements."""

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf

from fusemin.update.fused_step import fused_step
from fusemin.update.plan import plan


@pytest.mark.parametrize("size", [1, 10**8])
def test_a_variable_of_1_and_of_100_million_elements(size):
    needed, free = 3 * 2 * size, psutil.virtual_memory().available
    if free < needed:
        pytest.skip(f"needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free")
    x = tf.Variable(tf.ones([size], tf.bfloat16))
    update = plan(keras.optimizers.SGD(0.5), [x]).bind()
    fused_step(update, [tf.fill([size], tf.constant(0.5, tf.bfloat16))], loss=tf.constant(0.0))
    np.testing.assert_array_equal(tf.gather(x, [0, size // 3, size - 1]).numpy().astype(np.float32), 0.75)
    assert float(tf.reduce_max(x)) == float(tf.reduce_min(x)) == 0.75
