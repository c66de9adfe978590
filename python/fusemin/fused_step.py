"""The op FusedStep, called for a bound optimizer."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from fusemin import _build
from fusemin.optimizers import FusedUpdate


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


def _groups(update: FusedUpdate) -> list[list[int]]:
    """Indices of the variables, a list for each device and dtype: an op is of one. Those on the device of the count of
    iterations are last, so that their op can advance it."""
    groups: dict[tuple[str, tf.DType], list[int]] = {}
    for i, variable in enumerate(update.variables):
        groups.setdefault((variable.device, variable.dtype), []).append(i)
    home = None if update.iterations is None else update.iterations.device
    return [groups[key] for key in sorted(groups, key=lambda key: key[0] == home)]


def _as_float(value) -> tf.Tensor:
    tensor = tf.convert_to_tensor(value)
    return tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.float64)


def float64_bits(values: Iterable[float]) -> list[int]:
    """Numbers as the op takes them in attributes: an attribute float would be of 32 bits only."""
    return np.array(list(values), np.float64).view(np.int64).tolist()


def fused_step(
    update: FusedUpdate,
    gradients: Sequence[tf.Tensor],
    loss: tf.Tensor,
    sources: Sequence[TraceSource] = (),
    buffers: Sequence[tf.Tensor] = (),
    row: tf.Tensor | int = 0,
    row_offset: int = 0,
) -> list[tf.Tensor]:
    """Updates all variables by one step and writes one row of the traces.

    Args:
      update: the optimizer and its variables.
      gradients: a dense tensor for each variable, of its shape and dtype.
      loss: the value of the source "value".
      sources: for each buffer, what its row is a copy of.
      buffers: traces, of shape [num_steps, ...]; written in place where nothing else holds them.
      row: int32 scalar; the row written is `row + row_offset`.
      row_offset: see `row`; a constant part costs no op.

    Returns:
      The buffers with the row written.
    """
    rule = _build.RULES[update.rule]
    around = update.surroundings
    traces = list(buffers)
    groups = _groups(update)
    for group in groups:
        dtype, device = update.variables[group[0]].dtype, update.variables[group[0]].device
        is_last = group is groups[-1]
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
        written = _build.ops().fusemin_fused_step(
            params=[update.variables[i].handle for i in group],
            slots=[update.slots[i][k].handle for k in range(len(rule["slots"])) for i in group],
            averages=[around.averages[i].handle for i in group if around.averages],
            accumulators=[around.accumulators[i].handle for i in group if around.accumulators],
            scalars=[scalar.handle for scalar in update.scalars],
            iterations=[variable.handle for variable in iterations],
            loss_scale=[variable.handle for variable in around.loss_scale],
            gradients=[gradients[i] for i in group],
            hyperparameters=inputs,
            row=row,
            values=[loss] if needs_loss else [],
            buffers=[traces[b] for b in traced],
            rule=update.rule,
            constants=float64_bits(constants),
            inputs=positions,
            option_names=list(around.options),
            option_values=float64_bits(around.options.values()),
            decays=[around.decays[i] for i in group if around.decays],
            trace_sources=[sources[b].kind for b in traced],
            trace_indices=[0 if sources[b].kind == "value" else group.index(sources[b].index) for b in traced],
            row_offset=row_offset,
            advance=is_last,
            names=[update.variables[i].name for i in group],
        )
        for b, trace in zip(traced, written if traced else [], strict=True):
            traces[b] = trace
    if update.iterations is not None and not iterations:
        update.iterations.assign_add(1)
    return traces
