"""An optimizer bound to variables: its slots created, and all that the op needs found."""

import threading

import tensorflow as tf

from fusemin import graphs
from fusemin._build import RULES
from fusemin.families.contract import check_options, held
from fusemin.families.family import Adapter, Family, FusedUpdate, Hyperparameter
from fusemin.families.numbers import as_hyperparameter

_BUILDING = threading.RLock()


def create_slots(family: Family, optimizer, variables: list, strategy: tf.distribute.Strategy | None = None) -> None:
    """Has an optimizer create its slots, as it would at its first step. Keras names them after its own variables.

    With a strategy there is a copy of each for each of its replicas.
    """
    in_function = tf.inside_function()

    def build():
        family.build(optimizer, variables)

    # Slots outlive the function that is being traced, as do those that stock creates. A Keras optimizer calls itself
    # built before it has its slots, so a second thread must not look at it meanwhile.
    with _BUILDING, tf.init_scope():
        # With replicas a function of its own could not lift what it makes for the second one out of the first one's.
        one_replica = tf.distribute.get_strategy().num_replicas_in_sync == 1
        if strategy is not None:
            # A scope that was entered in the function that is traced is not there outside of it; and TensorFlow cannot
            # lift copies out of a function.
            with strategy.scope():
                build()
        elif in_function and one_replica and family.builds_in_functions and tf.executing_eagerly():
            # A user's function may make no variable after it was first traced, one inside of it may, as stock's has.
            graphs.trace(build)
        else:
            build()


def hyperparameters(family: Family, adapter: Adapter, optimizer) -> dict[str, Hyperparameter]:
    """The hyperparameters of a bound optimizer, not of what wraps it, by the rule's names; may hold more."""
    values = {"learning_rate": family.learning_rate(optimizer), **adapter.hyperparameters(optimizer)}
    return {name: as_hyperparameter(value) for name, value in values.items()}


def bind(family: Family, adapter: Adapter, optimizer, rule: str, variables: list, unwrapped: list) -> FusedUpdate:
    """Binds an optimizer to variables, creating its slots as the optimizer itself would.

    Args:
      family: of the optimizer.
      adapter: of the optimizer.
      optimizer: one without a reason to fall back.
      rule: what the adapter names for it.
      variables: as the user knows them.
      unwrapped: the `tf.Variable`s inside.

    Raises:
      UnknownVariableError: the optimizer was built for other variables.
      AdapterError: the optimizer has no slot or scalar by a name that the adapter gives, or there is no such option.
    """
    family.check_variables(optimizer, unwrapped)
    create_slots(family, optimizer, variables)
    inner = family.inner(optimizer)
    needed, options = RULES[rule], family.bound_options(optimizer, unwrapped)
    check_options(family, options.numbers)
    return FusedUpdate(
        rule=rule,
        variables=unwrapped,
        slots=[[held(family, adapter, inner, "slots", name, v) for name in needed["slots"]] for v in unwrapped],
        scalars=[held(family, adapter, inner, "scalars", name) for name in needed["scalars"]],
        iterations=family.iterations(inner),
        hyperparameters=hyperparameters(family, adapter, inner),
        options=options,
        sparse=family.sparse(optimizer, adapter),
    )
