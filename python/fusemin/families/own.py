"""`fusemin.optimizers`: Keras optimizers of our own, which say by which rule they are fused."""

import types

import keras

from fusemin.families.family import Adapter
from fusemin.families.keras3 import Keras3

# By class name, filled by `fused_by`.
_ADAPTERS: dict[str, Adapter] = {}


def fused_by(adapter: Adapter):
    """Decorates an optimizer class of `fusemin.optimizers`: says its rule, and registers it for loading by Keras.

    Args:
      adapter: of the class.
    """

    def register(cls):
        _ADAPTERS[cls.__name__] = adapter
        return keras.saving.register_keras_serializable(package="fusemin")(cls)

    return register


class Own(Keras3):
    """They are Keras optimizers in everything but their module."""

    name = "fusemin.optimizers"
    module = "fusemin.optimizers"
    adapters = types.MappingProxyType(_ADAPTERS)

    def library_class(self, optimizer):
        own = super().library_class(optimizer)
        if own is not None:
            return own
        # A wrapper of Keras is of the family of what it wraps, whose rule it is.
        inner = vars(optimizer).get("inner_optimizer") if hasattr(optimizer, "__dict__") else None
        if inner is None or super().library_class(inner) is None:
            return None
        return next((c for c in optimizer.__class__.__mro__ if c is keras.optimizers.LossScaleOptimizer), None)

    def weight_decay(self, optimizer):
        return None if optimizer.decays_in_rule else super().weight_decay(optimizer)

    def find_step_reason(self, optimizer, variables):
        return super().find_step_reason(optimizer, variables) or self.inner(optimizer).find_step_reason()

    def sparse(self, optimizer, adapter):
        # Their own step adds the slices of a row up before anything else.
        return adapter.sparse(self.inner(optimizer))
