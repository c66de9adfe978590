"""The decision who takes a step: the op, or the optimizer's own method; made here and nowhere else."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin._build import HAS_CUDA_KERNELS, OPTIONS, RULES
from fusemin.families import (
    Adapter,
    Family,
    FusedUpdate,
    Hyperparameter,
    bind,
    check_adapter,
    check_options,
    find_family,
    find_variable,
    hyperparameters,
)
from fusemin.update.copies import container_of, copy_of
from fusemin.update.gpu_support import find_capability_reason, find_refusal, is_on_gpu
from fusemin.update.gradients import find_gradient_reason, is_sparse
from fusemin.update.shards import Shards, shards_of
from fusemin.update.stock_ops import is_stock

# The strategies that keep a copy of each variable for each replica, and under which the gradients are summed before the
# update.
REPLICATED = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
FUSED_DTYPES = (tf.float32, tf.float64, tf.float16, tf.bfloat16)
# The options that need a sum over the gradients of all variables and no variable of their own, by the names of Keras.
OVER_ALL = [name for name, option in OPTIONS.items() if option["sums"] == "all_tensors" and not option["tensors"]]
# With it their sums are of what was accumulated, which is known to the op of the variable only.
ACCUMULATION = "gradient_accumulation_steps"


@dataclasses.dataclass(frozen=True)
class Context:
    """Where a step is to be taken, as far as it decides who takes it.

    Attributes:
      stock: inside of `fusemin.stock()`.
      strategy: the `tf.distribute` strategy in whose scope it is, or None. One of a single device is none.
      xla: in what XLA compiles.
      cuda_kernels: with a build that has them.
    """

    stock: bool = False
    strategy: tf.distribute.Strategy | None = None
    xla: bool = False
    cuda_kernels: bool = True

    @classmethod
    def here(cls) -> "Context":
        strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        if isinstance(strategy, tf.distribute.OneDeviceStrategy):
            strategy = None
        return cls(is_stock(), strategy, graphs.in_xla(), HAS_CUDA_KERNELS)


@dataclasses.dataclass(frozen=True)
class Stock:
    """The stock step: the optimizer's own method updates the variables.

    Attributes:
      reason: why, in words.
    """

    reason: str
    rule: ClassVar[None] = None


@dataclasses.dataclass(frozen=True)
class Fused:
    """The fused step: the op updates the variables. Nothing is created for it before `bind`.

    Attributes:
      rule: what it computes, a name in `fusemin._core.rules()`.
      optimizer: whose step it is.
      family: of the optimizer.
      adapter: of the optimizer.
      variables: as the user knows them.
      unwrapped: the `tf.Variable`s inside; under a strategy with replicas the copies of the first one on this machine.
      context: that it was planned for.
    """

    rule: str
    optimizer: object
    family: Family
    adapter: Adapter
    variables: list
    unwrapped: list[tf.Variable]
    context: Context
    reason: ClassVar[None] = None

    def __str__(self) -> str:
        where = "" if self.context.strategy is None else " on each replica"
        return f"rule '{self.rule}' updates {len(self.variables)} variables in one op{where}"

    @property
    def option_numbers(self) -> dict[str, float]:
        """`StepOptions.numbers` of what `bind` returns."""
        numbers = self.family.option_numbers(self.optimizer)
        check_options(self.family, numbers)
        return numbers

    @property
    def shards(self) -> Shards | None:
        """The parts that the slots are in, if they are."""
        return shards_of(self.family.inner(self.optimizer))

    @property
    def num_slots(self) -> int:
        """How many variables like it the optimizer holds for each variable: slots, averages, accumulators."""
        tensors = [OPTIONS[name]["tensors"] for name in self.option_numbers]
        return len(RULES[self.rule]["slots"]) + sum(t in ("averages", "accumulators") for t in tensors)

    @property
    def option_numbers_of_op(self) -> dict[str, float]:
        """Those of the op alone: on replicas some options are applied before the sum of the gradients."""
        before = () if self.context.strategy is None else self.family.options_before_sum(self.optimizer)
        return {name: number for name, number in self.option_numbers.items() if name not in before}

    def dependencies(self) -> dict:
        """By any keys all that a step may depend on once it is traced."""
        return self.family.dependencies(self.optimizer)

    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """As the bound optimizer has them. Only after `bind`."""
        return hyperparameters(self.family, self.adapter, self.family.inner(self.optimizer))

    def bind(self) -> FusedUpdate | Stock:
        """Creates the slots, as the optimizer would at its first step, and finds all that the op needs.

        Returns:
          The bound optimizer, or Stock if one of its variables turned out to be on another device.

        Raises:
          UnknownVariableError: the optimizer was built for other variables.
        """
        update = bind(self.family, self.adapter, self.optimizer, self.rule, self.variables, self.unwrapped)
        # With copies for replicas it is asked of each.
        reason = find_placement_reason(update, self.context) if self.context.strategy is None else None
        return update if reason is None else Stock(reason)


def plan(
    optimizer, variables: Sequence, gradients: Sequence | None = None, context: Context | None = None
) -> Fused | Stock:
    """Decides who updates these variables.

    Creates no variables and changes nothing.

    Args:
      optimizer: anything with `apply_gradients`.
      variables: as the user knows them.
      gradients: for each variable; None where they are not known yet, so that the decision is for gradients like the
        variables.
      context: where the step is to be taken; None for where this is called.

    Raises:
      AdapterError: the optimizer's adapter does not say what its rule needs.
    """
    context = context or Context.here()
    variables = list(variables)
    unwrapped = [find_variable(v) for v in variables]
    family = find_family(optimizer)
    adapter = None if family is None else family.adapter(optimizer)
    if isinstance(context.strategy, REPLICATED):
        unwrapped = [v if v is None else copy_of(container_of(v) or v, 0) for v in unwrapped]
    # Where the kernels would be CUDA's: not inside XLA.
    here = [] if context.xla else unwrapped
    gpus = {v.device for v in here if v is not None and is_on_gpu(v)}
    reason = next(_reasons(family, adapter, optimizer, variables, unwrapped, gradients, context, gpus), None)
    if reason is not None:
        return Stock(reason)
    inner = family.inner(optimizer)
    rule = adapter.rule(inner)
    check_adapter(family, adapter, inner, rule)
    reason = next(_driver_reasons(rule, unwrapped, gpus), None)
    if reason is not None:
        return Stock(reason)
    return Fused(rule, optimizer, family, adapter, variables, unwrapped, context)


def find_class_reason(optimizer) -> str | None:
    """Why no step of an optimizer is ever fused, whatever it updates; None if one may be."""
    family = find_family(optimizer)
    adapter = None if family is None else family.adapter(optimizer)
    return next(_class_reasons(family, adapter, optimizer), None)


def _reasons(
    family, adapter, optimizer, variables, unwrapped, gradients, context: Context, gpus: set[str]
) -> Iterator[str]:
    """All reasons for the stock step, in the order in which they count; the first is told."""
    if context.stock:
        yield "this is inside of fusemin.stock()"
    if not variables:
        yield "there is no variable to update"
    yield from _class_reasons(family, adapter, optimizer)
    inner = family.inner(optimizer)
    reason = family.find_step_reason(optimizer, variables)
    if reason is not None:
        yield reason
    if any(v is None for v in unwrapped):
        yield "a variable is of an unsupported type"
    option = family.unsupported_option(optimizer, unwrapped)
    option = option or adapter.unsupported(inner, unwrapped)
    if option:
        yield f"{type(optimizer).__name__} uses {option}, which is not fused"
    if context.strategy is not None:
        strategy = f"a {type(context.strategy).__name__}"
        if not isinstance(context.strategy, REPLICATED):
            yield f"{strategy} is in use, which keeps no copy of each variable for each replica"
        if not family.updates_replicas:
            yield f"{strategy} is in use, where {family.name} optimizers take their own steps"
    yield from _variable_reasons(unwrapped, context, gpus)
    yield from _common_reasons(optimizer, inner, adapter.rule(inner), unwrapped, context)
    if gradients is not None:
        yield from _gradient_reasons(family, optimizer, variables, unwrapped, gradients, context)


def _class_reasons(family, adapter, optimizer) -> Iterator[str]:
    name = type(optimizer).__name__
    if family is None:
        yield f"{name} is of no known optimizer family"
    inner = family.inner(optimizer)
    is_wrapper = inner is not optimizer
    if is_wrapper and find_family(inner) is not family:
        yield f"the optimizer inside of {name} is a {type(inner).__name__}, of no known optimizer family"
    if adapter is None:
        yield f"{family.name} {family.library_class(inner).__name__} has no fused rule"
    overridden = family.overridden(optimizer) or (family.overridden(inner) if is_wrapper else None)
    if overridden:
        yield f"{overridden} overrides a method that the fused rule would replace"


def _variable_reasons(variables: list[tf.Variable], context: Context, gpus: set[str]) -> Iterator[str]:
    for variable in variables:
        if not _compat.is_resource_variable(variable):
            yield f"variable '{variable.name}' is a {type(variable).__name__}, not a resource variable"
        if variable.dtype not in FUSED_DTYPES:
            yield f"variable '{variable.name}' is of {variable.dtype.name}"
        if gpus and variable.device in gpus:
            if not context.cuda_kernels:
                yield f"variable '{variable.name}' is on a GPU, and this build of fusemin has no CUDA kernels"
            too_old = find_capability_reason(variable.device)
            if too_old:
                yield f"variable '{variable.name}' is on {too_old}"
    if len(set(map(id, variables))) < len(variables):
        yield "a variable is listed twice"


def _common_reasons(optimizer, inner, rule: str, variables: list[tf.Variable], context: Context) -> Iterator[str]:
    """Of what is decided over all variables of a step, which are not of one dtype and device."""
    # A rule that there is not is an error of its own, later.
    if RULES.get(rule, {}).get("step_sums") and len({(v.dtype, v.device) for v in variables}) > 1:
        yield f"the sums of rule '{rule}' are over variables of several dtypes or devices"
    decided_over_all = next((name for name in OVER_ALL if getattr(inner, name, None)), None)
    if not decided_over_all and inner is optimizer:
        return
    several_dtypes = len({v.dtype for v in variables}) > 1
    if decided_over_all and getattr(inner, ACCUMULATION, None) and len({v.device for v in variables}) > 1:
        yield f"{decided_over_all} is of gradients that were accumulated, for variables of several devices"
    if several_dtypes and decided_over_all:
        # Stock fails: it has no sum of norms of several dtypes.
        yield f"{decided_over_all} is over variables of several dtypes"
    if inner is not optimizer:
        decided_over_all = f"the loss scale of {type(optimizer).__name__}"
        if several_dtypes and context.xla:
            yield f"{decided_over_all} is over variables of several dtypes, and XLA compiles the step"
    if decided_over_all and len({(v.dtype, v.device) for v in variables}) > 1 and any(map(is_on_gpu, variables)):
        yield f"{decided_over_all} is over variables of several dtypes or devices, one of them a GPU"


def _gradient_reasons(family, optimizer, variables, unwrapped, gradients, context: Context) -> Iterator[str]:
    sparse = [v for g, v in zip(gradients, variables, strict=True) if is_sparse(g)]
    if sparse:
        for name, number in family.option_numbers(optimizer).items():
            if name in OPTIONS and OPTIONS[name]["dense_only"] and number != OPTIONS[name]["default"]:
                yield f"the option {name} takes no sparse gradients: {OPTIONS[name]['dense_only']}"
    for variable in sparse:
        option = family.unsupported_sparse(optimizer, variable)
        if option:
            yield f"{type(optimizer).__name__} uses {option}, which stock refuses with a sparse gradient"
    for gradient, variable in zip(gradients, unwrapped, strict=True):
        reason = find_gradient_reason(gradient, variable, context.xla)
        if reason is not None:
            yield reason


def _driver_reasons(rule: str, variables: list[tf.Variable], gpus: set[str]) -> Iterator[str]:
    """Of what only a trial tells, which is last."""
    for device in dict.fromkeys(v.device for v in variables if v.device in gpus) if gpus else ():
        refusal = find_refusal(device, rule)
        if refusal:
            yield f"the CUDA kernels do not run on {_short(device)}: {refusal}"


def find_placement_reason(update: FusedUpdate, context: Context) -> str | None:
    """Why one op cannot update these variables: a slot or scalar is on another device. None if it can."""
    options = update.options
    if context.xla:
        held = [*update.variables, *([] if update.iterations is None else [update.iterations])]
        devices = sorted({_short(variable.device) for variable in held})
        if len(devices) > 1:
            return f"the variables are on several devices, {', '.join(devices)}, and XLA compiles the step"
    for i, variable in enumerate(update.variables):
        own = [*update.slots[i], *options.averages[i : i + 1], *options.accumulators[i : i + 1]]
        for other in (*own, *update.scalars, *options.loss_scale):
            if other.device != variable.device:
                return (
                    f"the optimizer's variable '{other.name}' is on {_short(other.device)}, and '{variable.name}' on "
                    f"{_short(variable.device)}"
                )
    return None


def _short(device: str) -> str:
    return device.rsplit("/device:", 1)[-1] or "no device"
