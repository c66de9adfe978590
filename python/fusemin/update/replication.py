"""What `tf.distribute` strategies let `minimize` do."""

import tensorflow as tf

from fusemin.families import find_family
from fusemin.update.copies import container_of
from fusemin.update.plan import REPLICATED


def replicated_strategy() -> tf.distribute.Strategy | None:
    """The strategy with replicas in whose scope this is called, or None outside of every scope.

    Raises:
      NotImplementedError: it is one in which `minimize` does not work, or this is inside of its `run`.
    """
    if not tf.distribute.has_strategy():
        return None
    strategy = tf.distribute.get_strategy()
    name, in_scope = type(strategy).__name__, tf.distribute.in_cross_replica_context()
    if isinstance(strategy, tf.distribute.OneDeviceStrategy) and not in_scope:
        return None
    if not in_scope:
        raise NotImplementedError(
            f"`minimize` does not work inside of `{name}.run`, nor does tfp.math.minimize: no optimizer can add up "
            f"gradients of replicas from inside of a loop. Call it outside, in `{name}.scope()`: it runs `loss_fn` on "
            "each replica itself."
        )
    if not isinstance(strategy, REPLICATED):
        raise NotImplementedError(
            f"`minimize` does not work inside of `{name}.scope()`, nor does tfp.math.minimize. Call it outside, on "
            "variables made outside, or in the scope of a MirroredStrategy or MultiWorkerMirroredStrategy."
        )
    return strategy


def one_device_scope() -> tf.distribute.OneDeviceStrategy | None:
    """The OneDeviceStrategy in whose scope, and not in whose `run`, this is called, or None."""
    strategy = tf.distribute.get_strategy()
    is_scope = isinstance(strategy, tf.distribute.OneDeviceStrategy) and tf.distribute.in_cross_replica_context()
    return strategy if is_scope else None


def check_no_copies(variables: list[tf.Variable]) -> None:
    """Raises a NotImplementedError if a `tf.distribute` strategy keeps a copy of a variable on each of several devices,
    of which an optimizer would update one, unless a replica updates its own."""
    if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
        return
    for variable in variables:
        copies = getattr(container_of(variable), "values", ())
        if len(copies) > 1:
            raise NotImplementedError(
                f"'{variable.name}' was made in the scope of a tf.distribute strategy, which keeps {len(copies)} "
                "copies of it; one of them would be updated. Call `minimize` in that scope too, or make the variables "
                "outside of it."
            )


def check_copies(variables: list[tf.Variable], strategy: tf.distribute.Strategy) -> None:
    """Raises a ValueError if a strategy keeps no copies of a variable, which its replicas would all write."""
    for variable in variables:
        container = container_of(variable)
        if getattr(container, "distribute_strategy", None) is not strategy:
            raise ValueError(
                f"'{variable.name}' was made outside of the scope of the {type(strategy).__name__} that `minimize` is "
                "called in, which keeps no copy of it for each replica. Make the variables, and the optimizer, in "
                "`strategy.scope()` too."
            )


def check_optimizer_of_strategy(optimizer, strategy: tf.distribute.Strategy) -> None:
    """Raises a ValueError if an optimizer was made for another strategy: each replica would count its steps."""
    family = find_family(optimizer)
    made_for = None if family is None else family.strategy(family.inner(optimizer))
    if made_for is not None and made_for is not strategy:
        raise ValueError(
            f"`optimizer` ({type(optimizer).__name__}) was made outside of the scope of the "
            f"{type(strategy).__name__} that `minimize` is called in, and keeps no copy of its variables for each "
            "replica. Make the variables, and the optimizer, in `strategy.scope()` too."
        )
