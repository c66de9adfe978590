"""What the loop asks of a step, and what a step gives to the loop."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from fusemin.update.fused_step import TraceSource


class StepResult(NamedTuple):
    """One step, as the loop sees it.

    Attributes:
      state: what the loop carries to the next step.
      loss: the loss before the update.
      gradients: in the structure that users see, dense.
      parameters: after the update, in the structure that users see; may be empty if nothing asked for them.
      optimizer_state: of a pure optimizer, else ().
      buffers: the traces whose rows the step itself writes.
      updated: bool scalar, false if the update skipped the step since it was not finite; None where nobody asked.
    """

    state: Any
    loss: tf.Tensor
    gradients: Any
    parameters: Any
    optimizer_state: Any
    buffers: list[tf.Tensor]
    updated: tf.Tensor | None = None


class Step(Protocol):
    """One optimization step, traced, that a loop takes again and again: `VariableStep` and `StatelessStep`.

    Attributes:
      initial_state: what the loop carries to the first step.
      loss: TensorSpec of the loss.
      gradients, parameters, optimizer_state: TensorSpecs in the structures that users see.
      effects: whether a step does more than give its result.
      gpus: the full names of the GPUs that it runs on.
      has_sparse_gradients: whether the update is given gradients of slices.
    """

    initial_state: Any
    loss: tf.TensorSpec
    gradients: Any
    parameters: Any
    optimizer_state: Any
    effects: bool
    gpus: list[str]
    has_sparse_gradients: bool

    def num_ops(self) -> int:
        """How many ops a step has."""

    def loss_operations(self) -> list[tf.Operation]:
        """The ops of loss and gradients."""

    def trace_source(self, leaf, quantities, effects: bool) -> TraceSource | None:
        """What a leaf of the trace is a copy of, if the step itself can write its row, else None.

        Args:
          leaf: of what `trace_fn` returned for `quantities`.
          quantities: of the step.
          effects: whether `trace_fn` may have assigned to variables before it returned one.
        """

    def skip_nonfinite(self, also_of_loss: bool) -> bool:
        """Has the update skip a step with a gradient that is not finite, or with such a loss too, where it can by
        itself, without a look at the gradients before. Returns whether it does. To be called before the first step."""

    def count(self) -> tf.Tensor:
        """How many steps have been counted, an integer scalar, where `skip_nonfinite` said that it skips some."""

    def __call__(
        self,
        state,
        *,
        seed: tf.Tensor | None,
        inputs: tuple,
        sources: Sequence[TraceSource],
        buffers: list[tf.Tensor],
        row: tf.Tensor,
        row_offset: int,
        in_loop: bool,
        needs_parameters: bool,
        before_update: Callable[[tf.Tensor, list, list], list[tf.Tensor]] | None,
        gate: Callable[[tf.Tensor, list], tf.Tensor | None] | None,
    ) -> StepResult:
        """Takes a step.

        Args:
          state: what the step before left.
          seed: of this step, or None.
          inputs: what else `loss_fn` is called with at this step.
          sources: what the rows of `buffers` are copies of.
          buffers: traces, whose row `row + row_offset` the step writes.
          row: int32 scalar.
          row_offset: int.
          in_loop: see `fused_step`.
          needs_parameters: whether the result must have parameters.
          before_update: None, or a function of loss, gradients and parameters that gives what must be computed before
            the update.
          gate: None, or a function of the loss and of the gradients, called between differentiation and update, that
            gives whether to update, a bool scalar; None for always. If it may give one, `sources` is empty.
        """
