"""One step on variables of which a `tf.distribute` strategy keeps copies: a loss a replica, their sum, and an op a
replica.

All of it is in the cross-replica context, in which the loop is: it calls the replicas for their losses and gradients
only. These are added up by the strategy's own reductions, so the copies stay the same to the bit, and so does all that
is decided of a loss on several machines.
"""

import logging

import tensorflow as tf

from fusemin import graphs
from fusemin.constraints import constrain_copy
from fusemin.families import create_slots, find_family
from fusemin.loop import placement
from fusemin.loop.differentiation import differentiator
from fusemin.loop.step_protocol import StepResult
from fusemin.loop.variable_step import VariableStep, applier, held_by, update_if
from fusemin.loop.variables import unwrap_variable
from fusemin.update.copies import container_of, copies_of
from fusemin.update.fused_step import fused_step
from fusemin.update.gradients import densify
from fusemin.update.plan import Stock
from fusemin.update.reduction import sum_over_replicas
from fusemin.update.replica_binding import bind_replicas
from fusemin.update.replicas import computed_hyperparameters, with_computed
from fusemin.update.replication import check_copies, check_optimizer_of_strategy

_LOGGER = logging.getLogger("fusemin")


class ReplicaStep(VariableStep):
    """The step of `minimize` in the scope of a strategy with replicas, traced on construction in that scope.

    Args:
      strategy: see `replicated_strategy`.
      loss_fn, optimizer, trainable_variables, use_seed, compile_loss, inputs: see `VariableStep`. `loss_fn` gives the
        part of a replica in the loss. Each replica gets a seed of its own, and its share of the rows of the inputs.

    Attributes:
      update: that of the first replica of this machine, if the ops do the update, else None.

    Raises:
      TypeError, ValueError: see `VariableStep`; or the parts of the replicas do not fit each other, or a variable, or
        the optimizer, was made outside of the scope.
      NotImplementedError: the optimizer's own method cannot add up the gradients.
    """

    # A loop that is cancelled between the ops of two replicas leaves copies that differ.
    is_one_op = False

    def __init__(self, strategy, loss_fn, optimizer, trainable_variables, use_seed, compile_loss=False, inputs=()):
        self._strategy, self.update, self._updates = strategy, None, []
        check_shares(inputs, strategy.num_replicas_in_sync)
        check_optimizer_of_strategy(optimizer, strategy)
        seed = tf.TensorSpec([2], tf.int32) if use_seed else None

        def trace(parts: bool):
            """The loss and the gradients of all replicas. With `parts` also the replicas' own before they are added."""
            differentiate, variables = differentiator(loss_fn, trainable_variables, copies=True)
            found: list = []

            def differentiate_replicas(seed, *inputs):
                return _sum_over_replicas(strategy, differentiate, variables, found, seed, inputs, compile_loss, parts)

            return graphs.trace(differentiate_replicas, seed, *inputs), found

        self._differentiate, self.variables = trace(parts=False)
        operations = self._differentiate.graph.get_operations()
        self._num_loss_ops, self.effects = len(operations), graphs.has_effects(operations)
        self.gpus = placement.gpus_of(copy for v in self.unwrapped for copy in copies_of(v))
        loss, gradients, _ = self._differentiate.structured_outputs
        self._describe(loss, gradients[0])
        bound = bind_replicas(optimizer, self.variables, gradients[0], strategy)
        if not isinstance(bound, Stock):
            self._updates, self.update = bound, bound[0]
            _LOGGER.debug("rule '%s' updates %d variables, an op a replica", self.update.rule, len(self.variables))
            return
        self._check_adds_up(optimizer, bound.reason)
        _LOGGER.debug("%s.apply_gradients does the update: %s", type(optimizer).__name__, bound.reason)
        graphs.release(self._differentiate)
        self._differentiate, self.variables = trace(parts=True)
        create_slots(find_family(optimizer), optimizer, self.variables, strategy)
        apply = applier(optimizer, self.variables)

        def apply_on_replicas(parts):
            strategy.run(lambda: apply(parts[_position(strategy)]))
            return ()

        parts = self._differentiate.structured_outputs[2]
        self._apply = graphs.trace(apply_on_replicas, tf.nest.map_structure(tf.type_spec_from_value, parts))

    def _check_adds_up(self, optimizer, reason: str) -> None:
        family = find_family(optimizer)
        if family is None or not family.updates_replicas:
            raise NotImplementedError(
                f"`minimize` in a `{type(self._strategy).__name__}.scope()` takes the optimizers of keras, tf_keras, "
                f"tf_keras.optimizers.legacy and fusemin.optimizers: {reason}, and its own `apply_gradients` may not "
                "add up the gradients of the replicas. Use one of these, or call `minimize` outside of the scope, on "
                "variables made outside."
            )

    def num_ops(self) -> int:
        """How many ops a step traced so far has."""
        update = len(self._updates) or len(self._apply.graph.get_operations())
        return self._num_loss_ops + update

    def __call__(
        self, state, *, seed, inputs, sources, buffers, row, row_offset, in_loop, needs_parameters, before_update, gate
    ) -> StepResult:
        """See `fusemin.loop.step_protocol`."""
        loss, gradients, parts = self._differentiate(seed, *inputs)

        def update():
            if self.update is None:
                self._apply(parts)
                return list(buffers)
            written = list(buffers)
            # For all by one replica's count, which its op advances.
            computed = computed_hyperparameters(self.update)
            for replica, one in enumerate(with_computed(bound, computed) for bound in self._updates):
                with tf.device(one.variables[0].device):
                    if replica == 0:
                        written = fused_step(one, gradients[0], loss, sources, buffers, row, row_offset, in_loop)
                    else:
                        fused_step(one, gradients[replica], loss=None)
                    for variable, copy in zip(self.variables, one.variables, strict=True):
                        constrain_copy(variable, copy)
            return written

        allowed = None if gate is None else gate(loss, gradients[0])
        if allowed is not None and self.update is None:
            raise NotImplementedError(
                "in the scope of a tf.distribute strategy `on_nonfinite` other than 'continue' is for fused "
                "optimizers: replicas cannot meet for the optimizer's own `apply_gradients` on a condition"
            )
        buffers = update_if(allowed, update, buffers)
        first = [copies_of(v)[0] for v in self.unwrapped]
        return StepResult(
            state=state,
            loss=loss,
            gradients=[densify(g, v) for g, v in zip(gradients[0], first, strict=True)],
            parameters=[v.read_value() for v in first] if needs_parameters else [],
            optimizer_state=(),
            buffers=buffers,
        )

    @property
    def variables_of_update(self) -> list[tf.Variable]:
        """What the ops of all replicas read or write, where they do the update."""
        return [variable for update in self._updates for variable in held_by(update)]


def _position(strategy) -> int:
    """Which of the replicas of this machine the code of a replica is traced for."""
    replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
    return int(replica) % len(strategy.extended.worker_devices)


def _sum_over_replicas(strategy, differentiate, variables, found, seed, inputs, compile_loss, parts):
    """What is traced of a step before the update.

    Args:
      strategy: whose replicas are called.
      differentiate, variables: see `differentiator`.
      found: where the variables are left, as the user, or the strategy, knows them.
      seed, inputs: of all replicas.
      compile_loss: whether XLA compiles it on each replica.
      parts: whether the replicas' own gradients are wanted too.

    Returns:
      The loss, on the first replica; for each replica of this machine all gradients; and with `parts` the same of those
      that were not added up.
    """
    number = strategy.num_replicas_in_sync
    replicas: list[tuple] = []

    def on_replica():
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group
        own_seed = seed if seed is None or number == 1 else tf.random.experimental.stateless_fold_in(seed, replica)
        own = tf.nest.map_structure(lambda rows: _share(rows, replica, number), inputs)
        function = differentiate
        if compile_loss:
            function = graphs.trace(
                differentiate, *tf.nest.map_structure(tf.type_spec_from_value, (own_seed, *own)), jit_compile=True
            )
        loss, gradients = function(own_seed, *own)
        replicas.append((loss.shape, [_as_known(v) for v in variables]))
        _check_alike(*replicas[0], *replicas[-1])
        return loss, gradients

    losses, gradients = strategy.run(on_replica)
    found[:] = replicas[0][1]
    containers = [unwrap_variable(v) for v in found]
    check_copies(containers, strategy)
    # The loss goes where the gradients go.
    pairs = [(losses, containers[0] if containers else losses), *zip(gradients, containers, strict=True)]
    local = [strategy.experimental_local_results(value) for value in sum_over_replicas(strategy, pairs)]
    own_parts = [strategy.experimental_local_results(g) for g in gradients] if parts else []

    def of_each_replica(values):
        return [[of_replicas[i] for of_replicas in values] for i in range(len(replicas))]

    return local[0][0], of_each_replica(local[1:]), of_each_replica(own_parts)


def _as_known(variable):
    """A variable that code of a replica read, as the user knows it: what a strategy keeps for one of its copies."""
    # Not that inside of a variable of Keras, which knows its constraint.
    return (container_of(variable) or variable) if isinstance(variable, tf.Variable) else variable


def _check_alike(shape, variables, other_shape, other_variables) -> None:
    """Raises a ValueError if what two replicas gave cannot be added up: losses of these shapes, gradients of these
    variables."""
    if shape.as_list() != other_shape.as_list():
        raise ValueError(
            "the losses of the replicas must have one shape, to be added up; `loss_fn` returned one of shape "
            f"{shape} and one of {other_shape}"
        )
    if [id(v) for v in variables] != [id(v) for v in other_variables]:
        raise ValueError(
            "the losses of the replicas must depend on the same variables; `loss_fn` reads "
            f"{_names(variables)} on one, {_names(other_variables)} on another. Add 0 times what a replica does not "
            "use."
        )


def _names(variables) -> str:
    return ", ".join(f"'{v.name}'" for v in variables)


def _share(rows: tf.Tensor, replica: tf.Tensor, number: int) -> tf.Tensor:
    """The rows of a replica, of a batch for all."""
    if number == 1:
        return rows
    share = rows.shape[0] // number
    own = rows[replica * share : (replica + 1) * share]
    return tf.ensure_shape(own, [share, *rows.shape[1:]])


def check_shares(inputs, number: int) -> None:
    """Raises a ValueError if batches of these TensorSpecs cannot be divided among so many replicas."""
    for spec in tf.nest.flatten(inputs):
        if number > 1 and (spec.shape.rank == 0 or spec.shape[0] % number):
            rows = "no rows" if spec.shape.rank == 0 else f"{spec.shape[0]} rows"
            raise ValueError(
                f"the batches of `data` have {rows}, which cannot be divided among {number} replicas, each of which "
                "gets its share"
            )
