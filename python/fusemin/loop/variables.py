"""Which variables are minimized with respect to: what users pass for them, and what is refused."""

import tensorflow as tf

from fusemin import _compat
from fusemin.families import find_variable
from fusemin.update.replication import check_no_copies


def as_variable_list(variables, name="trainable_variables") -> list:
    """`trainable_variables` as a list without structure, each variable once.

    Of what consists of variables, such as a TransformedVariable or a distribution of TensorFlow Probability, these are
    taken, as by a `tf.GradientTape` that watches it.

    Args:
      variables: a list or another iterable or nested structure.
      name: the user's name of the argument.

    Raises:
      TypeError: it is not a sequence, or holds something else. A single variable is one of its elements, which is not
        what its user means.
    """
    if tf.is_tensor(variables) or find_variable(variables) is not None or _compat.is_composite(variables):
        raise TypeError(f"`{name}` must be a list, it is {variables!r}. Put it into one: [x].")
    try:
        items = tf.nest.flatten(variables) if isinstance(variables, dict) else list(variables)
    except TypeError:
        hint = ". Pass its trainable_variables." if hasattr(variables, "trainable_variables") else ""
        raise TypeError(f"`{name}` must be a list of variables, it is {variables!r}{hint}") from None
    found = {}
    for leaf in tf.nest.flatten(items):
        for variable in _variables_of(leaf) or [leaf]:
            found.setdefault(unwrap_variable(variable, name).ref(), variable)
    return list(found.values())


def _variables_of(leaf) -> list[tf.Variable]:
    """The variables that something consists of; none if it does not consist of parts."""
    parts = tf.nest.flatten(leaf, expand_composites=True) if _compat.is_composite(leaf) else []
    return [part for part in parts if isinstance(part, tf.Variable)]


def unwrap_variable(variable, name="trainable_variables") -> tf.Variable:
    """The `tf.Variable` of what a user calls a variable: itself, or the one inside a variable of a library's own.

    Raises:
      TypeError: it is none of these.
    """
    found = find_variable(variable)
    if found is not None:
        return found
    hint = " Pass its trainable_variables." if hasattr(variable, "trainable_variables") else ""
    raise TypeError(f"`{name}` must hold variables, it holds {variable!r}.{hint}")


def check_variables(variables: list[tf.Variable], name="trainable_variables", copies: bool = False) -> None:
    """Checks the variables to minimize with respect to.

    Args:
      variables: these.
      name: of the argument, for errors.
      copies: whether a `tf.distribute` strategy may keep copies of them.

    Raises:
      ValueError: there is none.
      TypeError: one is neither floating nor complex.
      NotImplementedError: one has copies on several devices.
    """
    if not variables:
        raise ValueError(f"there are no trainable variables: `{name}` is empty")
    for variable in variables:
        if not (variable.dtype.is_floating or variable.dtype.is_complex):
            raise TypeError(f"`{name}` must be floating, '{variable.name}' is of {variable.dtype.name}")
    if not copies:
        check_no_copies(variables)
