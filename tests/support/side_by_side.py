"""Runs one optimizer twice from the same random start: by its own `apply_gradients`, and by the fused op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from fusemin import _core
from fusemin.update.fused_step import fused_step
from fusemin.update.plan import plan

SHAPES = [(7, 5), (), (33,)]
# All but the scalar get sparse gradients.
SPARSE_SHAPES = [(7, 5), (), (33,), (6, 2, 3)]

# What each slot and scalar is drawn from: uniform in a range, of random sign where the slot has a sign. The square of
# any of SIGNED is less than any of POSITIVE, so that a variance is positive which a rule makes of a mean and a mean
# square. None is near 0, so that a difference can be taken relative to where an element started.
SIGNED = (0.1, 0.5)
POSITIVE = (0.3, 2.0)
SCALAR = (0.2, 0.9)
SIGNED_SLOTS = {"momentum", "average_gradient", "linear", "difference", "previous_gradient", "z", "s", "start"}

ITERATIONS = (1, 500)


@dataclass
class Slices:
    """A sparse gradient: slices [k, ...] and the row of each."""

    values: np.ndarray
    indices: np.ndarray

    def tensor(self, dtype: tf.DType, num_rows: int) -> tf.IndexedSlices:
        shape = tf.constant([num_rows, *self.values.shape[1:]], tf.int64)
        return tf.IndexedSlices(tf.constant(self.values, dtype), tf.constant(self.indices), shape)


@dataclass
class Start:
    """State before the first step, and the gradients of all steps, in float64 but rounded to the dtype tested."""

    params: list[np.ndarray]
    slots: dict[str, list[np.ndarray]]
    scalars: dict[str, float]
    iterations: int
    gradients: list[list[np.ndarray | Slices]]


def draw(
    rule: str,
    dtype: tf.DType,
    num_variables: int,
    num_steps: int,
    seed: int = 0,
    index_dtype: type | None = None,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> Start:
    """A random start for a rule. A fifth of the gradients are 0, and so are all of one step in ten.

    With an `index_dtype` gradients are sparse, with several slices of some rows, and without slices in one step in ten.
    """
    rng = np.random.default_rng(seed)
    names = _core.rules()[rule]
    shapes = shapes[:num_variables] if index_dtype is None or num_variables == 1 else SPARSE_SHAPES

    def rounded(array):
        return np.asarray(array).astype(dtype.as_numpy_dtype).astype(np.float64)

    def uniform(limits, shape, signed):
        sign = rng.choice([-1.0, 1.0], shape) if signed else 1.0
        return rounded(rng.uniform(*limits, shape) * sign)

    def gradient(step, shape):
        if index_dtype is not None and shape:
            num_slices = 0 if step % 10 == 3 else rng.integers(1, shape[0] + 3)
            slices = dense_gradient(step, (num_slices, *shape[1:]))
            return Slices(slices, rng.integers(0, shape[0], num_slices).astype(index_dtype))
        return dense_gradient(step, shape)

    def dense_gradient(step, shape):
        keep = (rng.random(shape) > 0.2) * (step % 10 != 7)
        return rounded(rng.standard_normal(shape) * 0.3 * keep)

    return Start(
        params=[uniform((0.3, 2.0), shape, signed=True) for shape in shapes],
        slots={
            name: [uniform(SIGNED if name in SIGNED_SLOTS else POSITIVE, s, name in SIGNED_SLOTS) for s in shapes]
            for name in names["slots"]
        },
        scalars={name: float(rounded(rng.uniform(*SCALAR))) for name in names["scalars"]},
        iterations=int(rng.integers(*ITERATIONS)),
        gradients=[[gradient(step, shape) for shape in shapes] for step in range(num_steps)],
    )


def start_of(start: Start) -> dict[str, np.ndarray]:
    """The state before the first step, by the names that `run` gives."""
    state = {f"param[{i}]": p for i, p in enumerate(start.params)}
    state |= {f"{name}[{i}]": s for name, slot in start.slots.items() for i, s in enumerate(slot)}
    state |= {name: np.asarray(scalar) for name, scalar in start.scalars.items()}
    return state | {"iterations": np.asarray(start.iterations)}


def FUSED(step: int) -> bool:
    return True


def STOCK(step: int) -> bool:
    return False


def put(update, start: Start) -> None:
    """Gives a bound optimizer the values of the start."""
    for variable, value in zip(update.variables, start.params, strict=True):
        variable.assign(tf.constant(value, variable.dtype))
    for slots, values in zip(update.slots, zip(*start.slots.values(), strict=True), strict=False):
        for slot, value in zip(slots, values, strict=True):
            slot.assign(tf.constant(value, slot.dtype))
    for scalar, value in zip(update.scalars, start.scalars.values(), strict=True):
        scalar.assign(tf.constant(value, scalar.dtype))
    if update.iterations is not None:
        update.iterations.assign(start.iterations)


def set_up(make: Callable[[], object], start: Start, dtype: tf.DType):
    """An optimizer, and it bound to variables, all with the values of the start."""
    variables = [tf.Variable(tf.constant(p, dtype), name=f"v{i}") for i, p in enumerate(start.params)]
    optimizer = make()
    planned = plan(optimizer, variables)
    assert planned.reason is None, planned.reason
    update = planned.bind()
    put(update, start)
    return optimizer, update


def state_of(update) -> dict[str, np.ndarray]:
    """What a bound optimizer holds now, in float64."""
    names = _core.rules()[update.rule]
    result = {f"param[{i}]": v for i, v in enumerate(update.variables)}
    result |= {
        f"{name}[{i}]": slots[k] for i, slots in enumerate(update.slots) for k, name in enumerate(names["slots"])
    }
    result |= dict(zip(names["scalars"], update.scalars, strict=True))
    if update.iterations is not None:
        result["iterations"] = update.iterations
    result |= {f"average[{i}]": average for i, average in enumerate(update.options.averages)}
    result |= {f"accumulator[{i}]": accumulator for i, accumulator in enumerate(update.options.accumulators)}
    return {name: variable.numpy().astype(np.float64) for name, variable in result.items()}


@dataclass
class Bound:
    """An optimizer bound to variables with the values of a start, and both ways to take a step, each traced once."""

    optimizer: object
    update: object
    fused_apply: Callable
    stock_apply: Callable

    @classmethod
    def make(cls, make: Callable[[], object], start: Start, dtype: tf.DType):
        optimizer, update = set_up(make, start, dtype)

        @tf.function(autograph=False, reduce_retracing=True)
        def fused_apply(*gradients):
            fused_step(update, gradients, loss=tf.constant(0.0))

        @tf.function(autograph=False, reduce_retracing=True)
        def stock_apply(*gradients):
            optimizer.apply_gradients(zip(gradients, update.variables, strict=True))

        return cls(optimizer, update, fused_apply, stock_apply)

    def take_steps(self, start: Start, fused, before_step) -> dict[str, np.ndarray]:
        for i, gradients in enumerate(start.gradients):
            before_step(i, self.optimizer)
            apply = self.fused_apply if fused(i) else self.stock_apply
            apply(
                *(
                    g.tensor(v.dtype, v.shape[0]) if isinstance(g, Slices) else tf.constant(g, v.dtype)
                    for g, v in zip(gradients, self.update.variables, strict=True)
                )
            )
        return state_of(self.update)


def run(
    make: Callable[[], object],
    start: Start,
    dtype: tf.DType,
    fused: Callable[[int], bool],
    before_step: Callable[[int, object], None] = lambda step, optimizer: None,
) -> dict[str, np.ndarray]:
    """The state after all steps, in float64: parameters, slots, scalars and the iterations.

    Args:
      make: makes the optimizer.
      start: see `draw`.
      dtype: of the variables.
      fused: from the number of a step, whether the op does it, or the optimizer's own `apply_gradients`.
      before_step: called with the number of the step and the optimizer.
    """
    return Bound.make(make, start, dtype).take_steps(start, fused, before_step)


class Runs:
    """`run` of the rows of a table, without options around their rule. What took the steps of a row by one of FUSED and
    STOCK takes those from other starts too: most of the time of a run is that of tracing its steps."""

    def __init__(self):
        self._bound = {}

    def run(self, row, start: Start, dtype: tf.DType, fused: Callable[[int], bool]) -> dict[str, np.ndarray]:
        key = (row.id, dtype, fused)
        if key not in self._bound:
            self._bound[key] = Bound.make(lambda: row.make(learning_rate=0.01), start, dtype)
            assert len(self._bound[key].update.options.averages) == 0
            assert len(self._bound[key].update.options.accumulators) == 0
        else:
            put(self._bound[key].update, start)
        return self._bound[key].take_steps(start, fused, lambda step, optimizer: None)


def largest_difference(got, expected, start: Start) -> tuple[float, str]:
    """The largest relative difference of two states, and of what it is.

    Relative to the larger of what is expected of an element and where it started: an element that crosses 0 on its way
    is not known to more digits than that.
    """
    before, largest = start_of(start), (0.0, "")
    for name, value in got.items():
        # Averages and accumulators start at the parameter or at 0; what they hold is of the size of a parameter.
        began = before.get(name, before["param[" + name.partition("[")[2]] if "[" in name else 0.0)
        scale = np.maximum(np.abs(expected[name]), np.abs(began))
        with np.errstate(invalid="ignore"):
            difference = np.abs(value - expected[name]) / scale
        # The same infinity or NaN is the same; NaN in one of the two is as different as can be.
        same = (value == expected[name]) | (np.isnan(value) & np.isnan(expected[name]))
        difference = np.where(same, 0.0, np.nan_to_num(difference, nan=np.inf))
        largest = max(largest, (float(np.max(difference)), name))
    return largest
