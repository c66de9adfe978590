"""The families of optimizers, as far as tests need to know them."""

import dataclasses
import re
from collections.abc import Callable
from types import ModuleType

import keras
import pytest
import tensorflow as tf
import tf_keras

import fusemin

v1 = tf.compat.v1.train
legacy = tf_keras.optimizers.legacy


@dataclasses.dataclass(frozen=True)
class Family:
    """What the optimizers of a library have in common.

    Attributes:
      name: for test ids and the summary.
      optimizers: where its classes are.
      held: from an optimizer and the variables that it updates, `(name, variable)` of all variables that it holds:
        slots, powers, the count of steps.
      build: has an optimizer create them before its first step.
      schedules: where its schedules are; None if it has none that counts steps.
    """

    name: str
    optimizers: ModuleType
    held: Callable
    build: Callable
    schedules: ModuleType | None

    def adam(self, learning_rate):
        return (getattr(self.optimizers, "Adam", None) or self.optimizers.AdamOptimizer)(learning_rate)

    def momentum(self, learning_rate):
        """Of Nesterov where the family has it without another rule."""
        if self.optimizers is v1:
            return v1.MomentumOptimizer(learning_rate, 0.9)
        return self.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)

    def schedule(self, initial=0.1, num_steps=2):
        """A learning rate that halves every `num_steps` steps, made of the library's own parts."""
        return self.schedules.ExponentialDecay(initial, num_steps, 0.5)


def named(held):
    """`(name, variable)` of an optimizer's variables.

    A name is without the number that Keras gives to optimizers that have no name of their own: "adam_3/iteration".
    """
    return [(re.sub(r"^([a-z_]+)_\d+/", r"\1/", getattr(v, "path", None) or v.name), v) for v in held]


def _named_of_v1(optimizer, variables):
    """The same. TensorFlow 1 numbers the names of slots through a whole program, and sorts by them."""
    slots = [
        (f"{name} of {v.name}", optimizer.get_slot(v, name)) for name in optimizer.get_slot_names() for v in variables
    ]
    return named(sorted(optimizer._non_slot_variables(), key=lambda v: v.name)) + slots


def _under_own_name(build):
    """As in the first call of `apply_gradients`, so that the slots have the same names."""

    def under_own_name(optimizer, variables):
        with tf.name_scope(getattr(optimizer, "name", None) or optimizer._name):
            build(optimizer, variables)

    return under_own_name


KERAS = Family(
    "keras",
    keras.optimizers,
    held=lambda o, variables: named(o.variables),
    build=lambda o, variables: o.build(variables),
    schedules=keras.optimizers.schedules,
)
TF_KERAS = Family(
    "tf_keras",
    tf_keras.optimizers,
    held=lambda o, variables: named(o.variables),
    build=_under_own_name(lambda o, variables: o.build(variables)),
    schedules=tf_keras.optimizers.schedules,
)
LEGACY = Family(
    "tf_keras legacy",
    legacy,
    held=lambda o, variables: named(o.variables()),
    build=_under_own_name(lambda o, variables: o._create_all_weights(variables)),
    schedules=tf_keras.optimizers.schedules,
)
V1 = Family(
    "tf.compat.v1.train",
    v1,
    held=_named_of_v1,
    build=lambda o, variables: o._create_slots(variables),
    schedules=None,
)

# Ours. Tests of what libraries differ in have no row of it: it is Keras 3 in all but its optimizers.
OWN = Family(
    "fusemin.optimizers",
    fusemin.optimizers,
    held=lambda o, variables: named(o.variables),
    build=lambda o, variables: o.build(variables),
    schedules=keras.optimizers.schedules,
)

FAMILIES = (KERAS, TF_KERAS, LEGACY, V1)
FAMILY = {family.name: family for family in (*FAMILIES, OWN)}
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
