"""The step of `minimize` on replicas, bound: as on one device, on the copies of each."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from fusemin.families import FusedUpdate, create_slots, find_family
from fusemin.update.copies import container_of
from fusemin.update.plan import Stock, find_placement_reason, plan
from fusemin.update.replicas import parts_of_replicas


def bind_replicas(
    optimizer, variables: Sequence, gradients: Sequence, strategy: tf.distribute.Strategy
) -> list[FusedUpdate] | Stock:
    """Binds an optimizer once for each replica of this machine, with all of its options: they apply to the sum.

    To be called in the scope of the strategy, outside of its replicas.

    Args:
      optimizer: any.
      variables: as the user knows them, kept by the strategy.
      gradients: of the first replica.
      strategy: one of `plan.REPLICATED`.

    Returns:
      For each replica the bound optimizer; or the reason for the optimizer's own step.

    Raises:
      UnknownVariableError: the optimizer was built for other variables.
    """
    planned = plan(optimizer, variables, gradients)
    if isinstance(planned, Stock):
        return planned
    if planned.shards is not None:
        return Stock("its slots are in parts (`shard_slots=True`), so that `apply_gradients` shares the update out")
    create_slots(find_family(optimizer), optimizer, list(variables), strategy)
    bound = planned.bind()
    if isinstance(bound, Stock):
        return bound
    parts = parts_of_replicas(strategy, bound, [container_of(v) or v for v in planned.unwrapped])
    if isinstance(parts, Stock):
        return parts
    updates = [part.update for part in parts]
    reasons = (find_placement_reason(update, planned.context) for update in updates)
    reason = next((reason for reason in reasons if reason is not None), None)
    return updates if reason is None else Stock(reason)


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
