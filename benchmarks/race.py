"""Times rivals on a problem, side by side.

A rival is built and takes N steps with Adam, tracing and compiling as it must. It must be right: the N losses are
compared with those of Adam in float64, or of stock Adam where there is no float64 loss; else the run ends with an
error. Then its state is saved, and N more steps are run again and again, from this same state each time, so that no
value can run away, get denormal or NaN: the learning rate is 1/N, with which the variables move by about 1 in a run.
Restoring the state is not timed, and leaves each buffer unshared. Nothing is traced or compiled while time is taken:
`minimize` of TFP and of fusemin stand in the same `tf.function`.

A sample is the mean over so many runs that it takes 0.1 to 0.5 s. Rounds of all rivals are interleaved. The
CPU time is that of all threads: it says what a step costs where wall-clock time is shared with other processes.
"""

import gc
import statistics
import time

import numpy as np

from benchmarks.report import progress
from benchmarks.rivals import Fit, Rival
from benchmarks.timing import Row, Time, fastest, interleave, measure, median_ratio

CHECKED_STEPS = 2000


class Runner:
    """A rival that is ready to be timed.

    Attributes:
      num_steps: of a run.
      difference: how far its losses were from the reference, as a fraction of the first; None without one.
      losses: of the first steps.
    """

    def __init__(self, rival: Rival, problem, num_steps: int, duration: float, reference=None):
        self.num_steps = num_steps
        learning_rate = 1.0 / num_steps
        self._fit: Fit = rival.build(problem, learning_rate, num_steps)
        self.losses = np.asarray(self._fit.run(), np.float64)[:CHECKED_STEPS]
        self._check(rival, problem, problem.reference(learning_rate, len(self.losses)), reference)
        self._saved = self._fit.save()
        # The first run of what is compiled is slower, as memory is new.
        for _ in range(2):
            self._fit.restore(self._saved)
            seconds = measure(self._fit.run).wall
        self._runs = max(1, min(100, round(duration / seconds)))

    def _check(self, rival, problem, exact, stock):
        reference = stock if exact is None else exact
        self.difference = None
        if not np.all(np.isfinite(self.losses)):
            raise AssertionError(f"{rival.name} on {problem.name}: losses are not finite")
        # A loop without updates has other losses. One written by hand has other seeds, and so has XLA.
        no_update = rival.group.startswith("loss")
        if reference is None or no_update or (problem.seeded and (rival.jit or rival.group == "other")):
            return
        n = min(len(reference), len(self.losses))
        self.difference = float(np.max(np.abs(self.losses[:n] - reference[:n])) / abs(reference[0]))
        if not self.difference < problem.tolerance:
            raise AssertionError(f"{rival.name} on {problem.name}: losses differ from Adam's by {self.difference:.1e}")

    def sample(self) -> Time:
        """Seconds per step."""
        wall = cpu = 0.0
        for _ in range(self._runs):
            self._fit.restore(self._saved)
            taken = measure(self._fit.run)
            wall, cpu = wall + taken.wall, cpu + taken.cpu
        return Time(wall, cpu) / (self._runs * self.num_steps)


def race(
    question: str,
    problem,
    rivals: dict[str, Rival],
    num_steps: int,
    duration: float,
    rounds: int,
    jit_steps: int | None = None,
) -> list[Row]:
    """Rows of seconds per step, the times of rivals that took turns.

    Args:
      question: for progress messages.
      problem: what is minimized.
      rivals: by name.
      num_steps: of a run.
      duration: seconds of a sample, about.
      rounds: number of samples.
      jit_steps: of a run that is compiled by XLA, where they are others: its step may cost less than the call.
    """
    # Families differ in what they do with sparse gradients: each has the stock optimizer of its own as reference.
    runners, references = {}, {}
    for name, rival in rivals.items():
        started = time.perf_counter()
        others = next(iter(references.values()), None)
        reference = None if rival.group == "stock" else references.get(rival.family, others)
        steps = jit_steps if rival.jit and jit_steps else num_steps
        runner = Runner(rival, problem, steps, duration, reference)
        progress(f"{question}: {problem.name}: {name} is ready after {time.perf_counter() - started:.1f} s")
        if rival.group == "stock":
            references[rival.family] = runner.losses
        runners[name] = runner
    samples = interleave({name: runner.sample for name, runner in runners.items()}, rounds)
    rows = []
    for name, runner in runners.items():
        walls, cpus = zip(*samples[name], strict=True)
        facts = {"CPU time, µs": 1e6 * statistics.median(cpus), "steps": runner.num_steps}
        if runner.difference is not None:
            facts["loss differs by"] = runner.difference
        notes = {"group": rivals[name].group, "family": rivals[name].family}
        rows.append(Row(problem.name, name, "s", list(walls), facts, notes))
    gc.collect()
    return rows


def compare(rows: list[Row], group: str, fact: str) -> list[Row]:
    """Adds to each row how many times as fast it is as the one of a group with the smallest median."""
    best = fastest(rows, group=group)
    for row in rows if best else []:
        row.facts[fact] = median_ratio(best, row)
    return rows
