"""The op FusedStep, called for a bound optimizer."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from fusemin import _build, graphs
from fusemin.families import FusedUpdate
from fusemin.update.gradients import is_sparse

# Where among the hyperparameters the op takes the count of iterations as a value.
_COUNT_POSITION = -1


@dataclasses.dataclass(frozen=True)
class TraceSource:
    """What a row of a trace is a copy of.

    Attributes:
      kind: the loss, the gradient of a variable, or a variable after the update.
      index: of the variable.
    """

    kind: Literal["value", "gradient", "param"]
    index: int = 0


def _groups(update: FusedUpdate, gradients: Sequence) -> list[tuple[str, list[int]]]:
    """Rule and indices of the variables that are updated by one op, which is of one rule, one dtype and one device.
    Those on the device of the count of iterations are last, so that their op can advance it."""
    groups: dict[tuple[str, tf.DType, str], list[int]] = {}
    for i, (variable, gradient) in enumerate(zip(update.variables, gradients, strict=True)):
        rule = (update.sparse.rule if is_sparse(gradient) else None) or update.rule
        groups.setdefault((variable.device, variable.dtype, rule), []).append(i)
    home = None if update.iterations is None else update.iterations.device
    return [(key[2], groups[key]) for key in sorted(groups, key=lambda key: key[0] == home)]


def _as_float(value) -> tf.Tensor:
    tensor = tf.convert_to_tensor(value)
    return tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.float64)


def gradient_sums(update: FusedUpdate, gradients: Sequence) -> list[tf.Tensor]:
    """What several ops must know of the gradients of each other: nothing, or a tensor for each op, to be added up."""
    sums = {_build.OPTIONS[name]["sums"] for name in update.options.numbers}
    if "all_tensors" not in sums:
        return []
    values = [g.values if is_sparse(g) else g for g in gradients]
    groups = _groups(update, gradients)
    return [_build.OPS.fusemin_gradient_sums([values[i] for i in group]) for _, group in groups]


def float64_bits(values: Iterable[float]) -> list[int]:
    """Numbers as the op takes them in attributes: an attribute float would be of 32 bits only."""
    return np.array(list(values), np.float64).view(np.int64).tolist()


def fused_step(
    update: FusedUpdate,
    gradients: Sequence[tf.Tensor | tf.IndexedSlices],
    loss: tf.Tensor | None,
    sources: Sequence[TraceSource] = (),
    buffers: Sequence[tf.Tensor] = (),
    row: tf.Tensor | int = 0,
    row_offset: int = 0,
    in_loop: bool = False,
    after: Sequence[tf.Tensor] = (),
    advance: bool = True,
    sums: Sequence[tf.Tensor] = (),
) -> list[tf.Tensor]:
    """Updates all variables by one step and writes one row of the traces.

    Args:
      update: the optimizer and its variables.
      gradients: for each variable a tensor of its shape and dtype, or slices of it.
      loss: the value of the source "value"; None if no source is of it.
      sources: for each buffer, what its row is a copy of.
      buffers: traces, of shape [num_steps, ...]; written in place where nothing else holds them.
      row: int32 scalar; the row written is `row + row_offset`.
      row_offset: see `row`; a constant part costs no op.
      in_loop: whether this builds part of the body of a loop that takes two steps at least. XLA inlines a loop of one,
        which must not have an update that was compiled for the body of a loop.
      after: floating scalars that must be computed before the update, or XLA would copy for them what it replaces.
      advance: whether the step counts, and so advances the count of steps and the scalars of rule and options.
      sums: of a step that is taken in several calls, what `gradient_sums` returns for each of them.

    Returns:
      The buffers with the row written.
    """
    options = update.options
    traces = list(buffers)
    values = [g.values if is_sparse(g) else g for g in gradients]
    groups = _groups(update, gradients)
    sums = list(sums) or (gradient_sums(update, gradients) if len(groups) > 1 else [])
    sums = [tf.add_n(sums)] if sums else []
    for rule_name, group in groups:
        rule = _build.RULES[rule_name]
        dtype, device = update.variables[group[0]].dtype, update.variables[group[0]].device
        is_last = group is groups[-1][1]
        sparse = [i for i in group if is_sparse(gradients[i])]
        # A group writes its own rows; the loss goes with the last.
        traced = [b for b, s in enumerate(sources) if (is_last if s.kind == "value" else s.index in group)]
        needs_loss = any(sources[b].kind == "value" for b in traced)
        constants, inputs, positions = [], [], []
        for position, name in enumerate(rule["hyperparameters"]):
            value = update.hyperparameters[name]
            constants.append(value if isinstance(value, int | float) else np.nan)
            if isinstance(value, tf.Variable):
                # An op takes no variable of another device, but its value.
                inputs.append(value.handle if value.device == device else _as_float(value))
                positions.append(position)
            elif callable(value):
                inputs.append(_as_float(value(dtype)))
                positions.append(position)
        iterations = [] if update.iterations is None else [update.iterations]
        if iterations and iterations[0].device != device:
            inputs.append(_as_float(iterations.pop()))
            positions.append(_COUNT_POSITION)
        written = _build.OPS.fusemin_fused_step(
            params=[update.variables[i].handle for i in group],
            slots=[update.slots[i][k].handle for k in range(len(rule["slots"])) for i in group],
            averages=[options.averages[i].handle for i in group if options.averages],
            accumulators=[options.accumulators[i].handle for i in group if options.accumulators],
            scalars=[scalar.handle for scalar in update.scalars],
            iterations=[variable.handle for variable in iterations],
            loss_scale=[variable.handle for variable in options.loss_scale],
            gradients=[values[i] for i in group],
            indices=[gradients[i].indices for i in sparse],
            gradient_sums=sums,
            hyperparameters=inputs,
            row=row,
            # Elsewhere a read of a variable keeps its buffer as long as it is needed.
            after=list(after) if graphs.in_xla() else [],
            values=[loss] if needs_loss else [],
            buffers=[traces[b] for b in traced],
            rule=rule_name,
            constants=float64_bits(constants),
            inputs=positions,
            option_names=list(options.numbers),
            option_values=float64_bits(options.numbers.values()),
            decays=[options.decays[i] for i in group if options.decays],
            sparse=[group.index(i) for i in sparse],
            sparse_rows=update.sparse.rows,
            separate_duplicates=update.sparse.separate_duplicates,
            trace_sources=[sources[b].kind for b in traced],
            trace_indices=[0 if sources[b].kind == "value" else group.index(sources[b].index) for b in traced],
            row_offset=row_offset,
            advance=advance and is_last,
            in_loop=in_loop,
            names=[update.variables[i].name for i in group],
        )
        for b, trace in zip(traced, written if traced else [], strict=True):
            traces[b] = trace
    if advance and update.iterations is not None and not iterations:
        update.iterations.assign_add(1)
    return traces
