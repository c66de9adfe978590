"""Checks of what users pass, before anything is traced or written."""

import numbers

import numpy as np
import tensorflow as tf


def check_num_steps(num_steps):
    """`num_steps` as a Python int where its value is known, else as an int32 scalar tensor.

    Raises:
      TypeError: it is not an integer scalar.
      ValueError: it is negative.
    """
    if not tf.is_tensor(num_steps):
        if isinstance(num_steps, bool) or not isinstance(num_steps, numbers.Integral | np.ndarray):
            raise TypeError(f"`num_steps` must be an int or an integer scalar tensor, it is {num_steps!r}")
        num_steps = np.asarray(num_steps)
    if not tf.as_dtype(num_steps.dtype).is_integer or num_steps.shape not in ((), None, tf.TensorShape([])):
        raise TypeError(
            f"`num_steps` must be an integer scalar, it is of {tf.as_dtype(num_steps.dtype).name} and shape "
            f"{num_steps.shape}"
        )
    value = num_steps if isinstance(num_steps, np.ndarray) else tf.get_static_value(num_steps)
    if value is None:
        num_steps = tf.cast(num_steps, tf.int32)
        check = tf.debugging.assert_non_negative(num_steps, message="`num_steps` must not be negative")
        with tf.control_dependencies([] if check is None else [check]):
            return tf.identity(num_steps)
    if value < 0:
        raise ValueError(f"`num_steps` must not be negative, it is {int(value)}")
    if value > np.iinfo(np.int32).max:
        raise ValueError(f"`num_steps` must be less than 2**31, it is {int(value)}")
    return int(value)


def check_optimizer(optimizer) -> None:
    """Raises a TypeError unless the optimizer has `apply_gradients`."""
    if not callable(getattr(optimizer, "apply_gradients", None)):
        hint = " Pass an instance, not the class." if isinstance(optimizer, type) else ""
        if isinstance(optimizer, str):
            hint = f" Pass an instance: keras.optimizers.get({optimizer!r})."
        raise TypeError(
            f"`optimizer` must have a method apply_gradients(grads_and_vars), {optimizer!r} has none.{hint}"
        )
    if isinstance(optimizer, type):
        raise TypeError(f"`optimizer` must be an instance, it is the class {optimizer.__name__}")


def check_flag(value, name: str) -> None:
    """Raises a ValueError unless the value is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False, it is {value!r}")


def check_callable(value, name: str) -> None:
    """Raises a TypeError unless the value can be called."""
    if not callable(value):
        hint = " Pass a function that computes it: lambda: ..." if tf.is_tensor(value) else ""
        raise TypeError(f"`{name}` must be callable, it is {value!r}.{hint}")


def check_convergence_criterion(criterion) -> None:
    """Raises a TypeError unless it is None or has the two methods of a criterion."""
    if criterion is None:
        return
    if isinstance(criterion, type):
        raise TypeError(f"`convergence_criterion` must be an instance, it is the class {criterion.__name__}")
    for method in ("bootstrap", "one_step"):
        if not callable(getattr(criterion, method, None)):
            raise TypeError(
                f"`convergence_criterion` must have the methods bootstrap and one_step, {criterion!r} has no {method}"
            )


def check_loss(loss) -> None:
    """Raises a TypeError unless the loss is a floating tensor."""
    if loss is None:
        raise TypeError("`loss_fn` must return the loss, it returned None. Is a `return` missing?")
    if not tf.is_tensor(loss) or not loss.dtype.is_floating:
        what = f"a tensor of {loss.dtype.name}" if tf.is_tensor(loss) else repr(loss)
        raise TypeError(f"`loss_fn` must return a floating tensor, it returned {what}")


def check_gradients(gradients, names) -> None:
    """Raises a ValueError that names the variables without a gradient."""
    missing = [f"'{name}'" for gradient, name in zip(gradients, names, strict=True) if gradient is None]
    if missing:
        raise ValueError(
            f"the loss does not depend on variable{'s' if len(missing) > 1 else ''} {', '.join(missing)}: no gradient. "
            "Leave them out of `trainable_variables`, or use them in `loss_fn` by differentiable operations."
        )


def as_variable_list(variables) -> list:
    """`trainable_variables` as a list.

    Raises:
      TypeError: it is not a sequence. A single variable is one of its elements, which is not what its user means.
    """
    if tf.is_tensor(variables) or isinstance(getattr(variables, "value", None), tf.Variable):
        raise TypeError(f"`trainable_variables` must be a list, it is {variables!r}. Put it into one: [x].")
    try:
        return list(variables)
    except TypeError:
        raise TypeError(f"`trainable_variables` must be a list of variables, it is {variables!r}") from None


def unwrap_variable(variable) -> tf.Variable:
    """The `tf.Variable` of what a user calls a variable: itself, or the one inside a Keras variable, or inside the
    AutoCastVariable of a mixed-precision policy of tf_keras.

    Raises:
      TypeError: it is none of these.
    """
    if isinstance(variable, tf.Variable):
        if type(variable).__module__ == "tf_keras.src.mixed_precision.autocast_variable":
            return variable._variable
        return variable
    if isinstance(getattr(variable, "value", None), tf.Variable):
        return variable.value
    raise TypeError(f"`trainable_variables` must hold variables, it holds {variable!r}")


def check_variables(variables: list[tf.Variable]) -> None:
    """Checks the variables to minimize with respect to.

    Raises:
      ValueError: there is none, or one stands twice.
      TypeError: one is not floating.
    """
    if not variables:
        raise ValueError(
            "there are no trainable variables: `trainable_variables` is empty, or None and `loss_fn` reads no variable "
            "that is trainable"
        )
    names = {}
    for variable in variables:
        if not variable.dtype.is_floating:
            raise TypeError(f"`trainable_variables` must be floating, '{variable.name}' is of {variable.dtype.name}")
        if variable.ref() in names:
            raise ValueError(f"`trainable_variables` holds '{variable.name}' twice")
        names[variable.ref()] = variable.name
