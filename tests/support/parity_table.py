"""The optimizers that are compared with stock, a row each, and the problem that they are compared on.

A new optimizer, or an option of one, is a new row of `ROWS`: every test of this folder that is about optimizers runs on
it. A rule that takes over a fallback row is a change of that row's `rule`. That the rules of all other optimizers and
options are those of stock is shown step by step, without `minimize`, in tests/optimizers.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.families import KERAS, LEGACY, OWN, TF_KERAS, V1, Family, legacy, named, v1

OTHER = Family(
    "other",
    None,
    held=lambda o, variables: named(o.variables),
    build=lambda o, variables: o.build(variables),
    schedules=None,
)


class AnyObject:
    """All that `minimize` asks of an optimizer: `apply_gradients`."""

    def __init__(self, learning_rate):
        self.learning_rate = tf.Variable(learning_rate, name="learning_rate")
        self.count = tf.Variable(0, name="count")
        self.variables = [self.count]

    def build(self, variables):
        """It has no slots."""

    def apply_gradients(self, grads_and_vars):
        for gradient, variable in grads_and_vars:
            variable.assign_sub(tf.cast(self.learning_rate, gradient.dtype) * tf.tanh(gradient))
        return self.count.assign_add(1)


class TwiceSGD(keras.optimizers.SGD):
    """A subclass that no rule knows: it takes every step twice."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        super().update_step(gradient, variable, learning_rate)


@dataclasses.dataclass(frozen=True)
class Row:
    """An optimizer.

    Attributes:
      family: its library.
      name: of the optimizer and its options.
      make: from a learning rate to a new instance.
      rule: the fused rule that must be in use, or None.
      reason: what `explain` must give as the reason of a fallback.
      learning_rate: one at which 200 steps on the problem below converge smoothly, without chatter in which rounding
        errors would grow.
    """

    family: Family
    name: str
    make: Callable
    rule: str | None
    reason: str = ""
    learning_rate: float = 0.02

    @property
    def id(self) -> str:
        return f"{self.family.name} {self.name}"

    def new(self, learning_rate=None):
        """A new instance."""
        return self.make(self.learning_rate if learning_rate is None else learning_rate)

    def state(self, optimizer, variables):
        """The values of all variables that the optimizer holds, by name."""
        held = {name: np.asarray(v) for name, v in self.family.held(optimizer, variables)}
        assert len(held) == len(self.family.held(optimizer, variables))
        return held

    def check_explained(self, optimizer, variables):
        """Asserts that the row's rule is what is in use: without this a fallback would agree with stock everywhere."""
        explanation = fusemin.explain(optimizer, variables)
        assert explanation.fused == (self.rule is not None), explanation
        for row in explanation.rows:
            assert row.rule == self.rule, explanation
            assert self.rule or re.search(self.reason, row.reason), explanation


ROWS = (
    Row(KERAS, "SGD", keras.optimizers.SGD, "sgd"),
    Row(KERAS, "SGD momentum", lambda lr: keras.optimizers.SGD(lr, momentum=0.9), "sgd_momentum", learning_rate=0.005),
    Row(
        KERAS,
        "SGD nesterov",
        lambda lr: keras.optimizers.SGD(lr, momentum=0.9, nesterov=True),
        "sgd_nesterov",
        learning_rate=0.005,
    ),
    Row(KERAS, "Adam", keras.optimizers.Adam, "adam"),
    Row(KERAS, "Adam amsgrad", lambda lr: keras.optimizers.Adam(lr, amsgrad=True), "amsgrad"),
    # tf_keras has a momentum slot, and writes it, even where the momentum is 0.
    Row(TF_KERAS, "SGD", tf_keras.optimizers.SGD, "sgd_momentum"),
    Row(
        TF_KERAS,
        "SGD momentum",
        lambda lr: tf_keras.optimizers.SGD(lr, momentum=0.9),
        "sgd_momentum",
        learning_rate=0.005,
    ),
    Row(
        TF_KERAS,
        "SGD nesterov",
        lambda lr: tf_keras.optimizers.SGD(lr, momentum=0.9, nesterov=True),
        "sgd_nesterov",
        learning_rate=0.005,
    ),
    Row(TF_KERAS, "Adam", tf_keras.optimizers.Adam, "adam"),
    Row(TF_KERAS, "Adam amsgrad", lambda lr: tf_keras.optimizers.Adam(lr, amsgrad=True), "amsgrad"),
    Row(LEGACY, "SGD", legacy.SGD, "sgd"),
    Row(LEGACY, "SGD momentum", lambda lr: legacy.SGD(lr, momentum=0.9), "sgd_momentum", learning_rate=0.005),
    Row(
        LEGACY,
        "SGD nesterov",
        lambda lr: legacy.SGD(lr, momentum=0.9, nesterov=True),
        "sgd_nesterov",
        learning_rate=0.005,
    ),
    Row(LEGACY, "Adam", legacy.Adam, "adam"),
    Row(LEGACY, "Adam amsgrad", lambda lr: legacy.Adam(lr, amsgrad=True), "amsgrad_kernel"),
    Row(V1, "GradientDescent", v1.GradientDescentOptimizer, "sgd"),
    Row(V1, "Momentum", lambda lr: v1.MomentumOptimizer(lr, 0.9), "momentum", learning_rate=0.005),
    Row(
        V1,
        "Momentum nesterov",
        lambda lr: v1.MomentumOptimizer(lr, 0.9, use_nesterov=True),
        "momentum_nesterov",
        learning_rate=0.005,
    ),
    Row(V1, "Adam", v1.AdamOptimizer, "adam_powers"),
    Row(KERAS, "RMSprop", keras.optimizers.RMSprop, "rmsprop", learning_rate=0.003),
    Row(KERAS, "SGD clipnorm", lambda lr: keras.optimizers.SGD(lr, clipnorm=2.0), "sgd", learning_rate=0.01),
    Row(OWN, "Adan", fusemin.optimizers.Adan, "adan", learning_rate=0.005),
    Row(OWN, "ScheduleFreeAdamW", fusemin.optimizers.ScheduleFreeAdamW, "schedule_free_adamw"),
    # The default of d0 is 1e-6: of x - x0 float64 would know ten digits at first.
    Row(OWN, "Prodigy", lambda lr: fusemin.optimizers.Prodigy(lr, d0=0.5), "prodigy", learning_rate=0.02),
    Row(TF_KERAS, "Adafactor", tf_keras.optimizers.Adafactor, None, "tf_keras Adafactor has no fused rule"),
    Row(KERAS, "SGD subclass", TwiceSGD, None, "TwiceSGD.update_step overrides"),
    Row(OTHER, "any object", AnyObject, None, "AnyObject is of no known optimizer family"),
)

FUSED_ROWS = tuple(row for row in ROWS if row.rule)


def row_id(row):
    """For `pytest.mark.parametrize(..., ids=row_id)`."""
    return row.id.replace(" ", "-")


# Of a comparison with TFP.
NUM_STEPS = 200

# Multiples of 1/64: numbers of every floating dtype.
_rng = np.random.default_rng(0)
_START = [_rng.integers(-64, 64, shape) / 64 for shape in ((), (3,), (4, 5))]
_MIX = _rng.integers(-64, 64, (5, 3)) / 64
_TARGET = np.array([0.75, -0.5, 1.25, -1.0])


def new_variables(dtype):
    """The problem's variables, of three shapes, always from the same point. `dtype` may be a list of three."""
    dtypes = dtype if isinstance(dtype, list) else [dtype] * 3
    names = ("scalar", "vector", "matrix")
    return [tf.Variable(s, dtype=d, name=n) for s, d, n in zip(_START, dtypes, names, strict=True)]


def coupled_loss(variables, dtype=None):
    """A smooth loss in which each variable's gradient depends on the others and stays away from 0 for 200 steps.

    Args:
      variables: those of `new_variables`.
      dtype: to compute in, if not that of the variables.
    """
    scalar, vector, matrix = (tf.cast(v, dtype or v.dtype) for v in variables)
    mixed = tf.linalg.matvec(tf.constant(_MIX, scalar.dtype), vector)
    residual = tf.exp(0.5 * scalar) * tf.tanh(tf.linalg.matvec(matrix, mixed)) - tf.constant(_TARGET, scalar.dtype)
    shrinkage = tf.reduce_sum(matrix**2) + tf.reduce_sum(tf.cosh(vector - 1.0)) + tf.cosh(scalar)
    return tf.reduce_sum(residual**2) + 0.1 * shrinkage


class Steps(NamedTuple):
    """Some steps, each array with a row for each step.

    Attributes:
      loss: before the step.
      gradients: an array for each variable.
      parameters: after the step, an array for each variable.
    """

    loss: np.ndarray
    gradients: list[np.ndarray]
    parameters: list[np.ndarray]


def take_stock_steps(optimizer, variables, num_steps, trainable=None, dtype=None) -> Steps:
    """The independent reference: a hand-written loop of `optimizer.apply_gradients`, nothing of TFP or fusemin.

    Args:
      optimizer: any.
      variables: those of `new_variables`.
      num_steps: at least 1.
      trainable: those of them to update; None for all.
      dtype: see `coupled_loss`.
    """
    trainable = variables if trainable is None else trainable

    def step():
        with tf.GradientTape() as tape:
            loss = coupled_loss(variables, dtype)
        gradients = tape.gradient(loss, trainable)
        optimizer.apply_gradients(list(zip(gradients, trainable, strict=True)))
        return loss, gradients

    if num_steps > 50:  # Tracing costs as much as some dozens of eager steps.
        step = tf.function(step, autograph=False)
    rows = []
    for _ in range(num_steps):
        loss, gradients = step()
        rows.append((loss.numpy(), [g.numpy() for g in gradients], [v.numpy() for v in trainable]))
    losses, gradients, parameters = zip(*rows, strict=True)
    stack = lambda lists: [np.stack(arrays) for arrays in zip(*lists, strict=True)]  # noqa: E731
    return Steps(np.stack(losses), stack(gradients), stack(parameters))


@functools.cache
def float64_stock_steps(row) -> Steps:
    """The reference for all that takes 200 steps of a row's optimizer on the problem."""
    return take_stock_steps(row.new(), new_variables(tf.float64), NUM_STEPS)


def largest_difference(arrays, references) -> float:
    """The largest difference between two lists of arrays, relative in the maximum norm; NaN if either has one.

    Integers must be equal: any difference counts as infinite.
    """
    largest = 0.0
    for array, reference in zip(arrays, references, strict=True):
        array, reference = np.asarray(array), np.asarray(reference)
        assert array.shape == reference.shape
        assert array.dtype == reference.dtype
        if array.dtype.kind in "iub":
            difference = 0.0 if np.array_equal(array, reference) else np.inf
        else:
            difference = np.max(np.abs(np.float64(array) - np.float64(reference)), initial=0.0)
            scale = np.max(np.abs(np.float64(reference)), initial=0.0)
            difference = difference / scale if scale else difference
        largest = np.maximum(largest, difference)  # Keeps a NaN.
    return largest


def largest_difference_of_steps(array, reference) -> float:
    """`largest_difference` of each step by itself: a large value at the first step must not hide an error at the last.

    Args:
      array, reference: arrays of a row for each step, or lists of such: then a step has one norm over all of the list.
    """

    def rows(arrays):
        arrays = arrays if isinstance(arrays, list) else [arrays]
        return np.concatenate([np.asarray(a).reshape(len(a), -1) for a in arrays], axis=1)

    # Not `max`, which may drop a NaN.
    return np.max([largest_difference([a], [r]) for a, r in zip(rows(array), rows(reference), strict=True)])
