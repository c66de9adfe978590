"""The copies of a variable that a `tf.distribute` strategy keeps, one for each replica."""

import tensorflow as tf

from fusemin import _compat


def container_of(variable):
    """The variable of which a strategy keeps copies, of itself or of one of them; None if it keeps none."""
    if isinstance(variable, tf.distribute.DistributedValues):
        return variable
    return _compat.variable_of_strategy(variable)


def copies_of(variable) -> list[tf.Variable]:
    """The copies on this machine of a variable that a strategy keeps; of any other variable itself."""
    return list(variable.values) if isinstance(variable, tf.distribute.DistributedValues) else [variable]


def copy_of(value, replica: int):
    """The copy of a variable that a replica of this machine has; what is not kept for each replica is one for all."""
    copies = copies_of(value)
    return copies[replica] if len(copies) > 1 else copies[0]
