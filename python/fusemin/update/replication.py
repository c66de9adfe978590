"""What `tf.distribute` strategies do not let `minimize` do."""

import tensorflow as tf

from fusemin import _compat


def check_strategy(optimizer_is_known: bool) -> None:
    """Raises a NotImplementedError where a known optimizer would be called under a `tf.distribute` strategy that its
    update does not work in."""
    if not tf.distribute.has_strategy() or not optimizer_is_known:
        return
    strategy = tf.distribute.get_strategy()
    if tf.distribute.in_cross_replica_context():
        raise NotImplementedError(
            f"`minimize` does not work inside of `{type(strategy).__name__}.scope()`, nor does tfp.math.minimize. Call "
            "it outside, on variables made outside."
        )
    if not isinstance(strategy, tf.distribute.OneDeviceStrategy):
        raise NotImplementedError(
            f"`minimize` does not work inside of `{type(strategy).__name__}.run`, nor does tfp.math.minimize: no "
            "optimizer can add up gradients of replicas from inside of a loop. Call it outside, on variables made "
            "outside."
        )


def check_no_copies(variables: list[tf.Variable]) -> None:
    """Raises a NotImplementedError if a `tf.distribute` strategy keeps a copy of a variable on each of several devices,
    of which an optimizer would update one, unless a replica updates its own."""
    if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
        return
    for variable in variables:
        # A strategy's variable has `values`; what a tape sees is one of them, which refers to it weakly.
        container = variable
        if not isinstance(variable, tf.distribute.DistributedValues):
            container = _compat.variable_of_strategy(variable)
        copies = getattr(container, "values", ())
        if len(copies) > 1:
            raise NotImplementedError(
                f"'{variable.name}' was made in the scope of a tf.distribute strategy, which keeps {len(copies)} "
                "copies of it; one of them would be updated. Make the variables of `minimize` outside of the scope."
            )
