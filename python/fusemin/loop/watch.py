"""What a run watches at each step beside the criterion: whether all is finite, and which step was the best."""

from typing import Any, Literal, NamedTuple

import tensorflow as tf

from fusemin.update.gradients import is_finite, is_sparse

# What becomes of a step whose loss or gradient is not finite.
Policy = Literal["continue", "skip", "stop", "raise"]
POLICIES: tuple[Policy, ...] = ("continue", "skip", "stop", "raise")


class KeepBest:
    """What the best step is, and where its parameters are kept.

    Args:
      monitor: None for the loss; or a function from what `trace_fn` returns to the scalar whose smallest value is the
        best.

    Attributes:
      monitor: see above.
      variables: for each variable of the step one that holds its value at the best step; none before `create`.
    """

    def __init__(self, monitor=None):
        self.monitor, self.variables = monitor, []

    def create(self, variables: list[tf.Variable]) -> None:
        """Creates the variables, once: a function may be traced twice, and create them the first time only."""
        if not self.variables:
            with tf.init_scope():
                self.variables = [_copy_of(v) for v in variables]


class NonFinite(NamedTuple):
    """Attributes:
    skipped: int32 scalar, how many steps were skipped.
    cause: int32 scalar, what ended the loop: 0 for nothing, 1 for the loss, 2 + i for the gradient of variable i.
    """

    skipped: tf.Tensor
    cause: tf.Tensor


class BestStep(NamedTuple):
    """Attributes:
    value: scalar, the smallest value of what is monitored; infinity before the first step.
    step: int32 scalar, the step that it is of; -1 before the first step.
    """

    value: tf.Tensor
    step: tf.Tensor


class Watch(NamedTuple):
    """What is known after a step. What is not watched is ()."""

    nonfinite: Any
    best: Any


def _first_not_finite(tensors) -> tf.Tensor:
    """The index of the first of these tensors that is not finite, an int32 scalar; their number if all are."""
    finite = tf.stack([is_finite(t.values if is_sparse(t) else t) for t in tensors] + [tf.constant(False)])
    return tf.argmin(tf.cast(finite, tf.int32), output_type=tf.int32)


class Watcher:
    """Watches the steps of a loop.

    Args:
      step: of the loop.
      policy: what becomes of a step that is not finite.
      keep_best: a KeepBest, or None.

    Attributes:
      may_refuse: whether a step may be kept from updating.
      may_end: whether a step may end the loop.
      monitor: None, or what is monitored in place of the loss.
    """

    def __init__(self, step, policy: Policy, keep_best: KeepBest | None):
        self._step, self._best = step, keep_best
        self._watches_finiteness, self.may_end = policy != "continue", policy in ("stop", "raise")
        # By the update itself where it can: no `tf.cond`, for which XLA copies all variables.
        self._update_skips = self._watches_finiteness and step.skip_nonfinite(also_of_loss=self.may_end)
        self.may_refuse = self._watches_finiteness and not self._update_skips
        self.monitor = None if keep_best is None else keep_best.monitor
        self._keeps_loss = keep_best is not None and self.monitor is None
        if keep_best is not None:
            keep_best.create(step.unwrapped)

    @property
    def has_gate(self) -> bool:
        """Whether something is to be done between differentiation and update."""
        return self.may_refuse or self._keeps_loss

    def start(self) -> Watch:
        """Before the first step."""
        nonfinite = NonFinite(tf.constant(0), tf.constant(0)) if self._watches_finiteness else ()
        best = BestStep(tf.constant(float("inf"), tf.float64), tf.constant(-1)) if self._best is not None else ()
        return Watch(nonfinite, best)

    def begin_segment(self) -> tf.Tensor | None:
        """Before the first step of a segment: what `end_segment` is to be given."""
        return self._step.count() if self._update_skips and not self.may_end else None

    def end_segment(self, watch: Watch, taken, begun: tf.Tensor | None) -> Watch:
        """After a segment of so many steps: a step that the update skipped has not counted."""
        if begun is None:
            return watch
        skipped = taken - tf.cast(self._step.count() - begun, tf.int32)
        return watch._replace(nonfinite=watch.nonfinite._replace(skipped=watch.nonfinite.skipped + skipped))

    def gate(self, watch: Watch, index, loss, gradients) -> tuple[Watch, tf.Tensor | None]:
        """Between differentiation and update. Returns the watch, and whether to update; None for always."""
        if self._keeps_loss:
            watch = self._keep(watch, index, loss)
        if not self.may_refuse:
            return watch, None
        tensors = [loss, *gradients] if self.may_end else list(gradients)
        first = _first_not_finite(tensors)
        finite = tf.equal(first, len(tensors))
        skipped, cause = watch.nonfinite
        if self.may_end:
            cause = tf.where(finite, 0, first + 1)
        else:
            skipped += tf.cast(~finite, tf.int32)
        return watch._replace(nonfinite=NonFinite(skipped, cause)), finite

    def after_update(self, watch: Watch, result) -> Watch:
        """After the update, with the result of the step."""
        if not (self._update_skips and self.may_end):
            return watch
        # What it was is looked for only once it was something.
        cause = tf.cond(
            result.updated, lambda: tf.constant(0), lambda: _first_not_finite([result.loss, *result.gradients]) + 1
        )
        return watch._replace(nonfinite=watch.nonfinite._replace(cause=cause))

    def after(self, watch: Watch, index, traced) -> Watch:
        """After `trace_fn`, with what it returned."""
        return watch if self.monitor is None else self._keep(watch, index, tf.convert_to_tensor(self.monitor(traced)))

    def _keep(self, watch: Watch, index, value) -> Watch:
        value = tf.cast(tf.reduce_sum(value), tf.float64)
        better = value < watch.best.value

        def copy():
            for best, variable in zip(self._best.variables, self._step.unwrapped, strict=True):
                best.assign(variable.read_value())
            return value, index

        return watch._replace(best=BestStep(*tf.cond(better, copy, lambda: tuple(watch.best))))


def _copy_of(variable: tf.Variable) -> tf.Variable:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False, name="best")
