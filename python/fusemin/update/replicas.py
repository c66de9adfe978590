"""A step under a `tf.distribute` strategy that keeps a copy of each variable for each replica.

As in the libraries, each replica first does to its gradients what is done before a sum, the gradients of all replicas
are summed at once, and then each replica updates its own copies by the same numbers; here by one op, which does all
that comes after the sum: the optimizer has an operation for each variable, and for each of its options.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from fusemin import _compat, families, graphs
from fusemin._build import OPTIONS, RULES
from fusemin.constraints import constrain_copy
from fusemin.families.family import StepOptions
from fusemin.update.copies import container_of, copies_of, copy_of
from fusemin.update.fused_step import fused_step, gradient_sums
from fusemin.update.gpu_support import is_on_gpu
from fusemin.update.plan import ACCUMULATION, OVER_ALL, Fused, Stock, find_placement_reason
from fusemin.update.reduction import sum_over_replicas
from fusemin.update.shards import Shards
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
    shards = planned.shards
    containers = [container_of(v) or v for v in planned.unwrapped]
    bound = planned.bind()
    if isinstance(bound, Stock):
        return bound
    if shards is not None:
        reason = _find_reason_of_parts(planned)
        if reason is not None:
            return Stock(reason)
    done = planned.family.options_before_sum(planned.optimizer)
    parts = parts_of_replicas(planned, bound, containers, done)
    if isinstance(parts, Stock):
        return parts
    prepared = planned.family.prepare_on_replica(planned.optimizer, list(gradients))
    computed = computed_hyperparameters(bound)

    def update(strategy, gradients, computed):
        if not summed:
            gradients = _sum(strategy, gradients, containers, shards)
        taken = [
            (
                with_computed(part.update, {key: copy_of(value, i) for key, value in computed.items()}),
                [copy_of(gradients[k], i) for k in part.indices],
            )
            for i, part in enumerate(parts)
        ]
        sums = _sums_of_parts(taken) if shards is not None else []
        for i, (own, own_gradients) in enumerate(taken):
            if not own.variables:
                continue
            with tf.device(own.variables[0].device):
                fused_step(own, own_gradients, loss=None, sums=sums)
                for k, copy in zip(parts[i].indices, own.variables, strict=True):
                    constrain_copy(planned.variables[k], copy)
        if shards is not None:
            _hand_out(parts, containers)

    tf.distribute.get_replica_context().merge_call(graphs.without_autograph(update), args=(prepared, computed))
    return planned


def _find_reason_of_parts(planned: Fused) -> str | None:
    """Why a step cannot be taken where each replica knows the slots of its own variables only; None if it can be."""
    if RULES[planned.rule]["step_sums"]:
        return f"rule '{planned.rule}' has sums over all variables"
    numbers = planned.option_numbers_of_op
    clips = next((name for name in OVER_ALL if name in numbers), None)
    if clips and ACCUMULATION in numbers:
        return f"{clips} is of gradients that were accumulated, each on the replica that owns its variable"
    over_all = next((name for name in numbers if OPTIONS[name]["sums"] == "all_tensors"), None)
    if over_all and any(map(is_on_gpu, planned.unwrapped)):
        return f"{over_all} is over gradients on several GPUs"
    return None


@dataclasses.dataclass(frozen=True)
class Part:
    """What one op updates: the copies of a replica, or those that it owns.

    Attributes:
      update: of these variables.
      indices: their numbers among all variables.
    """

    update: families.FusedUpdate
    indices: list[int]


def _sums_of_parts(taken) -> list[tf.Tensor]:
    """What the ops of all parts must know of the gradients of each other."""
    sums = []
    for own, own_gradients in taken:
        if own.variables:
            with tf.device(own.variables[0].device):
                sums += gradient_sums(own, own_gradients)
    return sums


def _hand_out(parts: list[Part], containers: list) -> None:
    """Gives each replica the variables that others have updated, and counts to one that has updated none."""
    for owner, part in enumerate(parts):
        for k in part.indices:
            _copy(copies_of(containers[k]), owner)
    first = next(i for i, part in enumerate(parts) if part.indices)
    counted = [_counted(part.update) for part in parts]
    for i, part in enumerate(parts):
        if not part.indices:
            for theirs, own in zip(counted[first], counted[i], strict=True):
                _copy([theirs, own], 0)


def _counted(update: families.FusedUpdate) -> list[tf.Variable]:
    """What the op of each replica advances on its own."""
    iterations = [] if update.iterations is None else [update.iterations]
    return [*iterations, *update.scalars, *update.options.loss_scale]


def _copy(copies: list[tf.Variable], owner: int) -> None:
    with tf.device(copies[owner].device):
        value = copies[owner].read_value()
    for i, copy in enumerate(copies):
        if i != owner:
            with tf.device(copy.device):
                copy.assign(value)


def _sum(strategy, gradients: list, containers: list, shards: Shards | None) -> list:
    """The sums over all replicas, which each of them gets, or the owner of a variable if the slots are in parts."""
    sums = list(gradients)
    # As in the libraries, a tensor that is one for all replicas is taken for the sum.
    is_one_replica = len(strategy.extended.worker_devices) == 1
    own = [k for k, g in enumerate(gradients) if is_one_replica or isinstance(g, tf.distribute.DistributedValues)]
    if not own:
        return sums
    if shards is None:
        pairs = [(gradients[k], containers[k]) for k in own]
        summed = sum_over_replicas(strategy, pairs)
    else:
        # TensorFlow's collectives sum for all replicas, whatever the destination; this one sends to one of them.
        devices = strategy.extended.worker_devices
        pairs = [(gradients[k], devices[shards.owner(containers[k])]) for k in own]
        summed = tf.distribute.ReductionToOneDevice().batch_reduce(tf.distribute.ReduceOp.SUM, pairs)
    for k, value in zip(own, summed, strict=True):
        sums[k] = value
    return sums


def parts_of_replicas(
    planned: Fused, bound: families.FusedUpdate, containers: list, done: Sequence[str] = ()
) -> list[Part] | Stock:
    """For each replica of this machine what its op updates; or why the ops cannot.

    Args:
      planned: for a strategy of `plan.REPLICATED`.
      bound: what `planned` binds.
      containers: the variables, with their copies.
      done: names of the options that replicas have applied to their gradients.
    """
    shards, number = planned.shards, len(planned.context.strategy.extended.worker_devices)
    of_variables = [
        *(slot for slots in bound.slots for slot in slots),
        *(*bound.options.averages, *bound.options.accumulators),
    ]
    for variable in (*containers, *_counted(bound), *(of_variables if shards is None else ())):
        if len(copies_of(variable)) != number:
            return Stock(f"'{variable.name}' was made outside of the strategy's scope")

    def part(i: int) -> Part:
        indices = [k for k, c in enumerate(containers) if shards is None or shards.owner(c) == i]
        options = bound.options

        def own(values):
            return [copy_of(value, i) for value in values]

        def chosen(values):
            return [values[k] for k in indices] if values else []

        update = dataclasses.replace(
            bound,
            variables=own(chosen(containers)),
            slots=[own(slots) for slots in chosen(bound.slots)],
            scalars=own(bound.scalars),
            iterations=None if bound.iterations is None else copy_of(bound.iterations, i),
            hyperparameters={
                name: copy_of(value, i) if isinstance(value, tf.Variable) else value
                for name, value in bound.hyperparameters.items()
            },
            options=StepOptions(
                {name: number for name, number in options.numbers.items() if name not in done},
                chosen(options.decays),
                own(chosen(options.averages)),
                own(chosen(options.accumulators)),
                own(options.loss_scale),
            ),
        )
        return Part(update, indices)

    parts = [part(i) for i in range(number)]
    reasons = (find_placement_reason(part.update, planned.context) for part in parts)
    reason = next((reason for reason in reasons if reason is not None), None)
    return parts if reason is None else Stock(reason)


def computed_hyperparameters(bound: families.FusedUpdate) -> dict[tuple[str, str], tf.Tensor]:
    """The hyperparameters that are computed for each step, such as those of a schedule, by name and dtype. To be called
    before a replica counts the step."""
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


def with_computed(update: families.FusedUpdate, computed: Mapping) -> families.FusedUpdate:
    """An update with what `computed_hyperparameters` returned."""

    def known(name: str) -> Callable:
        return lambda dtype: computed[name, dtype.name]

    values = {name: known(name) for name, _ in computed}
    return dataclasses.replace(update, hyperparameters={**update.hyperparameters, **values})
