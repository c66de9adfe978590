"""`fusemin.optimizers`: Keras optimizers of our own, which say by which rule they are fused."""

import types

import keras

from fusemin._build import OPTIONS
from fusemin.families.family import Adapter
from fusemin.families.keras3 import Keras3

# By class name, filled by `fused_by`: the adapters, and options that are part of the class, as `StepOptions.numbers`.
_ADAPTERS: dict[str, Adapter] = {}
_OPTIONS: dict[str, dict[str, float]] = {}


def fused_by(adapter: Adapter | None, **options: float):
    """Decorates an optimizer class of `fusemin.optimizers`: says its rule, and registers it for loading by Keras.

    Args:
      adapter: of the class; None if no rule is its.
      **options: those that every optimizer of the class has, by the names in `fusemin._core.options()`.
    """

    def register(cls):
        if adapter is not None:
            _ADAPTERS[cls.__name__] = adapter
            _OPTIONS[cls.__name__] = options
        return keras.saving.register_keras_serializable(package="fusemin")(cls)

    return register


def adapter_of(cls: type) -> Adapter | None:
    """The adapter of a class of Keras, or of ours, but not of a subclass of one."""
    for module, adapters in ((Own.module, _ADAPTERS), (Keras3.module, Keras3.adapters)):
        if cls.__module__.startswith(module):
            return adapters.get(cls.__name__)
    return None


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

    def _class_options(self, optimizer) -> dict[str, float]:
        return _OPTIONS.get(self.library_class(self.inner(optimizer)).__name__, {})

    def unsupported_option(self, optimizer, variables):
        missing = [name for name in self._class_options(optimizer) if name not in OPTIONS]
        if missing:
            return f"the option '{missing[0]}', which this build of fusemin has not"
        return super().unsupported_option(optimizer, variables)

    def option_numbers(self, optimizer):
        return super().option_numbers(optimizer) | self._class_options(optimizer)

    def weight_decay(self, optimizer):
        # What is derived from a class of Keras has its decay.
        return None if getattr(optimizer, "decays_in_rule", False) else super().weight_decay(optimizer)

    def find_step_reason(self, optimizer, variables):
        own = getattr(self.inner(optimizer), "find_step_reason", lambda: None)
        return super().find_step_reason(optimizer, variables) or own()

    def sparse(self, optimizer, adapter):
        inner = self.inner(optimizer)
        if not hasattr(inner, "decays_in_rule"):
            return super().sparse(optimizer, adapter)
        # Their own step adds the slices of a row up before anything else.
        return adapter.sparse(inner)
