"""`explain`: what updates which variable, and why."""

import dataclasses
import html
import io
import shutil
from typing import Any, NamedTuple

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from fusemin import _core
from fusemin.api.fused_optimizer import is_fused
from fusemin.arguments import check_optimizer
from fusemin.families import inner_optimizers
from fusemin.loop.variables import as_variable_list, check_variables, unwrap_variable
from fusemin.types import Optimizer
from fusemin.update.plan import Fused, Stock, plan
from fusemin.update.shards import num_bytes


class Row(NamedTuple):
    """A group of variables that are updated in one way.

    Attributes:
      variables: their names.
      dtype: their dtype.
      device: where they are; "" if that is left to TensorFlow.
      rule: the fused rule, or None.
      reason: why there is none, or None.
      kernel: what runs the rule, "CPU" or "CUDA", or None.
      launches: CUDA kernels that a step launches, or None.
      num_bytes: what a step reads and writes of variables, slots and gradients, without a trace; None where that is not
        known.
    """

    variables: tuple[str, ...]
    dtype: str
    device: str
    rule: str | None
    reason: str | None
    kernel: str | None = None
    launches: int | None = None
    num_bytes: int | None = None

    @property
    def update(self) -> str:
        """What updates the variables, in words."""
        if self.rule is None:
            return f"apply_gradients: {self.reason}"
        words = f"fused, rule '{self.rule}', {self.kernel}"
        if self.launches is not None:
            words += f", {self.launches} launch{'es' if self.launches != 1 else ''} a step"
        if self.num_bytes is not None:
            words += f", {_readable(self.num_bytes)} a step"
        return words


class Replication(NamedTuple):
    """How a step is taken under a `tf.distribute` strategy that keeps a copy of each variable for each replica.

    Attributes:
      strategy: its class name.
      num_replicas: of all machines.
      num_local_replicas: of this machine.
      before_sum: the options that each replica applies to its own gradients.
      num_bytes: of a replica's gradients, which are summed once a step; None if a shape is not known, and so below.
      slot_bytes: for each replica of this machine what it holds of slots, moving averages and accumulated gradients;
        with `fuse(..., shard_slots=True)` its part.
      sharded: whether they are in parts.
    """

    strategy: str
    num_replicas: int
    num_local_replicas: int
    before_sum: tuple[str, ...]
    num_bytes: int | None
    slot_bytes: tuple[int, ...] | None
    sharded: bool

    def __str__(self) -> str:
        before = f"Each applies {' and '.join(self.before_sum)} to its gradients. " if self.before_sum else ""
        size = "" if self.num_bytes is None else f", {_readable(self.num_bytes)} of each"
        updates = "Then each device updates its copies, as above."
        if self.sharded:
            updates = "Each device updates its part of the variables, and sends them to the others."
        held = ""
        if self.slot_bytes is not None:
            sizes = [_readable(n) for n in self.slot_bytes]
            is_same = len(set(sizes)) == 1
            held = f" Each holds slots of {sizes[0]}." if is_same else f" They hold slots of {', '.join(sizes)}."
        return (
            f"{self.strategy}, {self.num_replicas} replicas, {self.num_local_replicas} on this machine. {before}The "
            f"gradients are summed over the replicas once a step{size}. {updates}{held}"
        )


def _readable(num_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} B"


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found. Prints as a table.

    Attributes:
      optimizer: the class name of the optimizer.
      rows: a Row for each group of variables.
      compilation: of `Minimizer.explain`, what `jit_compile="auto"` did at the last call and why; "" if it is not used.
      replication: in the scope of a strategy with replicas, if the step is fused, what is done on which of them. The
        rows are of the copies on one device.
    """

    optimizer: str
    rows: tuple[Row, ...]
    compilation: str = ""
    replication: Replication | None = None

    @property
    def fused(self) -> bool:
        """Whether the op does the update of all variables."""
        return all(row.rule is not None for row in self.rows)

    def __str__(self) -> str:
        table = Table(*_COLUMNS, title=self.optimizer, title_justify="left")
        for cells in self._cells():
            table.add_row(*cells)
        text = io.StringIO()
        # As wide as the terminal: a table that is wider breaks apart. In a notebook rich would show it at once, and
        # return nothing.
        console = Console(file=text, width=min(shutil.get_terminal_size().columns, 120), force_jupyter=False)
        console.print(table)
        for note in self._notes():
            console.print(note, markup=False, highlight=False)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """For notebooks."""
        lines = [f"<table><caption>{html.escape(self.optimizer)}</caption>"]
        for tag, rows in (("th", [_COLUMNS]), ("td", self._cells())):
            for cells in rows:
                escaped = (html.escape(cell).replace("\n", "<br>") for cell in cells)
                lines.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in escaped) + "</tr>")
        lines.append("</table>")
        lines += [f"<p>{html.escape(note)}</p>" for note in self._notes()]
        return "".join(lines)

    def _notes(self) -> list[str]:
        return [note for note in (str(self.replication or ""), self.compilation) if note]

    def _cells(self) -> list[tuple[str, str, str, str]]:
        rows = []
        for row in self.rows:
            names = list(row.variables[:3])
            if len(row.variables) > 3:
                names.append(f"and {len(row.variables) - 3} more")
            rows.append(("\n".join(names), row.dtype, row.device or "-", row.update))
        return rows


_COLUMNS = ("variables", "dtype", "device", "update")


def explain(optimizer: Optimizer, variables: Any) -> Explanation:
    """Says what `minimize`, or an optimizer from `fuse`, would update these variables with: the fused op, or the
    optimizer's own `apply_gradients`.

    Creates no variables and changes nothing. What only shows while the loss is traced is not in it: inside XLA a
    sparse gradient leaves the update to `apply_gradients`, as everywhere does what stock refuses with sparse gradients,
    such as a constraint in `tf.compat.v1`; the debug log of the logger "fusemin" says so. In the scope of a
    `tf.distribute` strategy it says what is summed over the replicas, and when.

    Args:
      optimizer: an optimizer, see `minimize`.
      variables: list of `tf.Variable`s or Keras variables.

    Returns:
      An `Explanation`, which prints as a table.

    Raises:
      TypeError, ValueError: the arguments are not such that `minimize` would take them.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable([1.0, 2.0], name="x")
    >>> fusemin.explain(keras.optimizers.Adam(), [x]).rows[0].rule
    'adam'
    >>> fusemin.explain(keras.optimizers.Adafactor(), [x]).rows[0].reason
    'keras Adafactor has no fused rule'
    """
    check_optimizer(optimizer)
    variables = as_variable_list(variables, "variables")
    unwrapped = [unwrap_variable(v, "variables") for v in variables]
    check_variables(unwrapped, "variables", copies=tf.distribute.has_strategy())
    planned = plan(optimizer, variables)
    reason = planned.reason
    for inner in inner_optimizers(optimizer) if reason else ():
        if is_fused(inner):
            of_inner = plan(inner, variables)
            reason = f"{reason}; its inner {type(inner).__name__}: " + (
                of_inner.reason or f"fused, rule '{of_inner.rule}'"
            )
    groups: dict[tuple[tf.DType, str], list[tf.Variable]] = {}
    for variable in unwrapped:
        groups.setdefault((variable.dtype, variable.device), []).append(variable)
    options = {} if isinstance(planned, Stock) else planned.option_numbers_of_op
    return Explanation(
        optimizer=type(optimizer).__name__,
        rows=tuple(
            _row(group, dtype.name, device.rsplit("/device:", 1)[-1], planned.rule, reason, options)
            for (dtype, device), group in groups.items()
        ),
        replication=_replication(planned),
    )


def _replication(planned: Fused | Stock) -> Replication | None:
    if isinstance(planned, Stock) or planned.context.strategy is None:
        return None
    strategy, shards = planned.context.strategy, planned.shards
    number = len(strategy.extended.worker_devices)
    total = slot_bytes = None
    if all(v.shape.is_fully_defined() for v in planned.unwrapped):
        sizes = [num_bytes(v) for v in planned.unwrapped]
        total = sum(sizes)
        owners = None if shards is None else shards.owners_of(planned.unwrapped)
        slot_bytes = tuple(
            planned.num_slots * sum(n for k, n in enumerate(sizes) if owners is None or owners[k] == i)
            for i in range(number)
        )
    return Replication(
        strategy=type(strategy).__name__,
        num_replicas=strategy.num_replicas_in_sync,
        num_local_replicas=number,
        before_sum=planned.family.options_before_sum(planned.optimizer),
        num_bytes=total,
        slot_bytes=slot_bytes,
        sharded=shards is not None,
    )


def _row(variables, dtype, device, rule, reason, options) -> Row:
    names = tuple(v.name for v in variables)
    if rule is None:
        return Row(names, dtype, device, rule, reason)
    kernel = "CUDA" if device.startswith("GPU") else "CPU"
    launches = num_bytes = None
    sizes = [v.shape.num_elements() for v in variables]
    if None not in sizes:
        num_bytes = _core.step_bytes(rule, dtype, sizes, options)
        if kernel == "CUDA":
            launches = _core.cuda.num_launches(rule, dtype, sizes, options)
    return Row(names, dtype, device, rule, reason, kernel, launches, num_bytes)
