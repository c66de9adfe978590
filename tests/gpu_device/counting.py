"""What a step makes the driver do, on the stand-in: the difference of a longer and a shorter run."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import fusemin
from tests.gpu_device.stand_in import Counts, counted

FEWER, MORE = 20, 60


def a_step(run: Callable[[int], object]) -> Counts:
    """Of a function of the number of steps, which is called twice with each number: the first time it may trace and
    compile."""
    found = []
    for num_steps in (FEWER, MORE):
        run(num_steps)
        with counted() as counts:
            run(num_steps)
        found += counts
    return found[1].a_step(found[0], MORE - FEWER)


def variables_on(devices, shape=(100,)):
    """A variable for each of these devices."""
    variables = []
    for i, device in enumerate(devices):
        with tf.device(device):
            variables.append(tf.Variable(np.ones(shape, np.float32), name=f"x{i}"))
    return variables


def quadratic(variables):
    return lambda: tf.add_n([tf.reduce_sum((x - 3.0) ** 2) for x in variables])


def built(optimizer, variables):
    """An optimizer that has its slots, beside the first variable if it has no other place for them."""
    with tf.device(variables[0].device):
        optimizer.build(variables)
    return optimizer


def minimizer(variables, make=lambda: keras.optimizers.Adam(0.1), **arguments) -> fusemin.Minimizer:
    with tf.device(variables[0].device):
        optimizer = built(make(), variables)
    return fusemin.Minimizer(quadratic(variables), optimizer, trainable_variables=variables, **arguments)


def of_fusemin(num_variables, jit_compile) -> Counts:
    """A step of `Minimizer` with Adam of Keras, the loss traced."""
    with tf.device("GPU:0"):
        variables = variables_on(["GPU:0"] * num_variables)
        return a_step(minimizer(variables, jit_compile=jit_compile))


def of_stock(num_variables, jit_compile) -> Counts:
    """The same by `tfp.math.minimize`."""
    with tf.device("GPU:0"):
        variables = variables_on(["GPU:0"] * num_variables)
        optimizer, loss = built(keras.optimizers.Adam(0.1), variables), quadratic(variables)

        def run(num_steps):
            tfp.math.minimize(loss, num_steps, optimizer, trainable_variables=variables)

        functions = {
            num_steps: tf.function(
                lambda num_steps=num_steps: tfp.math.minimize(
                    loss, num_steps, optimizer, trainable_variables=variables
                ),
                autograph=False,
                jit_compile=jit_compile or None,
            )
            for num_steps in (FEWER, MORE)
        }
        return a_step(lambda num_steps: functions[num_steps]())
