"""The step of a fused optimizer: taken by the op if it can be, at every call anew."""

import dataclasses
import logging
import numbers
import weakref
from collections.abc import Callable, Sequence

import tensorflow as tf

from fusemin import families, graphs
from fusemin import gradients as of_gradients
from fusemin.constraints import constrain
from fusemin.fused_step import fused_step
from fusemin.variables import unwrap_variable

_LOGGER = logging.getLogger("fusemin")

# A traced step is thrown away when an attribute of the optimizer changes. Tracing takes as long as several steps of
# stock, so an optimizer with an attribute that changes all the time is left to stock until it has been quiet.
MAX_CHANGES = 8
QUIET_STEPS = 8


def _find_reason(optimizer, gradients: Sequence, variables: Sequence, unwrapped: list[tf.Variable]) -> str | None:
    """Why the op cannot take a step of this optimizer with these gradients of these variables, or None."""
    reason = families.find_fallback_reason(optimizer, unwrapped)
    for gradient, variable in zip(gradients, unwrapped, strict=True):
        reason = reason or of_gradients.find_gradient_reason(gradient, variable)
    if reason is not None:
        return reason
    if len(set(map(id, unwrapped))) < len(unwrapped):
        return "a variable stands twice"
    sparse = [v for g, v in zip(gradients, variables, strict=True) if of_gradients.is_sparse(g)]
    return families.find_sparse_reason(optimizer, sparse)


@dataclasses.dataclass(frozen=True)
class _EagerFunction:
    """A step on certain variables, traced. Refers neither to the optimizer nor to the variables.

    Attributes:
      function: of the gradients, and of the values of `computed`.
      computed: name and dtype of each hyperparameter that is computed anew for each step.
      references: weak, to the variables.
    """

    function: Callable
    computed: list[tuple[str, tf.DType]]
    references: list[weakref.ref]

    def __call__(self, optimizer, gradients, variables) -> None:
        values = []
        if self.computed:
            # By Python, as stock does it. Bound anew, since what is bound refers to the optimizer: kept here, it would
            # be a cycle, and slots as large as the model would wait for the garbage collector. Hyperparameters are the
            # same for all variables, so one is enough.
            hyperparameters = families.bind(optimizer, variables[:1]).hyperparameters
            values = [tf.convert_to_tensor(hyperparameters[name](dtype)) for name, dtype in self.computed]
        graphs.call(self.function, [*of_gradients.flatten(gradients), *values])


def _trace(optimizer, variables: list[tf.Variable], kinds: tuple, forget: Callable) -> _EagerFunction:
    """Traces the step. An eager op takes as long, but what it is called with refers to variables and optimizer.

    Args:
      optimizer: one that can be bound.
      variables: what to update.
      kinds: of the gradients, see `fusemin.gradients.kinds`.
      forget: called with a weak reference when one of the variables is gone.
    """
    update = families.bind(optimizer, variables)
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
    function = _EagerFunction(graphs.trace(step, *specs), computed, [weakref.ref(v, forget) for v in variables])
    weakref.finalize(function, graphs.release, function.function).atexit = False
    return function


class OwnStep:
    """The step of one fused optimizer, which holds it and is handed to each of its methods.

    Thread-safe as far as the optimizer is.
    """

    def __init__(self):
        self._functions: dict[tuple, _EagerFunction] = {}  # By identity of the variables and kinds of the gradients.
        self._attributes: dict = {}  # Of the optimizer, when the functions were traced.
        self._num_changes = 0
        self._num_quiet = 0
        self._logged = None

    def __reduce__(self):
        # Copies start without functions: these are of other variables.
        return OwnStep, ()

    def take(self, optimizer, gradients: Sequence, variables: Sequence, reason: str | None = None) -> bool:
        """Takes a step if the op can, and applies the constraints of the variables.

        Args:
          optimizer: the one that holds this.
          gradients: what the user gave; anything.
          variables: as the optimizer takes them.
          reason: why the step must not be taken, if the caller knows of one.

        Returns:
          Whether the step was taken. If not, nothing was changed, and the reason is in the debug log.
        """
        if reason is not None:
            return self._refuse(optimizer, reason)
        try:
            unwrapped = [unwrap_variable(v) for v in variables]
        except TypeError:
            return self._refuse(optimizer, "there is a variable of a kind that is not known")
        reason = _find_reason(optimizer, gradients, variables, unwrapped)
        if reason is None:
            reason = (self._take_eagerly if tf.executing_eagerly() else self._take_in_graph)(
                optimizer, gradients, variables, unwrapped
            )
        if reason is not None:
            return self._refuse(optimizer, reason)
        for variable in variables:
            constrain(variable)
        return True

    def _refuse(self, optimizer, reason: str) -> bool:
        self._log(f"{type(optimizer).__name__} takes its own step: {reason}")
        return False

    def _log(self, message: str) -> None:
        # Once, not at each of a million steps.
        if message != self._logged:
            _LOGGER.debug(message)
            self._logged = message

    def _take_in_graph(self, optimizer, gradients, variables, unwrapped) -> str | None:
        """Adds the op to the graph that is being built. Returns a reason if it cannot."""
        if not _orders_side_effects(tf.compat.v1.get_default_graph()):
            return "the graph is one of TensorFlow 1, where a session runs what `apply_gradients` returns"
        reason = _build(optimizer, variables, unwrapped)
        if reason is None:
            fused_step(families.bind(optimizer, unwrapped), gradients, loss=None)
            self._log_fused(optimizer, unwrapped)
        return reason

    def _take_eagerly(self, optimizer, gradients, variables, unwrapped) -> str | None:
        """Runs the traced step. Returns a reason if it cannot."""
        self._note_changes(optimizer)
        kinds = of_gradients.kinds(gradients)
        key = (tuple(map(id, unwrapped)), kinds)
        function = self._functions.get(key)
        if function is None:
            if self._num_changes > MAX_CHANGES:
                return "its attributes change from step to step"
            reason = _build(optimizer, variables, unwrapped)
            if reason is not None:
                return reason
            function = _trace(optimizer, unwrapped, kinds, _Forget(self, key))
            self._functions[key] = function
            self._attributes = _attributes(optimizer)  # Building and binding may have set some.
            self._log_fused(optimizer, unwrapped)
        function(optimizer, gradients, unwrapped)
        return None

    def _log_fused(self, optimizer, variables):
        self._log(f"rule '{families.rule_name(optimizer)}' updates {len(variables)} variables in one op")

    def _note_changes(self, optimizer) -> None:
        """Drops the traced steps if the optimizer is not as it was."""
        attributes = _attributes(optimizer)
        if attributes.keys() == self._attributes.keys() and all(
            _is_same(value, self._attributes[name]) for name, value in attributes.items()
        ):
            self._num_quiet += 1
            if self._num_quiet >= QUIET_STEPS:
                self._num_changes = 0
            return
        self._functions.clear()
        self._attributes = attributes
        self._num_quiet = 0
        self._num_changes += 1

    def forget(self, key) -> None:
        """Drops the traced step of variables that are gone."""
        self._functions.pop(key, None)


class _Forget:
    """Called when a variable is gone. Refers to the OwnStep weakly, or there were a cycle."""

    def __init__(self, own_step, key):
        self._own_step = weakref.ref(own_step)
        self._key = key

    def __call__(self, _):
        own_step = self._own_step()
        if own_step is not None:
            own_step.forget(self._key)


def _build(optimizer, variables, unwrapped) -> str | None:
    """Has the optimizer create its slots, as at the first step of its own. Returns a reason if it refuses."""
    try:
        families.find_family(optimizer).check_variables(optimizer, unwrapped)
    except ValueError as error:  # The optimizer has an error of its own for this.
        return str(error)
    families.build(optimizer, list(variables))
    return families.find_placement_reason(families.bind(optimizer, unwrapped))


def _orders_side_effects(graph) -> bool:
    """Whether the op will run in a graph without being returned: in a `tf.function`, or a loop or trial inside one."""
    while graph is not None:
        if graph._add_control_dependencies:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def _attributes(optimizer) -> dict:
    """All that a bound step may depend on: the attributes, also of an inner optimizer, and the hyperparameters of
    legacy optimizers."""
    held = vars(optimizer)
    attributes = {name: value for name, value in held.items() if not isinstance(value, OwnStep)}
    inner = families.find_family(optimizer).inner(optimizer)
    nested = (("inner", vars(inner) if inner is not optimizer else {}), ("_hyper", held.get("_hyper", {})))
    for kind, values in nested:
        attributes.update({(kind, name): v for name, v in values.items() if not isinstance(v, OwnStep)})
    return attributes


def _is_same(a, b) -> bool:
    return a is b or (isinstance(a, numbers.Number | str) and type(a) is type(b) and a == b)
