"""Which variables are trained without `trainable_variables`: those that the loss reads and depends on."""

import functools
import itertools
import types
from collections.abc import Iterable

import tensorflow as tf

from fusemin.loop.variables import unwrap_variable
from fusemin.update.replication import check_no_copies
from fusemin.user_warnings import warn

# How far, and through how many objects, a `loss_fn` is searched for Keras layers.
MAX_DEPTH = 6
MAX_OBJECTS = 2000


class AccessedVariables:
    """Selects the variables to train of those that `loss_fn` reads. Warns once of what users may not expect.

    Attributes:
      selected: the variables, after each `select`.
    """

    def __init__(self, loss_fn):
        self.selected = []
        self._loss_fn = loss_fn
        self._has_warned = False

    def select(self, tape: tf.GradientTape, loss: tf.Tensor) -> list:
        """Selects what a tape watched and the loss depends on.

        Returns:
          The gradients.

        Raises:
          ValueError: the loss depends on none of several variables.
          NotImplementedError: a variable has copies on several devices.
        """
        read = tape.watched_variables()
        check_no_copies(read)
        # Of integers too, for which a tape has none.
        gradients = tape.gradient(loss, read) if read else []
        left_out = [v.name for v, g in zip(read, gradients, strict=True) if g is None]
        if read and len(left_out) == len(read):
            raise ValueError(
                f"the loss depends on none of the variables that `loss_fn` reads, {_listed(left_out)}: no gradient. "
                "Use the variables to be trained in `loss_fn` by differentiable operations."
            )
        self.selected[:] = [v for v, g in zip(read, gradients, strict=True) if g is not None]
        if not self._has_warned:
            self._has_warned = True
            self._warn(left_out)
        return [g for g in gradients if g is not None]

    def _warn(self, left_out: list[str]) -> None:
        if not self.selected:
            warn(
                "`loss_fn` reads no trainable variable, so nothing is updated. Were the variables made with "
                "trainable=False, or read outside of `loss_fn`?"
            )
        if left_out:
            it = "it" if len(left_out) == 1 else "them"
            warn(
                f"`loss_fn` reads {_listed(left_out)}, but the loss has no gradient with respect to {it}: left out. "
                f"Pass `trainable_variables` without {it}, or make {it} with trainable=False."
            )
        weights = frozen_weights(self._loss_fn)
        frozen = [v.name for v in self.selected if id(v) in weights]
        if frozen:
            warn(
                f"`trainable_variables` was not given, so all variables that `loss_fn` reads are trained, also "
                f"{_listed(frozen)}, of a Keras layer that is frozen (trainable=False), which TensorFlow does not "
                "know. Pass trainable_variables=model.trainable_variables to leave frozen layers as they are."
            )


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def frozen_weights(function) -> set[int]:
    """The ids of the `tf.Variable`s of Keras layers that a function can reach and that are not to be trained.

    Neither a `tf.Variable` nor TensorFlow knows of the layer, so it is looked for where functions have their objects:
    closures, globals, arguments bound, and attributes.
    """
    frozen, seen, level = set(), set(), [function]
    for _ in range(MAX_DEPTH):
        following = []
        for value in level:
            if id(value) in seen or len(seen) > MAX_OBJECTS:
                continue
            seen.add(id(value))
            if _is_keras_layer(value):
                frozen |= {id(unwrap_variable(w)) for w in _non_trainable_weights(value)}
            else:
                following += itertools.islice(_reachable(value), MAX_OBJECTS)
        level = following
    return frozen


def _is_keras_layer(value) -> bool:
    return any(c.__name__ == "Layer" and c.__module__.startswith(("keras.", "tf_keras.")) for c in type(value).__mro__)


def _non_trainable_weights(layer) -> list:
    try:
        return layer.non_trainable_weights
    except ValueError:  # Of a model that is not built.
        return []


def _reachable(value) -> Iterable:
    """What a function or object refers to, as far as its layers may be there."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        names = [value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__]
        return [*cells, *names, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set):
        return value
    if isinstance(value, tf.types.experimental.PolymorphicFunction):
        return [value.python_function]
    if isinstance(value, types.ModuleType | type | tf.Tensor | tf.Variable):
        return []
    return getattr(value, "__dict__", {}).values()


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # Of a variable that is not assigned yet.
        return False
