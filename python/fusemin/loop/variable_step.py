"""One step on variables: loss, gradients, and the update, fused or by the optimizer itself."""

import dataclasses
import logging

import tensorflow as tf

from fusemin import graphs
from fusemin.constraints import constrain, constraint
from fusemin.families import find_family
from fusemin.loop import placement
from fusemin.loop.differentiation import differentiator
from fusemin.loop.step_protocol import StepResult
from fusemin.loop.variables import unwrap_variable
from fusemin.update.fused_step import TraceSource, fused_step
from fusemin.update.gradients import densify, is_finite, is_sparse
from fusemin.update.plan import Stock, plan

_LOGGER = logging.getLogger("fusemin")


class VariableStep:
    """The step of `minimize`, traced on construction in the context at hand (eager, or a graph).

    Args:
      loss_fn: the user's loss.
      optimizer: any object with `apply_gradients`.
      trainable_variables: what to differentiate with respect to, or None for what `loss_fn` reads.
      use_seed: whether the step will be given seeds.
      compile_loss: whether XLA compiles loss and gradients, without the update.
      inputs: TensorSpecs of what else `loss_fn` is called with, a tuple of structures.

    Attributes:
      variables: the variables as the user knows them, in order.
      loss: TensorSpec of the loss.
      gradients, parameters: lists of TensorSpecs.
      update: the bound optimizer if the op does the update, else None.
      effects: whether `loss_fn` does more than return a loss.
      gpus, has_sparse_gradients: see `fusemin.loop.step_protocol`.

    Raises:
      TypeError, ValueError: see `fusemin.arguments`.
    """

    # A loop carries nothing: the state is in the variables.
    initial_state = ()
    optimizer_state = ()

    def __init__(self, loss_fn, optimizer, trainable_variables, use_seed, compile_loss=False, inputs=()):
        self.update, self._skips_by_loss = None, False
        # The functions hold no reference to `self`: without a cycle, graphs are freed as soon as the step is.
        differentiate, variables = differentiator(loss_fn, trainable_variables)
        seed = tf.TensorSpec([2], tf.int32) if use_seed else None
        self._differentiate = graphs.trace(differentiate, seed, *inputs, jit_compile=compile_loss or None)
        # What is compiled is one op where it is called.
        self._num_loss_ops = 1 if compile_loss else len(self._differentiate.graph.get_operations())
        self.effects = graphs.has_effects(self._differentiate.graph.get_operations())
        self.variables = list(variables)
        self.gpus = placement.gpus_of(self.variables)
        loss, gradients = self._differentiate.structured_outputs
        self._describe(loss, gradients)
        planned = plan(optimizer, self.variables, gradients)
        bound = planned if isinstance(planned, Stock) else planned.bind()
        if not isinstance(bound, Stock):
            self.update = bound
            _LOGGER.debug("%s", planned)
        else:
            _LOGGER.debug("%s.apply_gradients does the update: %s", type(optimizer).__name__, bound.reason)
            specs = [tf.type_spec_from_value(g) for g in gradients]
            self._apply = graphs.trace(applier(optimizer, self.variables), specs)

    def _describe(self, loss, gradients) -> None:
        """Sets what is known of the results of a step, once `variables` are."""
        self.loss = tf.TensorSpec(loss.shape, loss.dtype)
        self.parameters = [tf.TensorSpec(v.shape, v.dtype) for v in self.unwrapped]
        self.has_sparse_gradients = any(map(is_sparse, gradients))
        shapes = [v.shape if is_sparse(g) else g.shape for g, v in zip(gradients, self.unwrapped, strict=True)]
        self.gradients = [tf.TensorSpec(s, g.dtype) for s, g in zip(shapes, gradients, strict=True)]

    def num_ops(self) -> int:
        """How many ops a step traced so far has."""
        update = 1 if self.update is not None else len(self._apply.graph.get_operations())
        return self._num_loss_ops + update

    def loss_operations(self) -> list[tf.Operation]:
        """See `fusemin.loop.step_protocol`."""
        return self._differentiate.graph.get_operations()

    @property
    def is_one_op(self) -> bool:
        """Whether one op updates all variables."""
        # There is one for each dtype, device and rule; rows may have another rule.
        is_fused = self.update is not None and not self.has_sparse_gradients
        return is_fused and len({(v.dtype, v.device) for v in self.unwrapped}) == 1

    def skip_nonfinite(self, also_of_loss: bool) -> bool:
        """See `fusemin.loop.step_protocol`."""
        # What several ops update they would have to decide together; where the optimizer decides itself, by a dynamic
        # loss scale, such a step changes the scale; and a constraint may move a variable that was not updated.
        if not self.is_one_op or self.update.options.loss_scale or any(map(constraint, self.variables)):
            return False
        if self.update.iterations is None or self.update.iterations.device != self.update.variables[0].device:
            return False
        options = self.update.options
        numbers = {**options.numbers, "skip_nonfinite": 1.0}
        self.update = dataclasses.replace(self.update, options=dataclasses.replace(options, numbers=numbers))
        self._skips_by_loss = also_of_loss
        return True

    def count(self) -> tf.Tensor:
        """See `fusemin.loop.step_protocol`."""
        return self.update.iterations.read_value()

    def release(self) -> None:
        """Frees the step's graphs; it cannot be called again."""
        graphs.release(self._differentiate)
        if self.update is None:
            graphs.release(self._apply)

    def trace_source(self, leaf, quantities, effects: bool) -> TraceSource | None:
        """See `fusemin.loop.step_protocol`."""
        if self.update is None:
            return None
        if leaf is quantities.loss:
            return TraceSource("value")
        for i, (gradient, parameter) in enumerate(zip(quantities.gradients, quantities.parameters, strict=True)):
            if leaf is gradient:
                return TraceSource("gradient", i)
            is_variable = leaf is self.variables[i] or leaf is self.update.variables[i]
            if leaf is parameter or (is_variable and not effects):
                # What the op writes is not yet constrained.
                return TraceSource("param", i) if constraint(self.variables[i]) is None else None
        return None

    def __call__(
        self, state, *, seed, inputs, sources, buffers, row, row_offset, in_loop, needs_parameters, before_update, gate
    ) -> StepResult:
        """See `fusemin.loop.step_protocol`."""
        loss, gradients = self._differentiate(seed, *inputs)
        after = [loss]
        if before_update is not None and self.update is not None:
            dense = [densify(g, v) for g, v in zip(gradients, self.unwrapped, strict=True)]
            after += before_update(loss, dense, [v.read_value() for v in self.unwrapped])

        of_update, counted = gradients, None
        if self._skips_by_loss:
            of_update, counted = _spoilt_by(loss, gradients), self.count()

        def update():
            if self.update is None:
                self._apply(gradients)
                return list(buffers)
            written = fused_step(self.update, of_update, loss, sources, buffers, row, row_offset, in_loop, after)
            for variable in self.variables:
                constrain(variable)
            return written

        buffers = update_if(None if gate is None else gate(loss, gradients), update, buffers)
        return StepResult(
            state=state,
            loss=loss,
            # Of slices computed only if something other than the op asks for it.
            gradients=[densify(g, v) for g, v in zip(gradients, self.unwrapped, strict=True)],
            parameters=[v.read_value() for v in self.unwrapped] if needs_parameters else [],
            optimizer_state=(),
            buffers=buffers,
            updated=None if counted is None else tf.not_equal(self.count(), counted),
        )

    @property
    def variables_of_update(self) -> list[tf.Variable]:
        """What the op reads or writes, where it does the update."""
        return [] if self.update is None else held_by(self.update)

    @property
    def unwrapped(self) -> list[tf.Variable]:
        """The `tf.Variable`s of `variables`."""
        return [unwrap_variable(v) for v in self.variables]


def held_by(update) -> list[tf.Variable]:
    """What the op of a bound optimizer reads or writes."""
    found = [*update.variables, *(slot for slots in update.slots for slot in slots), *update.scalars]
    found += [] if update.iterations is None else [update.iterations]
    found += [*update.options.averages, *update.options.accumulators, *update.options.loss_scale]
    return found + [value for value in update.hyperparameters.values() if isinstance(value, tf.Variable)]


def _spoilt_by(loss: tf.Tensor, gradients: list) -> list:
    """The gradients, the smallest of them NaN where the loss is not finite; to the bit what they are where it is."""
    factor = tf.where(is_finite(loss), 1.0, float("nan"))
    smallest = min(range(len(gradients)), key=lambda i: gradients[i].shape.num_elements())
    spoilt = gradients[smallest] * tf.cast(factor, gradients[smallest].dtype)
    return [*gradients[:smallest], spoilt, *gradients[smallest + 1 :]]


def update_if(allowed: tf.Tensor | None, update, buffers: list) -> list:
    """Updates, if that is allowed; None is always. `update` returns the buffers with the row of the step written; with
    a condition there are none, since a row is written of a step that is refused too."""
    if allowed is None:
        return update()
    tf.cond(allowed, lambda: update() or tf.constant(True), lambda: tf.constant(False))
    return buffers


def applier(optimizer, variables):
    """The stock step, as a function of the gradients."""

    def apply(gradients):
        family = find_family(optimizer)
        if family is not None:
            family.check_gradients(gradients, variables)
        # Without a variable some families raise an error, and none does anything.
        if variables or family is None:
            optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
        return ()

    return apply
