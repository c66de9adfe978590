"""What a second thread gains: steps and updates with one and with two intra-op threads.

TensorFlow sets the number of its threads once in a process, so a process of its own stands ready for each number,
with TensorFlow's intra-op threads and torch's set to it; their samples are interleaved as those of rivals in one
process. "step" is as in the question "steps", "update" as in "update". "times one thread" is the median over the
rounds of the time with one thread by that with two.
"""

import functools

from benchmarks import plots, race
from benchmarks.problems import FOUR_MILLION, PERCEPTRON, TWO_HUNDRED, Quadratic
from benchmarks.question import Question, fresh_process
from benchmarks.questions import update
from benchmarks.report import progress
from benchmarks.rivals import rivals_for
from benchmarks.timing import Row, cases, interleave, median_ratio

THREADS = (1, 2)
STEP_RIVALS = {"fusemin, keras Adam", "tfp, tf_keras legacy Adam"}
UPDATE_RIVALS = {update.OP, update.TORCH}
SMOKE_PROBLEM = Quadratic("2 variables of 10", 2, (10,))
# (problem, steps of a run), (elements, steps of a run), seconds of a sample, rounds.
SIZES = {
    "smoke": ([(SMOKE_PROBLEM, 10)], [(1_000, 10)], 0.0, 2),
    "full": (
        [(PERCEPTRON, 100), (TWO_HUNDRED, 20), (FOUR_MILLION, 20)],
        [(10**4, 1000), (10**5, 500), (10**6, 100), (10**7, 20)],
        0.1,
        7,
    ),
}

# In the process of a number of threads: functions that take a sample, by case and rival.
_samplers = {}


def _start(num_threads):
    import os

    # Before torch is imported, and its OpenMP with it.
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(num_threads)


def _prepare_step(case, problem, num_steps, duration) -> list[str]:
    runners = {
        name: race.Runner(rival, problem, num_steps, duration)
        for name, rival in rivals_for(problem, STEP_RIVALS).items()
    }
    _samplers.update({(case, name): lambda runner=runner: runner.sample().wall for name, runner in runners.items()})
    return list(runners)


def _prepare_update(case, elements, num_steps, duration) -> list[str]:
    builds = {name: b for name, b in update.rivals(elements, num_steps).items() if name in UPDATE_RIVALS}
    for name, build in builds.items():
        _samplers[case, name] = update.prepare(name, build, num_steps, duration)
    return list(builds)


def _sample(case, name):
    return _samplers[case, name]()


def _forget():
    _samplers.clear()


def _label(name, num_threads):
    return f"{name}, {num_threads} thread{'s' if num_threads > 1 else ''}"


def _rows(processes, case, prepare, rounds) -> list[Row]:
    progress(f"threads: {case}")
    measurements = {}
    # One after another: nothing else runs while a run is calibrated.
    for num_threads, process in processes.items():
        for name in process.submit(*prepare).result():
            measurements[name, num_threads] = lambda p=process, n=name: p.submit(_sample, case, n).result()
    samples = interleave(dict(sorted(measurements.items())), rounds)
    rows = {
        (name, n): Row(case, _label(name, n), "s", values, {}, {"threads": n, "name": name})
        for (name, n), values in samples.items()
    }
    for (name, _), row in rows.items():
        row.facts["times one thread"] = median_ratio(rows[name, 1], row)
    for process in processes.values():
        process.submit(_forget).result()
    return list(rows.values())


def _run(size, rounds):
    problems, sizes, duration, usual_rounds = SIZES[size]
    rounds, rows = rounds or usual_rounds, []
    processes = {n: fresh_process(_start, n) for n in THREADS}
    try:
        for problem, num_steps in problems:
            case = f"step, {problem.name}"
            rows += _rows(processes, case, (_prepare_step, case, problem, num_steps, duration), rounds)
        for elements, num_steps in sizes:
            case = f"update, {elements:,} elements"
            rows += _rows(processes, case, (_prepare_update, case, elements, num_steps, duration), rounds)
    finally:
        for process in processes.values():
            process.shutdown()
    return rows


def _summarize(rows):
    lines = []
    for case, here in cases(rows).items():
        gains = [f"{r.notes['name']} {r.facts['times one thread']:.2f}" for r in here if r.notes["threads"] > 1]
        lines.append(f"{case}: two threads are faster than one by {', '.join(gains)} times")
    return lines


QUESTION = Question(
    name="threads",
    title="What does a second thread gain?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(plots.bars, label="µs a step", scale=1e6),
)
