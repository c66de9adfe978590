"""Which family an optimizer is of, whether the op can stand in for it, and why not."""

import threading

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from fusemin import graphs
from fusemin._build import HAS_CUDA_KERNELS, RULES
from fusemin.compilation import in_xla
from fusemin.families.compat_v1 import CompatV1
from fusemin.families.family import Adapter, Family, FusedUpdate
from fusemin.families.keras3 import Keras3
from fusemin.families.numbers import as_hyperparameter
from fusemin.families.tf_keras import TfKeras
from fusemin.families.tf_keras_legacy import TfKerasLegacy
from fusemin.stock_ops import is_stock

# The legacy modules lie inside those of tf_keras, so they come first.
_FAMILIES: tuple[Family, ...] = (Keras3(), TfKerasLegacy(), TfKeras(), CompatV1())

_BUILDING = threading.RLock()

FUSED_DTYPES = (tf.float32, tf.float64, tf.float16, tf.bfloat16)


def families() -> tuple[Family, ...]:
    """All families, each with its adapters."""
    return _FAMILIES


def find_family(optimizer) -> Family | None:
    """The family that an optimizer is of, or None."""
    return next((f for f in _FAMILIES if f.library_class(optimizer) is not None), None)


def _find_adapter(optimizer) -> tuple[Family, Adapter]:
    family = find_family(optimizer)
    return family, family.adapter(optimizer)


def rule_name(optimizer) -> str:
    """The rule of an optimizer without a fallback reason."""
    family, adapter = _find_adapter(optimizer)
    return adapter.rule(family.inner(optimizer))


def find_fallback_reason(optimizer, variables: list[tf.Variable]) -> str | None:
    """Why the op cannot stand in for `optimizer.apply_gradients` on these variables; None if it can.

    Creates no variables and changes nothing.
    """
    if is_stock():
        return "this is inside of fusemin.stock()"
    family = find_family(optimizer)
    name = type(optimizer).__name__
    if family is None:
        return f"{name} is of no known optimizer family"
    inner = family.inner(optimizer)
    if find_family(inner) is not family:
        return f"the optimizer inside of {name} is a {type(inner).__name__}, of no known optimizer family"
    adapter = family.adapter(optimizer)
    if adapter is None:
        return f"{family.name} {family.library_class(inner).__name__} has no fused rule"
    overridden = family.overridden(optimizer) or family.overridden(inner)
    if overridden:
        return f"{overridden} overrides a method that the fused rule would replace"
    option = family.unsupported_option(optimizer, variables) or adapter.unsupported(inner, variables)
    if option:
        return f"{name} uses {option}, which is not fused"
    if tf.distribute.has_strategy():
        return "a tf.distribute strategy is in use"
    for variable in variables:
        if not isinstance(variable, resource_variable_ops.BaseResourceVariable):
            return f"variable '{variable.name}' is a {type(variable).__name__}, not a resource variable"
        if variable.dtype not in FUSED_DTYPES:
            return f"variable '{variable.name}' is of {variable.dtype.name}"
        if not HAS_CUDA_KERNELS and _is_on_gpu(variable) and not in_xla():
            return f"variable '{variable.name}' is on a GPU, and this build of fusemin has no CUDA kernels"
    several_dtypes = len({v.dtype for v in variables}) > 1
    decided_over_all = getattr(inner, "global_clipnorm", None) and "global_clipnorm"
    if several_dtypes and decided_over_all:
        # Stock fails: it has no sum of norms of several dtypes.
        return "global_clipnorm is over variables of several dtypes"
    if inner is not optimizer:
        decided_over_all = f"the loss scale of {name}"
        if several_dtypes and in_xla():
            return f"{decided_over_all} is over variables of several dtypes, and XLA compiles the step"
    if decided_over_all and len({(v.dtype, v.device) for v in variables}) > 1 and any(map(_is_on_gpu, variables)):
        return f"{decided_over_all} is over variables of several dtypes or devices, one of them a GPU"
    return None


def find_sparse_reason(optimizer, variables: list) -> str | None:
    """Why the op cannot stand in for an optimizer without a fallback reason where the gradients of these variables are
    sparse; None if it can. The variables are as their user knows them."""
    family = find_family(optimizer)
    for variable in variables:
        option = family.unsupported_sparse(optimizer, variable)
        if option:
            return f"{type(optimizer).__name__} uses {option}, which stock refuses with a sparse gradient"
    return None


def check_gradients(optimizer, gradients: list, variables: list) -> None:
    """Raises a TypeError for gradients that the optimizer's own method would not survive."""
    family = find_family(optimizer)
    error = None if family is None else family.find_gradient_error(gradients, variables)
    if error is not None:
        raise TypeError(error)


def find_placement_reason(update: FusedUpdate) -> str | None:
    """Why an op cannot have all that a bound optimizer holds of a variable, since it is on several devices, or None."""
    around = update.surroundings
    if in_xla():
        held = [*update.variables, *([] if update.iterations is None else [update.iterations])]
        devices = sorted({_short(variable.device) for variable in held})
        if len(devices) > 1:
            return f"the variables are on several devices, {', '.join(devices)}, and XLA compiles the step"
    for i, variable in enumerate(update.variables):
        own = [*update.slots[i], *around.averages[i : i + 1], *around.accumulators[i : i + 1]]
        for other in (*own, *update.scalars, *around.loss_scale):
            if other.device != variable.device:
                return (
                    f"the optimizer's variable '{other.name}' is on {_short(other.device)}, and '{variable.name}' on "
                    f"{_short(variable.device)}"
                )
    return None


def _is_on_gpu(variable: tf.Variable) -> bool:
    return "/device:GPU:" in variable.device


def _short(device: str) -> str:
    return device.rsplit("/device:", 1)[-1] or "no device"


def build(optimizer, variables: list) -> None:
    """Has an optimizer create its slots, as it would at its first step. Keras names them after its own variables."""
    family, in_function = find_family(optimizer), tf.inside_function()

    def create_slots():
        family.build(optimizer, variables)

    # Slots outlive the function that is being traced, as do those that stock creates. A Keras optimizer calls itself
    # built before it has its slots, so a second thread must not look at it meanwhile.
    with _BUILDING, tf.init_scope():
        if in_function and family.builds_in_functions and tf.executing_eagerly():
            # A user's function may make no variable after it was first traced, one inside of it may, as stock's has.
            graphs.trace(create_slots)
        else:
            create_slots()


def bind(optimizer, variables: list[tf.Variable]) -> FusedUpdate:
    """Binds an optimizer without a fallback reason to variables, creating its slots as the optimizer itself would.

    Raises:
      ValueError: the optimizer was built for other variables.
    """
    family, adapter = _find_adapter(optimizer)
    family.check_variables(optimizer, variables)
    build(optimizer, variables)
    inner = family.inner(optimizer)
    rule = adapter.rule(inner)
    needed = RULES[rule]
    return FusedUpdate(
        rule=rule,
        variables=list(variables),
        slots=[[family.slot(inner, adapter.slots[s], v) for s in needed["slots"]] for v in variables],
        scalars=[family.scalar(inner, adapter.scalars[s]) for s in needed["scalars"]],
        iterations=family.iterations(inner),
        hyperparameters={
            name: as_hyperparameter(value)
            for name, value in {
                "learning_rate": family.learning_rate(inner),
                **adapter.hyperparameters(inner),
            }.items()
        },
        surroundings=family.surroundings(optimizer, variables),
        sparse=family.sparse(optimizer, adapter),
    )
