"""What the CUDA kernels are tested with, on any machine: the interpreter, a GPU, and mutants of the kernels.

A machine is a context manager `step()` that gives a `DeviceStep` whose memory is fresh; it raises what went wrong on
the device. The reference is the CPU kernel on the same arrays, which is itself tested against NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusemin import _core
from tests.support.kernel_step import DTYPES, difference_of, draw, ulps_of_largest
from tests.support.rules_in_numpy import RULES

CHUNK = _core.cuda.MIN_CHUNK
# In units in the last place; of the largest element where sums, whose order is free, decide about the result.
LIMIT = 1
# In float64 nothing hides a unit in the last place of what a whole step shares: of a norm, whose order is free, or of
# CUDA's pow, which is not the C library's. Where terms nearly cancel it is many units of the result; measured, on the
# interpreter and on a GPU: 215 in rules that subtract powers of elements, 34 in the others. In the other dtypes sums
# and powers go through float64.
POWERS = ("ftrl_power", "ftrl_power_kernel")
FLOAT64_LIMIT_OF_POWERS = 256
FLOAT64_LIMIT = 64
# Empty, one, around a vector of each dtype, a tail, around a chunk.
SIZES = (0, 1, 3, 4, 5, 8, 9, 255, CHUNK - 1, CHUNK, CHUNK + 1)
FEW = (5, 0, 64, CHUNK + 3)
LOSS_SCALE, LOSS_COUNTER = 8.0, 3


@dataclass(frozen=True)
class Case:
    """A step.

    Attributes:
      sizes: of the tensors.
      options: by the names in `_core.options()`.
      iterations: steps before this one; None: as drawn.
      rows: whether gradients and new parameters go to rows too.
      unaligned: kinds of arrays that begin one element past an aligned address.
      out_of_place: whether new values have memory of their own.
      from_memory: positions of hyperparameters that are read from device memory.
      bad: what stands at some places of all gradients.
      repeats: how often the step is taken from the same start, with the same tickets.
      advance: whether the step counts.
    """

    sizes: tuple[int, ...] = FEW
    options: dict[str, float] = field(default_factory=dict)
    iterations: int | None = None
    rows: bool = False
    unaligned: tuple[str, ...] = ()
    out_of_place: bool = False
    from_memory: tuple[int, ...] = ()
    bad: float | None = None
    values: tuple[float, ...] = ()
    repeats: int = 1
    advance: bool = True

    @property
    def skips_nonfinite(self):
        return bool({"dynamic_growth_steps", "skip_nonfinite"} & self.options.keys())

    @property
    def has_norms(self):
        return bool({"clipnorm", "global_clipnorm"} & self.options.keys())


_ACCUMULATION = {"gradient_accumulation_steps": 4.0}
_DYNAMIC = {"dynamic_growth_steps": 10.0}
_CAUTIOUS = {"cautious": 1.0}
_SKIPS = {"skip_nonfinite": 1.0}
_ALL = {"loss_scale_factor": 4.0, "clipvalue": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
CASES = {
    "sizes": Case(SIZES),
    "all empty": Case((0, 0)),
    "rows": Case(SIZES, rows=True, values=(2.5,)),
    "unaligned": Case(unaligned=("params", "gradients", "momentum")),
    "unaligned gradient": Case(unaligned=("gradients",)),
    "unaligned rows": Case(rows=True, unaligned=("gradient_rows", "param_rows", "value"), values=(1.0,)),
    "out of place": Case(out_of_place=True),
    "out of place, rows": Case(out_of_place=True, rows=True),
    "learning rate in memory": Case(from_memory=(0,)),
    "not counted": Case(advance=False),
    "the first step": Case(iterations=0),
    "a late step": Case(iterations=10**6),
    "the same tickets again": Case(repeats=3),
    **{f"{n} tensors": Case((5,) * n) for n in (1, 2, 50, 199, 200)},
    **{f"gradient of {x}": Case(bad=x) for x in (np.nan, np.inf, -np.inf)},
    "clipvalue": Case(options={"clipvalue": 0.5}),
    "clipvalue, NaN": Case(options={"clipvalue": 0.5}, bad=np.nan),
    "clipnorm": Case(options={"clipnorm": 0.5}),
    "clipnorm, many tensors": Case((7,) * 100, options={"clipnorm": 0.5}, repeats=2),
    "clipnorm, many chunks": Case((5 * CHUNK + 1, CHUNK), options={"clipnorm": 0.5}),
    "clipnorm, infinity": Case(options={"clipnorm": 0.5}, bad=np.inf),
    "global_clipnorm": Case(options={"global_clipnorm": 0.5}),
    "global_clipnorm, many tensors": Case((7,) * 100, options={"global_clipnorm": 0.5}, repeats=2),
    "global_clipnorm, NaN": Case(options={"global_clipnorm": 0.5}, bad=np.nan),
    "weight_decay": Case(options={"weight_decay": 0.1}),
    "weight_decay out of place": Case(options={"weight_decay": 0.1}, out_of_place=True),
    "ema": Case(options={"ema_momentum": 0.9}),
    "ema, first of Keras": Case(options={"ema_momentum": 0.9, "ema_starts_at_param": 1.0}, iterations=0),
    "ema overwrites": Case(options={"ema_momentum": 0.9, "ema_overwrite_frequency": 5.0}, iterations=9, rows=True),
    "ema does not overwrite": Case(options={"ema_momentum": 0.9, "ema_overwrite_frequency": 5.0}, iterations=10),
    "loss scale": Case(options={"loss_scale_factor": 4.0}),
    "accumulation, a step that adds": Case(options=_ACCUMULATION, iterations=9),
    "accumulation, a step that adds, out of place": Case(options=_ACCUMULATION, iterations=9, out_of_place=True),
    "accumulation, a step that applies": Case(options=_ACCUMULATION, iterations=11),
    "accumulation, clipnorm": Case(options=_ACCUMULATION | {"clipnorm": 0.5}, iterations=11, rows=True),
    "dynamic loss scale": Case(options=_DYNAMIC),
    "dynamic loss scale grows": Case(options={"dynamic_growth_steps": LOSS_COUNTER + 1.0}),
    "dynamic loss scale, infinity": Case(options=_DYNAMIC, bad=np.inf),
    "dynamic loss scale, NaN, out of place": Case(options=_DYNAMIC, bad=np.nan, out_of_place=True),
    **{
        f"accumulation, dynamic loss scale, a step that {what}{', infinity' if bad else ''}": Case(
            options=_ACCUMULATION | _DYNAMIC, iterations=iterations, bad=bad, out_of_place=bad is not None
        )
        for what, iterations in (("adds", 9), ("applies", 11))
        for bad in (None, np.inf)
    },
    "accumulation, dynamic loss scale, clipnorm": Case(
        options=_ACCUMULATION | _DYNAMIC | {"clipnorm": 0.5}, iterations=11, rows=True
    ),
    "skips": Case(SIZES, options=_SKIPS),
    "skips, NaN, rows": Case(options=_SKIPS, bad=np.nan, rows=True),
    "skips, infinity, out of place": Case(options=_SKIPS, bad=np.inf, out_of_place=True),
    "skips, accumulation, NaN": Case(options=_SKIPS | _ACCUMULATION, iterations=11, bad=np.nan),
    "skips, global_clipnorm, infinity": Case(options=_SKIPS | {"global_clipnorm": 0.5}, bad=-np.inf),
    "cautious": Case(SIZES, options=_CAUTIOUS, repeats=2),
    "cautious, many chunks": Case((5 * CHUNK + 1, CHUNK), options=_CAUTIOUS),
    "cautious, many tensors": Case((7,) * 100, options=_CAUTIOUS),
    "cautious, NaN": Case(options=_CAUTIOUS, bad=np.nan),
    "cautious, rows, unaligned, out of place": Case(
        options=_CAUTIOUS, rows=True, unaligned=("gradients",), out_of_place=True
    ),
    "cautious, clipnorm, decay, ema": Case(
        options=_CAUTIOUS | {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}, rows=True
    ),
    **{
        f"cautious, accumulation, {what}{', rows' if rows else ''}": Case(
            options=_CAUTIOUS | _ACCUMULATION | extra, iterations=iterations, rows=rows, out_of_place=rows
        )
        for what, iterations, extra in (
            ("a step that adds", 9, {}),
            ("a step that applies", 11, {}),
            ("clipnorm", 11, {"clipnorm": 0.5}),
        )
        for rows in (False, True)
    },
    "cautious, dynamic loss scale, accumulation": Case(options=_CAUTIOUS | _ACCUMULATION | _DYNAMIC, iterations=11),
    "cautious, dynamic loss scale, accumulation, infinity": Case(
        options=_CAUTIOUS | _ACCUMULATION | _DYNAMIC, iterations=11, bad=np.inf, out_of_place=True
    ),
    "all": Case(SIZES, options=_ALL | {"global_clipnorm": 2.0}, rows=True, out_of_place=True, from_memory=(0,)),
}


# Sizes at which a step is arranged in another way. Apart: they take seconds each.
LARGE_CASES = {
    # A thread adds up more than one chunk of a tensor.
    "more than 256 chunks": Case((300 * CHUNK + 7, 5), options={"clipnorm": 0.5}),
    "chunks of twice the size": Case((4100 * CHUNK, 3)),
    "500 tensors": Case(tuple(1 + 37 * i % 5000 for i in range(500)), options={"global_clipnorm": 0.5}),
}
# From a scalar to 25 million elements, for a GPU.
MIXED_SIZES = tuple(round(25_000_000 ** (i / 49)) if i < 50 else 2 + 37 * i % 10_000 for i in range(500))


def _reference(case, inputs, extra, iterations):
    """What the step leaves, by the names of `DeviceStep.after`, computed by the CPU kernel."""
    arguments = inputs.arguments()
    arguments["step"] = iterations + 1
    state = {name: [x.copy() for x in extra[name]] for name in ("averages", "accumulators")}
    rows = {name: [np.zeros_like(x) for x in inputs.params] for name in ("gradient_rows", "param_rows") if case.rows}
    scalars = _core.step(
        **arguments, **state, **rows, decays=extra["decays"], options=case.options, loss_scale=LOSS_SCALE
    )
    skipped = case.skips_nonfinite and any(not np.isfinite(x).all() for x in inputs.gradients)
    applies = (iterations + 1) % case.options.get("gradient_accumulation_steps", 1) == 0
    if skipped or not applies:
        assert scalars == list(inputs.scalars.values())
    slots = dict(zip(RULES[inputs.rule].slots, arguments["slots"], strict=True))
    arrays = {"params": arguments["params"], **slots, **state, **rows}
    want = {f"{name}[{i}]": x for name, of_all in arrays.items() for i, x in enumerate(of_all)}
    want |= {f"value[{i}]": np.array([x]) for i, x in enumerate(case.values)}
    if not case.advance:
        scalars = list(inputs.scalars.values())
    want |= {f"scalar[{k}]": np.array([x]) for k, x in enumerate(scalars)}
    want["iterations"] = np.array([iterations if skipped or not case.advance else iterations + 1])
    if "dynamic_growth_steps" in case.options:
        grows = not skipped and case.options["dynamic_growth_steps"] == LOSS_COUNTER + 1
        want["loss_scale"] = np.array([LOSS_SCALE * (2 if grows else 0.5 if skipped else 1)], np.float32)
        want["loss_counter"] = np.array([0 if skipped or grows else LOSS_COUNTER + 1], np.int32)
    return want


def check(machine, rule: str, dtype: str, case: Case) -> float:
    """Takes the step on a machine. Returns the largest difference, in units in the last place, within the limit."""
    inputs = draw(rule, dtype, case.sizes)
    rng = np.random.default_rng(1)
    if case.bad is not None:
        inputs = inputs.with_numbers(0, case.bad, [rng.random(size) < 0.1 for size in case.sizes])
    iterations = inputs.step - 1 if case.iterations is None else case.iterations

    def state(option):
        return [rng.standard_normal(n).astype(DTYPES[dtype]) if option in case.options else None for n in case.sizes]

    extra = {
        "averages": state("ema_momentum"),
        "accumulators": state("gradient_accumulation_steps"),
        "decays": [i % 2 == 0 for i in range(len(case.sizes))] if "weight_decay" in case.options else [],
    }
    extra = {name: [x for x in arrays if x is not None] for name, arrays in extra.items()}
    want = _reference(case, inputs, extra, iterations)
    arguments = inputs.arguments()
    del arguments["step"]
    if "dynamic_growth_steps" in case.options:
        arguments |= {"loss_scale": LOSS_SCALE, "loss_counter": LOSS_COUNTER}
    largest = 0.0
    with machine.step() as step:
        for _ in range(case.repeats):
            got = step.run(
                **arguments,
                **extra,
                iterations=iterations,
                options=case.options,
                gradient_rows=case.rows,
                param_rows=case.rows,
                values=case.values,
                offset=lambda kind, i: int(kind in case.unaligned),
                out_of_place=case.out_of_place,
                from_memory=case.from_memory,
                advance=case.advance,
            )
            largest = max(largest, compare(got, want, rule, case.has_norms))
    return largest


def differences(got, want, rule, has_norms=False) -> dict[str, float]:
    """How far apart the arrays are that a step leaves, by name."""
    assert got.keys() == want.keys()
    powers = rule in POWERS and got["params[0]"].dtype == np.float64

    def difference(name):
        a, b = got[name], np.asarray(want[name], got[name].dtype)
        if a.dtype.kind == "i":  # A unit is one more or less.
            return 0 if np.array_equal(a, b) else np.inf
        return ulps_of_largest(a, b) if has_norms or powers else difference_of(name, rule)(a, b)

    return {name: difference(name) for name in want}


def limit_of(rule: str, dtype, has_norms: bool) -> float:
    """Of the differences of a step."""
    counts = "beta_1" in _core.rules()[rule]["hyperparameters"]
    if dtype != np.float64 or not (rule in POWERS or counts or has_norms or RULES[rule].has_sums):
        return LIMIT
    return FLOAT64_LIMIT_OF_POWERS if rule in POWERS else FLOAT64_LIMIT


def compare(got, want, rule, has_norms=False) -> float:
    """The largest difference, which is within the limit, of what a step leaves."""
    measured, name = max((x, name) for name, x in differences(got, want, rule, has_norms).items())
    limit = limit_of(rule, got["params[0]"].dtype, has_norms)
    assert measured <= limit, f"{rule}: {name} differs by {measured} ulp from the CPU kernel"
    return measured


def check_launches_again(machine, rule: str, dtype: str, times: int = 3) -> float:
    """The launches of one step, enqueued `times` times, or captured in a graph that is launched so often: what is read
    and written stays at its place, and the count of steps is the device's."""
    sizes = (1, 5, CHUNK + 3)
    inputs = draw(rule, dtype, sizes)
    arguments = inputs.arguments()
    scalars = arguments["scalars"]
    for step in range(1, times + 1):
        arguments |= {"step": step, "scalars": scalars}
        scalars = _core.step(**arguments)
    slots = dict(zip(RULES[rule].slots, arguments["slots"], strict=True))
    arrays = {"params": arguments["params"], **slots}
    want = {f"{name}[{i}]": x for name, of_all in arrays.items() for i, x in enumerate(of_all)}
    want |= {f"scalar[{k}]": np.array([x]) for k, x in enumerate(scalars)}
    want["iterations"] = np.array([times])
    arguments = inputs.arguments()
    del arguments["step"]
    with machine.step() as step:
        step.run(**arguments)  # So that the kernels are loaded.
        step.launch = lambda enqueue: machine.launch_again(enqueue, times)
        return compare(step.run(**arguments), want, rule)
