"""Adam's update alone: how many bytes a second, beside torch's fused Adam and the machine's own copy.

One float32 variable with a gradient that is given and stays the same. "fusemin, op" is FusedStep in a `tf.function`:
a `tf.while_loop` of ten steps an iteration, so that what TensorFlow's executor costs a step is in it. "fusemin,
kernel" is the same arithmetic on NumPy arrays, called from Python. "stock"
is `apply_gradients` in the same loop as the op's. "torch" is `step` of `torch.optim.Adam` in a loop of Python, and
its kernel without the optimizer. "copy" is NumPy's copy (memcpy), each thread its own part again and again, of as
many bytes read and written in sum.

Bytes are 28 an element: parameter and two slots read and written, the gradient read. All have as many threads as the
process has cores, but where it says one. After the first run each parameter is checked: with a gradient that stays
the same Adam moves it by the learning rate a step. A sample is the mean over so many runs that it takes 0.1 to 0.5 s;
rounds are interleaved. "times torch" is the median over rounds of the time of "torch, fused" by the rival's.
"""

import functools
import gc
import importlib.util

import numpy as np

from benchmarks import plots, updaters
from benchmarks.machine import num_threads
from benchmarks.question import Question
from benchmarks.report import progress
from benchmarks.timing import Row, cases, interleave, measure, median_ratio

# Sizes with the steps of a run, seconds of a sample, and the number of rounds.
SIZES = {
    "smoke": ([(1_000, 10)], 0.0, 2),
    "full": ([(10**4, 1000), (10**5, 500), (10**6, 100), (10**7, 20), (10**8, 10)], 0.15, 7),
}
# Rivals that need as much memory again and again are left out above.
MOST_ELEMENTS_OF_STOCK = 10**7
COPY = "copy"
TORCH = "torch, fused"
OP = "fusemin, op"


def rivals(size: int, num_steps: int) -> dict:
    """Functions that set up an `Updater`, by name."""
    threads = num_threads()
    found = {
        OP: functools.partial(updaters.of_tensorflow, "keras", True),
        "fusemin, kernel": functools.partial(updaters.of_kernel, threads),
        "fusemin, kernel, one thread": functools.partial(updaters.of_kernel, 1),
        COPY: functools.partial(updaters.of_copy, threads),
    }
    if importlib.util.find_spec("torch"):
        found[TORCH] = functools.partial(updaters.of_torch, fused=True)
        found["torch, fused, kernel alone"] = updaters.of_torch_kernel
    if size <= MOST_ELEMENTS_OF_STOCK:
        found["stock, keras Adam"] = functools.partial(updaters.of_tensorflow, "keras", False)
        if importlib.util.find_spec("tf_keras"):
            found["stock, tf_keras legacy Adam"] = functools.partial(updaters.of_tensorflow, "tf_keras legacy", False)
        if importlib.util.find_spec("torch"):
            found["torch, foreach"] = functools.partial(updaters.of_torch, foreach=True)
    return {name: functools.partial(build, size, num_steps) for name, build in found.items()}


def prepare(name: str, build, num_steps: int, duration: float):
    """Sets up and checks an update. Returns a function that takes a sample, of seconds per step."""
    updater = build()
    updater.run()
    if updater.parameter is not None:
        moved = updater.parameter() / -(updaters.LEARNING_RATE * num_steps)
        # The parameter is a sum of many small numbers in float32.
        np.testing.assert_allclose(moved, 1.0, rtol=1e-2, err_msg=f"{name} is not Adam")
        del moved
    runs = max(1, min(100, round(duration / measure(updater.run).wall)))

    def sample():
        return sum(measure(updater.run).wall for _ in range(runs)) / (runs * num_steps)

    return sample


def _run(size, rounds):
    sizes, duration, usual_rounds = SIZES[size]
    rows = []
    for elements, num_steps in sizes:
        progress(f"update: {elements:,} elements")
        samplers = {}
        for name, build in rivals(elements, num_steps).items():
            samplers[name] = prepare(name, build, num_steps, duration)
        samples = interleave(samplers, rounds or usual_rounds)
        del samplers
        gc.collect()
        here = [Row(f"{elements:,} elements", name, "s", s, {}, {"x": elements}) for name, s in samples.items()]
        by_name = {row.rival: row for row in here}
        for row in here:
            row.facts["GB/s"] = updaters.BYTES * elements / row.median / 1e9
            for other in (COPY, TORCH):
                if other in by_name:
                    row.facts[f"times {other}"] = median_ratio(by_name[other], row)
        rows += here
    return rows


def _summarize(rows):
    lines = []
    for case, here in cases(rows).items():
        op = next(row for row in here if row.rival == OP)
        beside = ", ".join(f"{op.facts[f'times {o}']:.2f} times {o}" for o in (TORCH, COPY) if f"times {o}" in op.facts)
        lines.append(f"{case}: the op moves {op.facts['GB/s']:.0f} GB/s, {beside}")
    return lines


QUESTION = Question(
    name="update",
    title="How many bytes a second does the update alone move?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(
        plots.lines,
        x="elements",
        label="GB/s, 28 bytes an element",
        value=lambda row, sample: updaters.BYTES * row.notes["x"] / sample / 1e9,
        logarithmic=True,
    ),
)
