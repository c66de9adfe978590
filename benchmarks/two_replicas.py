"""Two replicas on one machine's CPU, of the benchmarks and of the tests."""

from __future__ import annotations

import functools

DEVICES = ["CPU:0", "CPU:1"]


@functools.cache
def mirrored():
    """A MirroredStrategy over two logical CPUs, which must be made before TensorFlow makes its own devices.

    One for the process: eager steps of a second one get the numbers that TensorFlow gave to sums of the first.
    """
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * len(DEVICES))
    return tf.distribute.MirroredStrategy(DEVICES)
