"""A step under a `tf.distribute` strategy that keeps a copy of each variable for each replica.

As in the libraries, each replica first does to its gradients what is done before a sum, the gradients of all replicas
are summed in one call of TensorFlow, and then each replica updates its own copies by the same numbers; here by one op,
which does all that comes after the sum: the optimizer has an operation for each variable, and for each of its options.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fusemin import _compat, families, graphs
from fusemin.constraints import constrain_copy
from fusemin.families.family import StepOptions
from fusemin.update.copies import container_of, copies_of, copy_of
from fusemin.update.fused_step import fused_step
from fusemin.update.plan import Fused, Stock, find_placement_reason
from fusemin.update.stock_ops import is_stock


def take_on_replicas(planned: Fused, gradients: Sequence, summed: bool) -> Fused | Stock:
    """Takes the step of the replica that calls this, together with all others, and applies the constraints.

    Args:
      planned: for a strategy of `plan.REPLICATED`.
      gradients: of this replica, a tensor or slices for each variable.
      summed: whether they are summed over the replicas already.

    Returns:
      `planned`; or why nothing was done, on all replicas alike.
    """
    if tf.distribute.in_cross_replica_context():
        return Stock("the step is not inside of `strategy.run`")
    if not _compat.replicas_meet():
        return Stock("XLA compiles what each replica does on its own, so that they do not meet for the update")
    # A replica may have a thread of its own, where no context is open that is open around `strategy.run`.
    if tf.distribute.get_replica_context().merge_call(lambda strategy: is_stock()):
        return Stock("this is inside of fusemin.stock()")
    strategy = planned.context.strategy
    containers = [container_of(v) or v for v in planned.unwrapped]
    bound = planned.bind()
    if isinstance(bound, Stock):
        return bound
    updates = updates_of_replicas(
        strategy, bound, containers, done=planned.family.options_before_sum(planned.optimizer)
    )
    if isinstance(updates, Stock):
        return updates
    reasons = (find_placement_reason(update, planned.context) for update in updates)
    reason = next((reason for reason in reasons if reason is not None), None)
    if reason is not None:
        return Stock(reason)
    prepared = planned.family.prepare_on_replica(planned.optimizer, list(gradients))
    computed = _compute(bound)

    def update(strategy, gradients, computed):
        if not summed:
            gradients = _sum(strategy, gradients, containers)
        for i, update in enumerate(updates):
            own = _with_computed(update, {key: copy_of(value, i) for key, value in computed.items()})
            with tf.device(update.variables[0].device):
                fused_step(own, [copy_of(g, i) for g in gradients], loss=None)
                for variable, copy in zip(planned.variables, update.variables, strict=True):
                    constrain_copy(variable, copy)

    tf.distribute.get_replica_context().merge_call(graphs.without_autograph(update), args=(prepared, computed))
    return planned


def _sum(strategy, gradients: list, containers: list) -> list:
    """The sums over all replicas, which each of them gets."""
    sums = list(gradients)
    # As in the libraries, a tensor that is one for all replicas is taken for the sum.
    is_one_replica = len(strategy.extended.worker_devices) == 1
    own = [k for k, g in enumerate(gradients) if is_one_replica or isinstance(g, tf.distribute.DistributedValues)]
    pairs = [(gradients[k], containers[k]) for k in own]
    if pairs:
        summed = strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs)
        for k, value in zip(own, summed, strict=True):
            sums[k] = value
    return sums


def updates_of_replicas(
    strategy, bound: families.FusedUpdate, containers: list, done
) -> list[families.FusedUpdate] | Stock:
    """For each replica of this machine its update.

    Args:
      strategy: that keeps the copies.
      bound: the optimizer, bound to variables with several copies.
      containers: these variables.
      done: names of the options that replicas have applied to their gradients.
    """
    number = len(strategy.extended.worker_devices)
    options = bound.options
    kept = [
        *containers,
        *(slot for slots in bound.slots for slot in slots),
        *(*bound.scalars, bound.iterations, *options.averages, *options.accumulators, *options.loss_scale),
    ]
    for variable in kept:
        if len(copies_of(variable)) != number:
            return Stock(f"'{variable.name}' was made outside of the strategy's scope")

    def local(i: int) -> families.FusedUpdate:
        def own(values):
            return [copy_of(value, i) for value in values]

        return dataclasses.replace(
            bound,
            variables=own(containers),
            slots=[own(slots) for slots in bound.slots],
            scalars=own(bound.scalars),
            iterations=own([bound.iterations])[0],
            hyperparameters={
                name: own([value])[0] if isinstance(value, tf.Variable) else value
                for name, value in bound.hyperparameters.items()
            },
            options=StepOptions(
                {name: number for name, number in options.numbers.items() if name not in done},
                options.decays,
                own(options.averages),
                own(options.accumulators),
                own(options.loss_scale),
            ),
        )

    return [local(i) for i in range(number)]


def _compute(bound: families.FusedUpdate) -> dict[tuple[str, str], Any]:
    """The hyperparameters that are computed for each step, by name and dtype; by each replica, as in the libraries, and
    before any of them counts the step."""
    dtypes = list(dict.fromkeys(v.dtype for v in bound.variables))
    functions = {
        name: value
        for name, value in bound.hyperparameters.items()
        if callable(value) and not isinstance(value, tf.Variable)
    }
    return {
        (name, dtype.name): tf.convert_to_tensor(function(dtype))
        for name, function in functions.items()
        for dtype in dtypes
    }


def _with_computed(update: families.FusedUpdate, computed: dict) -> families.FusedUpdate:
    """An update whose hyperparameters were computed before."""

    def known(name: str) -> Callable:
        return lambda dtype: computed[name, dtype.name]

    values = {name: known(name) for name, _ in computed}
    return dataclasses.replace(update, hyperparameters={**update.hyperparameters, **values})
