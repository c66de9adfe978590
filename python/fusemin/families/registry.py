"""Which families there are, and which of them an object is of."""

import tensorflow as tf

from fusemin import _compat
from fusemin.families.compat_v1 import CompatV1
from fusemin.families.family import Family, wrapped_optimizers
from fusemin.families.keras3 import Keras3
from fusemin.families.own import Own
from fusemin.families.tf_keras import TfKeras
from fusemin.families.tf_keras_legacy import TfKerasLegacy

# The one place that names them. The legacy modules lie inside those of tf_keras, so they come first, and so do our own
# optimizers, which are Keras' too.
_FAMILIES: tuple[Family, ...] = (Own(), Keras3(), TfKerasLegacy(), TfKeras(), CompatV1())


def families() -> tuple[Family, ...]:
    """All families, each with its adapters."""
    return _FAMILIES


def find_family(optimizer) -> Family | None:
    """The family that an optimizer is of, or None."""
    return next((f for f in _FAMILIES if f.library_class(optimizer) is not None), None)


def rule_name(optimizer) -> str:
    """The rule of an optimizer that has one."""
    family = find_family(optimizer)
    return family.adapter(optimizer).rule(family.inner(optimizer))


def inner_optimizers(optimizer) -> list:
    """The optimizers that an optimizer leaves its steps to; none if it takes them itself."""
    family = find_family(optimizer)
    return wrapped_optimizers(optimizer) if family is None else family.wrapped(optimizer)


def find_variable(variable) -> tf.Variable | None:
    """The `tf.Variable` that a library's variable is, or holds; None if it is no variable."""
    if _compat.is_plain_variable(variable):
        return variable
    for family in _FAMILIES:
        inner = family.unwrap(variable)
        if inner is not None:
            return inner
    return variable if isinstance(variable, tf.Variable) else None
