"""The contract between an optimizer and the fused op, and the protocol of a family of optimizers."""

import abc
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal

import tensorflow as tf

# A hyperparameter of a step: a number that never changes, a scalar variable that the op reads, or a function of the
# parameters' dtype that is called while the step is traced and returns a scalar tensor.
Hyperparameter = float | tf.Variable | Callable[[tf.DType], tf.Tensor]

# Where a fused optimizer holds its traced steps, see `Family.mixin`.
STEPS_ATTRIBUTE = "_fusemin_steps"
# Where it holds which replica has which slots, if they are in parts.
SHARDS_ATTRIBUTE = "_fusemin_shards"


class UnknownVariableError(ValueError):
    """An optimizer was built for other variables."""

    def __init__(self, variable: tf.Variable):
        super().__init__(
            f"`optimizer` was built for other variables, it does not know '{variable.name}'. "
            "Use a new optimizer, or build this one with all variables that it is to update."
        )


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What an optimizer does around its rule. The lists are empty, or have an entry for each variable.

    Attributes:
      numbers: by name, see `fusemin._core.options()`; absent is off.
      decays: whether weight decay applies.
      averages: moving averages of the variables.
      accumulators: sums of gradients.
      loss_scale: none, or the scale of a dynamically scaled loss and its counter of steps.
    """

    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    decays: list[bool] = dataclasses.field(default_factory=list)
    averages: list[tf.Variable] = dataclasses.field(default_factory=list)
    accumulators: list[tf.Variable] = dataclasses.field(default_factory=list)
    loss_scale: list[tf.Variable] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class SparseUpdate:
    """What stock does with a sparse gradient.

    Attributes:
      rows: the rows of the variable that the rule is applied to: every one, with a gradient of 0 where there is no
        slice; every one of the slots, but only rows with slices move; or only rows with slices.
      rule: the rule, where it is not that of dense gradients.
      separate_duplicates: whether the square and the magnitude of a gradient of several slices are the sums of theirs.
    """

    rows: Literal["every", "slots_of_every", "touched"] = "every"
    rule: str | None = None
    separate_duplicates: bool = False


@dataclasses.dataclass(frozen=True)
class FusedUpdate:
    """One optimizer bound to variables: all that the op needs, its slots created.

    Attributes:
      rule: a name in `fusemin._core.rules()`.
      variables: the variables to update.
      slots: for each variable, its slot variables in the order of the rule.
      scalars: the rule's scalar variables, in its order.
      iterations: the int64 count of steps taken, or None if the optimizer has none.
      hyperparameters: the rule's hyperparameters by name; may hold more.
      options: what the optimizer does around the rule.
      sparse: what becomes of a sparse gradient.
    """

    rule: str
    variables: list[tf.Variable]
    slots: list[list[tf.Variable]]
    scalars: list[tf.Variable]
    iterations: tf.Variable | None
    hyperparameters: Mapping[str, Hyperparameter]
    options: StepOptions
    sparse: SparseUpdate


# Compared by identity, so that what was checked of one is kept.
@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """One optimizer class of a family: its rule, and where it keeps what the rule needs.

    Attributes:
      rule: the name of the rule, from the optimizer instance.
      slots: for each slot of the rule, the family's name of it.
      hyperparameters: the rule's hyperparameters beside the learning rate, from the optimizer instance.
      scalars: for each scalar of the rule, the family's name of it.
      unsupported: what of stock's update of these variables the rule does not compute, or None.
      sparse: what stock does with a sparse gradient, from the optimizer instance.
    """

    rule: Callable[[Any], str]
    slots: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hyperparameters: Callable[[Any], Mapping[str, Hyperparameter]] = lambda optimizer: {}
    scalars: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unsupported: Callable[[Any, list[tf.Variable]], str | None] = lambda optimizer, variables: None
    sparse: Callable[[Any], SparseUpdate] = lambda optimizer: SparseUpdate()


def wrapped_optimizers(optimizer) -> list:
    """The optimizer that another one holds as its `inner_optimizer`, as wrappers of all libraries do; none if none."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [] if inner is None else [inner]


class Family(abc.ABC):
    """The optimizer classes of one library, which share where they keep things and which methods make up a step.

    All that fusemin knows of the library is in the subclass and its module. To add a family, write one, and add an
    instance of it to `_FAMILIES` in `fusemin.families.registry`: nothing else names it. What is not abstract has a
    default that fits a library without wrappers and without variables of its own.

    Attributes:
      name: how users call the family.
      module: prefix of the modules that define its optimizers.
      adapters: by class name.
      options: what its optimizers do around a rule and is fused, as users call it.
      sparse_except: which of these stock refuses with a sparse gradient.
      hooks: the methods that make up a step. A subclass that overrides one of them is not what the rule computes.
      mixin: what `fuse` puts before the class of an optimizer: it overrides the one method by which the library takes a
        step, which calls `self._take_fused(gradients, variables)` first, and `super()` if that returns False.
      shards_slots: whether the mixin makes slots where `self._assign_owners` and `self._beside_owner` say.
      updates_replicas: whether its optimizers, under a strategy with replicas, sum the gradients of all and update each
        replica's copies by the sums, so that the op may.
      relied_on: by the full name of a method of the library all that it uses of `self`, for the methods that make up a
        step. The tests compare: a release of the library in which they differ may do what the rules do not.
      builds_in_functions: whether an optimizer can be used that a `tf.function` makes anew whenever it is traced.
    """

    name: str
    module: str
    adapters: Mapping[str, Adapter]
    options: tuple[str, ...] = ()
    sparse_except: tuple[str, ...] = ()
    hooks: frozenset[str]
    mixin: type
    updates_replicas: bool = False
    shards_slots: bool = False
    relied_on: Mapping[str, set[str]] = types.MappingProxyType({})
    builds_in_functions: bool = False

    def library_class(self, optimizer) -> type | None:
        """The class of the family that `optimizer` is an instance of, or None."""
        # Not `type`: the `__class__` of an optimizer that `fuse` changed is still that of stock.
        return next((c for c in optimizer.__class__.__mro__ if c.__module__.startswith(self.module)), None)

    def inner(self, optimizer):
        """The optimizer whose rule it is, where an optimizer wraps another one and the op does the work of both."""
        return optimizer

    def wrapped(self, optimizer) -> list:
        """The optimizers that this one leaves its steps to, and that `fuse` fuses with it."""
        return wrapped_optimizers(optimizer)

    def unwrap(self, variable) -> tf.Variable | None:
        """The `tf.Variable` inside what the library itself calls a variable; None for anything else."""
        return None

    def dependencies(self, optimizer) -> dict:
        """By any keys all that a traced step may depend on. It is traced anew when one of them is another object."""
        return {name: value for name, value in vars(optimizer).items() if name != STEPS_ATTRIBUTE}

    def adapter(self, optimizer) -> Adapter | None:
        library_class = self.library_class(self.inner(optimizer))
        return None if library_class is None else self.adapters.get(library_class.__name__)

    def overridden(self, optimizer) -> str | None:
        """The name of a hook that a user's subclass overrides, or None."""
        library_class = self.library_class(optimizer)
        mro = optimizer.__class__.__mro__
        for c in mro[: mro.index(library_class)]:
            for name in sorted(self.hooks & vars(c).keys()):
                return f"{c.__name__}.{name}"
        held = vars(optimizer)
        # Asked at each step of a fused optimizer, and then quicker than the names are found.
        if not self.hooks.isdisjoint(held):
            return f"the instance's {min(self.hooks & held.keys())}"
        return None

    def unsupported_option(self, optimizer, variables: list[tf.Variable]) -> str | None:
        """An option of this instance that the op does not take over for these variables, or None."""
        return None

    def option_numbers(self, optimizer) -> dict[str, float]:
        """`StepOptions.numbers`, which need no variable."""
        return {}

    def find_step_reason(self, optimizer, variables: list) -> str | None:
        """Why a step taken now, of variables as users know them, is stock's, as only the library knows; or None."""
        return None

    def check_gradients(self, gradients: list, variables: list) -> None:
        """Raises a TypeError for gradients that the optimizer's own method would not survive."""
        return None

    def sparse(self, optimizer, adapter: Adapter) -> SparseUpdate:
        """What becomes of a sparse gradient."""
        return adapter.sparse(self.inner(optimizer))

    def unsupported_sparse(self, optimizer, variable) -> str | None:
        """What of this instance, or of a variable as users know it, stock refuses with a sparse gradient, or None."""
        return None

    def strategy(self, optimizer) -> tf.distribute.Strategy | None:
        """The `tf.distribute` strategy that an optimizer was made for, if it can take no step under another one."""
        return None

    def options_before_sum(self, optimizer) -> tuple[str, ...]:
        """The names in `option_numbers` of what a step under a strategy with replicas does on each of them before the
        gradients are summed."""
        return ()

    def prepare_on_replica(self, optimizer, gradients: list) -> list:
        """The gradients of a replica, as they are to be summed: with `options_before_sum` applied.

        Args:
          optimizer: built.
          gradients: a replica's.
        """
        return gradients

    def bound_options(self, optimizer, variables: list[tf.Variable]) -> StepOptions:
        """What the optimizer does around its rule. Only after `build`."""
        return StepOptions(self.option_numbers(optimizer))

    def check_variables(self, optimizer, variables: list[tf.Variable]) -> None:
        """Raises an UnknownVariableError if the optimizer was built for other variables. Creates nothing."""
        return None

    @abc.abstractmethod
    def build(self, optimizer, variables: list[tf.Variable]) -> None:
        """Creates what the optimizer itself would create at its first step."""

    @abc.abstractmethod
    def slot(self, optimizer, name: str, variable: tf.Variable) -> tf.Variable:
        """The slot variable of a variable, by the family's name. Only after `build`."""

    def scalar(self, optimizer, name: str) -> tf.Variable:
        """A scalar variable of the optimizer, by the family's name. Only after `build`."""
        raise NotImplementedError(f"{self.name} optimizers have no scalar {name}")

    def iterations(self, optimizer) -> tf.Variable | None:
        """The int64 count of steps taken, None if the optimizer has none. Only after `build`."""
        return None

    @abc.abstractmethod
    def learning_rate(self, optimizer) -> Hyperparameter:
        """The learning rate. Only after `build`."""
