"""The step of `minimize` on replicas, bound: as on one device, on the copies of each."""

from collections.abc import Sequence

import tensorflow as tf

from fusemin.families import FusedUpdate, create_slots
from fusemin.update.copies import container_of
from fusemin.update.plan import Stock, plan
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
    create_slots(planned.family, optimizer, list(variables), strategy)
    bound = planned.bind()
    if isinstance(bound, Stock):
        return bound
    parts = parts_of_replicas(planned, bound, [container_of(v) or v for v in planned.unwrapped])
    return parts if isinstance(parts, Stock) else [part.update for part in parts]
