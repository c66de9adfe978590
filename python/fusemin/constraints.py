"""Constraints of variables, which optimizers apply after the update."""


def constraint(variable):
    """The constraint of a `tf.Variable` or Keras variable: a function from value to value, or None."""
    return getattr(variable, "constraint", None)


def constrain(variable) -> None:
    """Applies the constraint of a variable, if it has one, as the optimizers do."""
    constrain_copy(variable, variable)


def constrain_copy(variable, copy) -> None:
    """Applies the constraint of a variable, if it has one, to a copy of it that a replica has."""
    if constraint(variable) is not None:
        copy.assign(constraint(variable)(copy))
