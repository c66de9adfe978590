"""The update of each replica of a `tf.distribute` strategy: an op a replica, where stock has several for each variable.

Loss scale, clipping and decay before it, the sum of the gradients over the replicas, moving averages and the count of
steps after it are the optimizer's own, so that they are what they are without fusemin.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from fusemin import families
from fusemin._build import RULES
from fusemin.families.family import StepOptions
from fusemin.update.fused_step import fused_step
from fusemin.update.plan import REPLICATED, Context, plan


def update_replicas(optimizer, strategy, gradients: Sequence, variables: Sequence) -> str | None:
    """Has the op update the copies of all variables that are on this machine, once for each replica.

    To be called in the cross-replica context, as the libraries do by `merge_call`.

    Args:
      optimizer: one whose library does all of a step but the update.
      strategy: it is called under.
      gradients: for each variable its gradients, which the strategy keeps and which are the same on all replicas.
      variables: as the strategy keeps them.

    Returns:
      None; or why nothing was done.
    """
    family = families.find_family(optimizer)
    if family is None or not family.updates_replicas or not isinstance(strategy, REPLICATED):
        return "the strategy or the optimizer is not one whose replicas the op updates"
    if not tf.distribute.in_cross_replica_context():
        return "the replicas do not meet for the update"
    replicas = range(len(strategy.experimental_local_results(variables[0])))

    def local(value, i):
        # What is not kept for each replica is one for all.
        results = strategy.experimental_local_results(value)
        return results[i] if len(results) == len(replicas) else results[0]

    # All is found before anything is written.
    updates = []
    for i in replicas:
        own_gradients, own_variables = ([local(value, i) for value in values] for values in (gradients, variables))
        update = _bind(optimizer, own_variables, own_gradients, lambda value, i=i: local(value, i))
        if isinstance(update, str):
            return update
        updates.append((update, own_gradients))
    for update, own_gradients in updates:
        with tf.device(update.variables[0].device):
            fused_step(update, own_gradients, loss=None, advance=False)
    return None


def _bind(optimizer, variables, gradients, local) -> families.FusedUpdate | str:
    """The update of a replica, bound; or why there is none.

    Args:
      optimizer: see `update_replicas`.
      variables: the replica's.
      gradients: the replica's.
      local: function of what the strategy keeps for each replica, returns the replica's.
    """
    planned = plan(optimizer, variables, gradients, dataclasses.replace(Context.here(), strategy=None))
    if planned.reason is not None:
        return planned.reason
    if RULES[planned.rule]["scalars"] or RULES[planned.rule]["step_sums"]:
        return f"rule '{planned.rule}' has scalars of its own, which the library advances"
    bound = families.bind(
        planned.family, planned.adapter, optimizer, planned.rule, planned.variables, planned.unwrapped
    )
    bound = dataclasses.replace(
        bound,
        slots=[[local(slot) for slot in slots] for slots in bound.slots],
        iterations=local(bound.iterations),
        hyperparameters={
            name: local(value) if isinstance(value, tf.Variable) else value
            for name, value in bound.hyperparameters.items()
        },
        options=StepOptions(),
    )
    for variable, slots in zip(bound.variables, bound.slots, strict=True):
        if any(slot.device != variable.device for slot in slots):
            return f"a slot of variable '{variable.name}' is on another device"
    return bound
