"""The fused steps of an optimizer: planned at every call anew, traced once for each list of variables."""

import dataclasses
import logging
import numbers
import weakref
from collections.abc import Callable, Sequence

import tensorflow as tf

from fusemin import _compat, families, graphs
from fusemin.constraints import constrain
from fusemin.update import gradients as of_gradients
from fusemin.update.fused_step import fused_step
from fusemin.update.plan import Fused, Stock, plan
from fusemin.update.replicas import take_on_replicas
from fusemin.update.shards import shards_of

_LOGGER = logging.getLogger("fusemin")

# A traced step is thrown away when an attribute of the optimizer changes. Tracing takes as long as several steps of
# stock, so an optimizer with an attribute that changes all the time is left to stock until it has been quiet.
MAX_CHANGES = 8
QUIET_STEPS = 8


@dataclasses.dataclass(frozen=True)
class _TracedStep:
    """A step on certain variables, traced. Refers neither to the optimizer nor to the variables.

    Attributes:
      function: of the gradients, and of the values of `computed`.
      computed: name and dtype of each hyperparameter that is computed anew for each step.
      references: weak, to the variables.
    """

    function: Callable
    computed: list[tuple[str, tf.DType]]
    references: list[weakref.ref]

    def __call__(self, planned: Fused, gradients) -> None:
        values = []
        if self.computed:
            # By Python, as stock does it. Found anew, since they refer to the optimizer: kept here, they would be a
            # cycle, and slots as large as the model would wait for the garbage collector.
            hyperparameters = planned.hyperparameters()
            values = [tf.convert_to_tensor(hyperparameters[name](dtype)) for name, dtype in self.computed]
        _compat.call_flat(self.function, [*of_gradients.flatten(gradients), *values])


def _trace(update: families.FusedUpdate, kinds: tuple, forget: Callable) -> _TracedStep:
    """Traces the step. An eager op takes as long, but what it is called with refers to variables and optimizer.

    Args:
      update: the bound optimizer.
      kinds: of the gradients, see `fusemin.update.gradients.kinds`.
      forget: called with a weak reference when one of the variables is gone.
    """
    variables = update.variables
    dtypes = list(dict.fromkeys(v.dtype for v in variables))
    names = [name for name, value in update.hyperparameters.items() if callable(value)]
    computed = [(name, dtype) for name in names for dtype in dtypes]
    examples = [tf.convert_to_tensor(update.hyperparameters[name](dtype)) for name, dtype in computed]

    gradient_specs = of_gradients.specs(variables, kinds)

    def step(*arguments):
        gradients = of_gradients.unflatten(arguments[: len(gradient_specs)], kinds)
        values = arguments[len(gradient_specs) :]
        value_of = dict(zip(computed, values, strict=True))
        hyperparameters = dict(update.hyperparameters)
        for name in names:
            hyperparameters[name] = lambda dtype, name=name: value_of[name, dtype]
        fused_step(dataclasses.replace(update, hyperparameters=hyperparameters), gradients, loss=None)
        return ()

    specs = gradient_specs + [tf.TensorSpec(t.shape, t.dtype) for t in examples]
    traced = _TracedStep(graphs.trace(step, *specs), computed, [weakref.ref(v, forget) for v in variables])
    weakref.finalize(traced, graphs.release, traced.function).atexit = False
    return traced


class TracedSteps:
    """The fused steps of one optimizer, which holds them and is handed to each method.

    Thread-safe as far as the optimizer is.
    """

    def __init__(self):
        self._steps: dict[tuple, _TracedStep] = {}  # By identity of the variables and kinds of the gradients.
        self._dependencies: dict = {}  # Of the steps, when they were traced.
        self._num_changes = 0
        self._num_quiet = 0
        self._logged = None

    def __reduce__(self):
        # Copies start without steps: these are of other variables.
        return TracedSteps, ()

    def take(self, optimizer, gradients: Sequence, variables: Sequence, summed: bool = False) -> bool:
        """Takes a fused step if that is the plan, and applies the constraints of the variables.

        Args:
          optimizer: the one that holds this.
          gradients: what the user gave; anything.
          variables: as the optimizer takes them.
          summed: whether the gradients are sums over the replicas of a strategy already.

        Returns:
          Whether the step was taken. If not, nothing was changed, and the reason is in the debug log.
        """
        planned = plan(optimizer, variables, gradients)
        if isinstance(planned, Fused):
            if planned.context.strategy is not None:
                planned = self._take_on_replicas(planned, gradients, summed)
            elif tf.executing_eagerly():
                planned = self._take_eagerly(planned, gradients)
            else:
                planned = self._take_in_graph(planned, gradients)
        if isinstance(planned, Stock):
            if shards_of(optimizer) is not None:
                raise ValueError(
                    f"{type(optimizer).__name__} has its slots in parts (`shard_slots=True`), so that its own step "
                    f"cannot be taken, and the fused one cannot either: {planned.reason}"
                )
            self._log(f"{type(optimizer).__name__} takes its own step: {planned.reason}")
            return False
        if planned.context.strategy is None:
            for variable in variables:
                constrain(variable)
        return True

    def _log(self, message: str) -> None:
        # Once, not at each of a million steps.
        if message != self._logged:
            _LOGGER.debug(message)
            self._logged = message

    def _take_on_replicas(self, planned: Fused, gradients, summed: bool) -> Fused | Stock:
        """Takes the step together with the other replicas, if it can be. Returns what became of the plan."""
        try:
            taken = take_on_replicas(planned, gradients, summed)
        except families.UnknownVariableError as error:
            return Stock(str(error))
        if isinstance(taken, Fused):
            self._log(str(planned))
        return taken

    def _take_in_graph(self, planned: Fused, gradients) -> Fused | Stock:
        """Adds the op to the graph that is being built, if it can. Returns what became of the plan."""
        if not _compat.orders_side_effects(tf.compat.v1.get_default_graph()):
            return Stock("the graph is one of TensorFlow 1, where a session runs what `apply_gradients` returns")
        bound = _bind(planned)
        if isinstance(bound, Stock):
            return bound
        fused_step(bound, gradients, loss=None)
        self._log(str(planned))
        return planned

    def _take_eagerly(self, planned: Fused, gradients) -> Fused | Stock:
        """Runs the traced step, if there can be one. Returns what became of the plan."""
        self._note_changes(planned)
        kinds = of_gradients.kinds(gradients)
        key = (tuple(map(id, planned.unwrapped)), kinds)
        step = self._steps.get(key)
        if step is None:
            if self._num_changes > MAX_CHANGES:
                return Stock("its attributes change from step to step")
            bound = _bind(planned)
            if isinstance(bound, Stock):
                return bound
            step = _trace(bound, kinds, _Forget(self, key))
            self._steps[key] = step
            self._dependencies = planned.dependencies()  # Binding may have set some.
            self._log(str(planned))
        step(planned, gradients)
        return planned

    def _note_changes(self, planned: Fused) -> None:
        """Drops the traced steps if the optimizer is not as it was."""
        dependencies = planned.dependencies()
        if _are_same(dependencies, self._dependencies):
            self._num_quiet += 1
            if self._num_quiet >= QUIET_STEPS:
                self._num_changes = 0
            return
        self._steps.clear()
        self._dependencies = dependencies
        self._num_quiet = 0
        self._num_changes += 1

    def forget(self, key) -> None:
        """Drops the traced step of variables that are gone."""
        self._steps.pop(key, None)


class _Forget:
    """Called when a variable is gone. Refers to the TracedSteps weakly, to avoid a reference cycle."""

    def __init__(self, steps, key):
        self._steps = weakref.ref(steps)
        self._key = key

    def __call__(self, _):
        steps = self._steps()
        if steps is not None:
            steps.forget(self._key)


def _bind(planned: Fused) -> families.FusedUpdate | Stock:
    """`bind`, where stock has an error of its own for variables that it does not know."""
    try:
        return planned.bind()
    except families.UnknownVariableError as error:
        return Stock(str(error))


def _are_same(now: dict, before: dict) -> bool:
    # Asked at each step of a fused optimizer: most of what it holds is the same object as before.
    if now.keys() != before.keys():
        return False
    for name, value in now.items():
        known = before[name]
        if value is not known and not _is_same_number(value, known):
            return False
    return True


def _is_same_number(a, b) -> bool:
    return isinstance(a, numbers.Number | str) and type(a) is type(b) and a == b
