"""What the optimizers of this package have in common."""

import abc
import types
from collections.abc import Sequence

import keras
import tensorflow as tf

# Numbers that are computed once a step are of it, whatever the variables are.
WIDE = tf.float64


def wide(x) -> tf.Tensor:
    """A number as float64. A Python number keeps all of its digits, which `tf.cast` would not leave it."""
    return tf.cast(x, WIDE) if tf.is_tensor(x) or isinstance(x, tf.Variable) else tf.constant(x, WIDE)


def arithmetic_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype that variables of a dtype are computed in."""
    return tf.float32 if tf.as_dtype(dtype).size < 4 else tf.as_dtype(dtype)


def load(x) -> tf.Tensor:
    """A tensor or variable in the dtype that it is computed in."""
    x = tf.convert_to_tensor(x)
    return tf.cast(x, arithmetic_dtype(x.dtype))


def narrow(numbers: dict[str, tf.Tensor], dtype: tf.DType) -> types.SimpleNamespace:
    """Numbers of a step, by name, rounded to the type of the arithmetic."""
    return types.SimpleNamespace(**{name: tf.cast(x, dtype) for name, x in numbers.items()})


def check_fraction(name: str, value: float, above: float = 0.0) -> None:
    """Raises a ValueError unless a number is at least `above`, and less than 1."""
    if not above <= value < 1.0:
        raise ValueError(f"`{name}` must be in [{above:g}, 1), it is {value}")


def excluded_from_decay(optimizer, variables) -> str | None:
    """An option that is not fused: a rule that decays parameters does so to all of them. For `Adapter.unsupported`."""
    if (
        optimizer.decays_in_rule
        and optimizer.weight_decay
        and not all(optimizer._use_weight_decay(v) for v in variables)
    ):
        return "exclude_from_weight_decay with a weight decay inside its rule"
    return None


class Optimizer(keras.optimizers.Optimizer):
    """A Keras optimizer whose step is a function of a gradient, a parameter and its slots.

    It is computed in float32 for variables of float16 and bfloat16, and what it gives is rounded once, as the fused op
    does. A sparse gradient is made dense first.

    Attributes:
      slot_names: of the slot variables of each variable. `_x` holds those of name x.
      slots_from_variable: names of those that begin as the variable, and not as 0.
    """

    slot_names: tuple[str, ...]
    slots_from_variable: tuple[str, ...] = ()

    @property
    def decays_in_rule(self) -> bool:
        """Whether weight decay is part of the rule, and not what Keras does with every optimizer before its step."""
        return True

    def find_step_reason(self) -> str | None:
        """Why no step can be taken now, or None."""
        return None

    def apply(self, grads, trainable_variables=None):
        """Takes a step; see `keras.optimizers.Optimizer`.

        Raises:
          ValueError: no step can be taken now.
        """
        reason = self.find_step_reason()
        if reason is not None:
            raise ValueError(f"{type(self).__name__} '{self.name}' cannot take a step: {reason}")
        super().apply(grads, trainable_variables)

    def _apply_weight_decay(self, variables):
        if not self.decays_in_rule:
            super()._apply_weight_decay(variables)

    def build(self, variables):
        """Creates the slots.

        Args:
          variables: to be updated.
        """
        if self.built:
            return
        # A slot that begins as its variable needs the value, which in a function that is being traced there is not.
        with tf.init_scope():
            super().build(variables)
            for name in self.slot_names:
                slots = [
                    self.add_variable_from_reference(v, name=name, initializer=self._initializer(name, v))
                    for v in variables
                ]
                setattr(self, f"_{name}", slots)
            self._build_scalars()

    def _build_scalars(self) -> None:
        """Creates the variables that are of no variable."""

    def _initializer(self, name: str, variable):
        """The initializer of a slot."""
        if name in self.slots_from_variable:
            return lambda shape, dtype=None: tf.convert_to_tensor(variable)
        return "zeros"

    def _add_scalar(self, name: str, value: float):
        """A variable of float64, which all replicas agree on."""
        # Keras' constants go through float32.
        return self.add_variable(
            (), lambda shape, dtype=None: wide(value), "float64", aggregation="only_first_replica", name=name
        )

    def _next_step(self) -> tf.Tensor:
        """The number of the step to be taken, counted from 1."""
        return wide(tf.convert_to_tensor(self.iterations)) + 1.0

    @abc.abstractmethod
    def _numbers(self, learning_rate: tf.Tensor, decays: bool) -> dict[str, tf.Tensor]:
        """What of a step does not depend on the element, in float64.

        Args:
          learning_rate: float64 scalar.
          decays: whether weight decay applies.
        """

    @abc.abstractmethod
    def _updated(self, c, gradient: tf.Tensor, param: tf.Tensor, *slots: tf.Tensor) -> Sequence[tf.Tensor]:
        """The parameter and its slots after the step.

        Args:
          c: what `_numbers` returned, as attributes, rounded to the dtype of the tensors.
          gradient, param, *slots: tensors of one shape and dtype.
        """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        held = [getattr(self, f"_{name}")[index] for name in self.slot_names]
        dtype = arithmetic_dtype(variable.dtype)
        c = narrow(self._numbers(wide(learning_rate), self._use_weight_decay(variable)), dtype)
        tensors = [tf.cast(tf.convert_to_tensor(x), dtype) for x in (gradient, variable, *held)]
        for old, new in zip([variable, *held], self._updated(c, *tensors), strict=True):
            self.assign(old, new)
