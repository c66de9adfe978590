"""The whole step of an optimizer, bound to the copies that each replica of a `tf.distribute` strategy has."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from fusemin import families
from fusemin.families import FusedUpdate, create_slots
from fusemin.update.copies import copy_of
from fusemin.update.plan import Context, Stock, find_placement_reason, plan


def bind_replicas(
    optimizer, variables: Sequence, gradients: Sequence[Sequence], strategy: tf.distribute.Strategy
) -> list[FusedUpdate] | Stock:
    """Binds an optimizer once for each replica of this machine: the step of one device, on the replica's copies of the
    variables, slots, scalars and counts.

    To be called in the cross-replica context.

    Args:
      optimizer: any.
      variables: that the strategy keeps copies of, as `tf.Variable`s.
      gradients: for each replica of this machine those of its copies.
      strategy: in whose scope it is called.

    Returns:
      For each replica the bound optimizer; or the reason for stock's step, with nothing created.

    Raises:
      UnknownVariableError: the optimizer was built for other variables.
    """
    family = families.find_family(optimizer)
    if family is not None and not family.knows_copies:
        return Stock(f"{family.name} optimizers do not find their variables by the copies of a strategy")
    replicas, context = range(len(gradients)), dataclasses.replace(Context.here(), strategy=None)
    own = [[copy_of(v, i) for v in variables] for i in replicas]
    planned = [plan(optimizer, own[i], gradients[i], context) for i in replicas]
    refused = next((p for p in planned if isinstance(p, Stock)), None)
    if refused is not None:
        return refused
    create_slots(family, optimizer, list(variables), strategy)
    updates = []
    for i, p in enumerate(planned):
        bound = families.bind(p.family, p.adapter, optimizer, p.rule, p.variables, p.unwrapped)
        updates.append(_on_copies(bound, i))
        reason = find_placement_reason(updates[-1], context)
        if reason is not None:
            return Stock(reason)
    return updates


def _on_copies(update: FusedUpdate, replica: int) -> FusedUpdate:
    """A bound optimizer with a replica's copies of all variables in it."""

    def of_replica(variables):
        return [copy_of(v, replica) for v in variables]

    options = update.options
    return dataclasses.replace(
        update,
        slots=[of_replica(slots) for slots in update.slots],
        scalars=of_replica(update.scalars),
        iterations=None if update.iterations is None else copy_of(update.iterations, replica),
        hyperparameters={
            name: copy_of(value, replica) if isinstance(value, tf.Variable) else value
            for name, value in update.hyperparameters.items()
        },
        options=dataclasses.replace(
            options,
            averages=of_replica(options.averages),
            accumulators=of_replica(options.accumulators),
            loss_scale=of_replica(options.loss_scale),
        ),
    )


def computed_once(updates: Sequence[FusedUpdate]) -> list[FusedUpdate]:
    """For one step, whose ops are then built replica by replica: the updates, with hyperparameters that are computed,
    such as those of a schedule, computed for the first replica only. For the others it would be too late: they are
    computed of the first replica's count, which its op advances."""
    values: dict[tuple[str, tf.DType], tf.Tensor] = {}

    def once(name, compute):
        def value(dtype):
            if (name, dtype) not in values:
                values[name, dtype] = compute(dtype)
            return values[name, dtype]

        return value

    def is_computed(value):
        return callable(value) and not isinstance(value, tf.Variable)

    return [
        dataclasses.replace(
            update,
            hyperparameters={
                name: once(name, value) if is_computed(value) else value
                for name, value in update.hyperparameters.items()
            },
        )
        for update in updates
    ]
