"""Checks of what users pass, before anything is traced or written.

What TensorFlow Probability takes is taken with its meaning, except where that is an accident, such as three steps for
`num_steps=2.5`.
"""

import inspect
import numbers
import re
import types

import numpy as np
import tensorflow as tf

from fusemin.families import find_variable


def check_num_steps(num_steps):
    """`num_steps` as a Python int where its value is known, else as an int32 scalar tensor.

    Raises:
      TypeError: it is not a whole number.
      ValueError: it is negative.
    """
    if find_variable(num_steps) is not None:
        num_steps = tf.convert_to_tensor(num_steps)
    if not tf.is_tensor(num_steps):
        is_number = isinstance(num_steps, numbers.Integral | float | np.floating | np.ndarray)
        if isinstance(num_steps, bool | np.bool_) or not is_number:
            raise TypeError(f"`num_steps` must be a whole number or a scalar tensor of one, it is {num_steps!r}")
        if isinstance(num_steps, numbers.Integral):
            return _bounded(int(num_steps))
        num_steps = np.asarray(num_steps)
    dtype = tf.as_dtype(num_steps.dtype)
    if not (dtype.is_integer or dtype.is_floating) or num_steps.shape not in ((), None, tf.TensorShape([])):
        raise TypeError(
            f"`num_steps` must be a whole number, a scalar, it is of {dtype.name} and shape {num_steps.shape}"
        )
    value = num_steps if isinstance(num_steps, np.ndarray) else tf.get_static_value(num_steps)
    if value is not None:
        if not np.isfinite(value) or int(value) != value:
            raise TypeError(f"`num_steps` must be a whole number, it is {value.item()}")
        return _bounded(int(value))
    steps = tf.cast(num_steps, tf.int32)
    checks = [tf.debugging.assert_non_negative(steps, message="`num_steps` must not be negative")]
    if dtype.is_floating:
        checks.append(
            tf.debugging.assert_equal(
                tf.cast(steps, dtype), num_steps, message="`num_steps` must be a whole number less than 2**31"
            )
        )
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(steps)


def _bounded(num_steps: int) -> int:
    if num_steps < 0:
        raise ValueError(f"`num_steps` must not be negative, it is {num_steps}")
    if num_steps > np.iinfo(np.int32).max:
        raise ValueError(f"`num_steps` must be less than 2**31, it is {num_steps}")
    return num_steps


def check_not_swapped(num_steps, optimizer) -> None:
    """Raises a TypeError if the number of steps is where the optimizer should be, and the other way round."""
    is_optimizer = [
        callable(getattr(o, "apply_gradients", None)) or callable(getattr(o, "update", None))
        for o in (num_steps, optimizer)
    ]
    if is_optimizer == [True, False]:
        raise TypeError(
            f"`num_steps` is {num_steps!r} and `optimizer` is {optimizer!r}: they are swapped. The order is `loss_fn`, "
            "`num_steps`, `optimizer`; for `minimize_stateless` `loss_fn`, `init`, `num_steps`, `optimizer`."
        )


def _is_of_optax(optimizer) -> bool:
    module = getattr(getattr(optimizer, "update", None), "__module__", None) or type(optimizer).__module__
    return module.split(".")[0] in ("optax", "jax")


_OPTAX = (
    " It is one of optax, which computes on arrays of JAX, not on tensors of TensorFlow. Take the optimizer of this "
    "name from keras.optimizers, and `minimize`."
)


def check_optimizer(optimizer) -> None:
    """Raises a TypeError unless the optimizer has `apply_gradients`."""
    if not callable(getattr(optimizer, "apply_gradients", None)):
        hint = " Pass an instance, not the class." if isinstance(optimizer, type) else ""
        if isinstance(optimizer, str):
            hint = f" Pass an instance: keras.optimizers.get({optimizer!r})."
        elif _is_of_optax(optimizer):
            hint = _OPTAX
        elif callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)):
            hint = " Optimizers with init and update are for `minimize_stateless`."
        raise TypeError(
            f"`optimizer` must have a method apply_gradients(grads_and_vars), {optimizer!r} has none.{hint}"
        )
    static = inspect.getattr_static(optimizer, "apply_gradients", None)
    if isinstance(optimizer, type) and isinstance(static, types.FunctionType):
        raise TypeError(f"`optimizer` must be an instance, it is the class {optimizer.__name__}")


def check_pure_optimizer(optimizer) -> None:
    """Raises a TypeError unless the optimizer has `init` and `update`, and is for TensorFlow."""
    for method in ("init", "update"):
        if not callable(getattr(optimizer, method, None)):
            stateful = callable(getattr(optimizer, "apply_gradients", None))
            hint = " Optimizers with apply_gradients are for `minimize`." if stateful else ""
            raise TypeError(f"`optimizer` must have the methods init and update, {optimizer!r} has no {method}.{hint}")
    if _is_of_optax(optimizer):
        raise TypeError(f"`optimizer` must work on tensors of TensorFlow.{_OPTAX}")


def as_flag(value, name: str) -> bool:
    """A flag by its truth, as in Python and TensorFlow Probability.

    Raises:
      TypeError: it has none yet, since it is a tensor in a graph, or is an array of several.
    """
    try:
        return bool(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be True or False, it is {value!r}") from error


def as_scope_name(name) -> str:
    """`name` as a name scope, with "_" for what TensorFlow has not in names.

    Raises:
      TypeError: it is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a str, it is {name!r}")
    name = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]|$", name) else "." + name


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
