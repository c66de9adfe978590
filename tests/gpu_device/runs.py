"""The same optimizer on the CPU and on a stand-in GPU, from the same state."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fusemin.update.plan import plan


def variables_of(update) -> list[tf.Variable]:
    """All variables of a bound optimizer that a step reads or writes."""
    options = update.options
    found = [
        *update.variables,
        *(slot for slots in update.slots for slot in slots),
        *update.scalars,
        *options.averages,
        *options.accumulators,
        *options.loss_scale,
        *(value for value in update.hyperparameters.values() if isinstance(value, tf.Variable)),
    ]
    return found if update.iterations is None else [*found, update.iterations]


def bound(make, arrays, device):
    """An optimizer on a device, and it bound to variables with these values."""
    with tf.device(device):
        variables = [tf.Variable(array, name=f"v{i}") for i, array in enumerate(arrays)]
        optimizer = make()
        planned = plan(optimizer, variables)
        assert planned.reason is None, planned.reason
        return optimizer, planned.bind()


def copy_state(source, target) -> None:
    """Gives one bound optimizer the state of another: what TensorFlow's kernels, which are not run, would have made."""
    for theirs, own in zip(variables_of(source), variables_of(target), strict=True):
        assert own.shape == theirs.shape
        own.assign(theirs.numpy())


def state(update) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables_of(update)]


def on_cpu(function):
    """A function of tensors whose value and gradient are computed on the CPU, wherever the tensors are."""

    @tf.custom_gradient
    def value_on_cpu(*tensors):
        with tf.device("CPU:0"):
            here = [tf.identity(t) for t in tensors]
            with tf.GradientTape() as tape:
                tape.watch(here)
                value = function(*here)
            gradients = tape.gradient(value, here)

        def backward(upstream):
            return gradients if len(gradients) > 1 else gradients[0]

        return value, backward

    return value_on_cpu
