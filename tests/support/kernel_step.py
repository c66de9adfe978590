"""Runs one step of a rule, by `fusemin._core` and by `rules_in_numpy`, on the same drawn inputs, and compares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from fusemin import _core
from tests.support.rules_in_numpy import RULES

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
HALVES = ["float16", "bfloat16"]

# As in csrc/backends/cpu/run.cc, run.h and rule_loops.h.
MIN_BYTES_PER_THREAD = 1024 * 1024
SHARE_ALIGNMENT = 64
ROW_CHUNK = 2048


def value_type(dtype):
    """The type that a dtype is computed with."""
    return np.float64 if dtype == np.float64 else np.float32


@dataclass
class Inputs:
    """The arguments of a step that have values. Nothing changes them: the functions below work on copies."""

    rule: str
    params: list[np.ndarray]
    gradients: list[np.ndarray]
    slots: list[list[np.ndarray]]
    hyperparameters: dict[str, float]
    scalars: dict[str, float]
    step: int

    @property
    def dtype(self):
        return self.params[0].dtype

    def with_numbers(self, kind, number, where):
        """These inputs with a number put into the gradients (kind 0), parameters (1) or a slot (2, ...), where told."""
        kinds = [self.gradients, self.params, *self.slots]
        kinds[kind] = [np.where(at, x.dtype.type(number), x) for at, x in zip(where, kinds[kind], strict=True)]
        return replace(self, gradients=kinds[0], params=kinds[1], slots=kinds[2:])

    def arguments(self):
        """Keyword arguments of `_core.step`, with arrays of their own."""
        return {
            "rule": self.rule,
            "params": [x.copy() for x in self.params],
            "gradients": [x.copy() for x in self.gradients],
            "slots": [[x.copy() for x in slot] for slot in self.slots],
            "hyperparameters": list(self.hyperparameters.values()),
            "scalars": list(self.scalars.values()),
            "step": self.step,
        }


def draw(rule, dtype_name, sizes, seed=0):
    """Inputs of one step: tensors of the given sizes from the ranges of the rule's row."""
    rng = np.random.default_rng(seed)
    row, dtype = RULES[rule], DTYPES[dtype_name]

    def numbers(ranges):
        return {name: rng.uniform(*limits) for name, limits in ranges.items()}

    def tensors(make):
        return [make(size).astype(dtype) for size in sizes]

    hyperparameters, scalars = numbers(row.hyperparameters), numbers(row.scalars)
    if row.rounded:
        value = value_type(dtype)
        hyperparameters = {name: float(value(x)) for name, x in hyperparameters.items()}
        scalars = {name: float(value(x)) for name, x in scalars.items()}
    return Inputs(
        rule=rule,
        params=tensors(rng.standard_normal),
        # Over several orders of magnitude, so that each of the terms of an update dominates somewhere.
        gradients=tensors(lambda size: rng.standard_normal(size) * 10.0 ** rng.uniform(-4, 2, size)),
        slots=[
            tensors(lambda size, limits=limits: rng.uniform(limits[0], limits[1], size))
            for limits in row.slots.values()
        ],
        hyperparameters=hyperparameters,
        scalars=scalars,
        step=int(rng.integers(1, 1000)),
    )


def run(inputs, **options):
    """The arrays after one step of the kernel, by name, and `scalars`. The options go to `_core.step`."""
    arguments = inputs.arguments()
    scalars = _core.step(**arguments, **options)
    return {**_by_name(inputs, arguments["params"], arguments["slots"]), "scalars": np.array(scalars)}


def run_reference(inputs):
    """What `run` should give: computed in the value type from the stored numbers, and rounded once."""
    row, value = RULES[inputs.rule], value_type(inputs.dtype)
    h = {**inputs.hyperparameters, **inputs.scalars}
    params, slots, sums = [], [[] for _ in inputs.slots], [0.0] * len(row.step_sums)
    with np.errstate(all="ignore"):
        for i in range(len(inputs.params)):
            stored = [inputs.gradients[i], inputs.params[i], *(slot[i] for slot in inputs.slots)]
            param, *new_slots = row.function(h, inputs.step, *(x.astype(value) for x in stored))
            for k in reversed(range(len(sums))):
                sums[k] += np.sum(new_slots.pop(), dtype=np.float64)
            params.append(param.astype(inputs.dtype))
            for slot, new in zip(slots, new_slots, strict=True):
                slot.append(new.astype(inputs.dtype))
        next_scalars = row.finish(h, inputs.step, sums) if row.step_sums else row.next_scalars(h, inputs.step)
    scalars = np.array(list(next_scalars.values()), dtype=np.float64)
    return {**_by_name(inputs, params, slots), "scalars": scalars}


def _by_name(inputs, params, slots):
    tensors = {"params": params, **dict(zip(RULES[inputs.rule].slots, slots, strict=True))}
    # The slot of Momentum is called momentum, as is a hyperparameter of it; no slot is called params.
    return {f"{name}[{i}]": x for name, arrays in tensors.items() for i, x in enumerate(arrays)}


def ulps(got, want):
    """The largest distance of two arrays of one dtype, in units in the last place. NaN is at no distance from NaN."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    differ = ~_same(got, want)
    if not differ.any():
        return 0
    if (_is_nan(got) != _is_nan(want)).any():
        return np.inf
    steps = [_place(x[differ]) for x in (got, want)]
    # As Python integers: the distance of two doubles of opposite sign needs 65 bits.
    return max(abs(int(a) - int(b)) for a, b in zip(*steps, strict=True))


def _same(got, want):
    """Both zeros are told apart, payloads of NaN are not: which one survives an operation is the compiler's choice."""
    return (_bits(got) == _bits(want)) | (_is_nan(got) & _is_nan(want))


def _is_nan(array):
    # ml_dtypes raises the invalid flag for a signalling NaN.
    with np.errstate(invalid="ignore"):
        return np.isnan(array)


def _bits(array):
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _place(array):
    """Where each number stands among all numbers of its type, counted from zero; both zeros stand at 0."""
    bits = _bits(array).astype(np.uint64)
    sign = np.uint64(1) << np.uint64(8 * array.dtype.itemsize - 1)
    magnitude = (bits & (sign - np.uint64(1))).astype(np.int64)
    return np.where(bits & sign != 0, -magnitude, magnitude)


def ulps_of_largest(got, want):
    """The largest difference of two arrays, in units in the last place of the largest element that is finite."""
    same = _same(got, want)
    if same.all():
        return 0
    if (_is_nan(got) != _is_nan(want)).any():
        return np.inf
    unit = np.float64(np.spacing(np.abs(want[np.isfinite(want)]).max()))
    return float(np.abs(got[~same].astype(np.float64) - want[~same].astype(np.float64)).max() / unit)


# Scalars that are made of the sums of a step are the same if they are within so many: the order of additions is free,
# and terms of both signs cancel. In float64 that is 2e-13.
SUM_ULPS = 1024


def difference_of(name, rule):
    """The function that measures how far two arrays of that name are apart, after a step of the rule."""
    row = RULES[rule]
    if row.step_sums and name.startswith("scalar"):
        return lambda got, want: ulps_of_largest(got, want) // SUM_ULPS
    return ulps_of_largest if row.has_sums else ulps


def largest_ulps(got, want, rule):
    """The largest difference of two results of `run` or `run_reference`, and the name of the array that has it."""
    assert got.keys() == want.keys()
    return max((difference_of(name, rule)(got[name], want[name]), name) for name in got)


def assert_same_bits(got, want, what=""):
    assert got.keys() == want.keys()
    for name, expected in want.items():
        same = _same(got[name], expected)
        assert same.all(), f"{what} {name}: {np.count_nonzero(~same)} of {same.size} differ, first at {same.argmin()}"
