"""Steps per second of a run that is watched, beside those of a bare `Minimizer` call.

Both take the same steps of Keras 3's Adam, from the same state, in one process, in turn. The watched run has a progress
bar, one callback and a checkpoint each 5 seconds and at the end; the bar is drawn into nothing. Each takes so many
steps that a bare call takes about 5 seconds, so there are one or two checkpoints. What is traced and compiled is there
before time is taken. "of bare" is the median over the rounds of the time of the bare call by that of the watched run of
the same round: the part of its steps per second. "of bare, CPU time" is the same of the time of all threads, which
other processes on the machine disturb less.
"""

import contextlib
import datetime
import io
import statistics
import tempfile

from benchmarks.problems import FIFTY, FOUR_MILLION, PERCEPTRON, SCALAR, Quadratic
from benchmarks.question import Question
from benchmarks.report import progress
from benchmarks.rivals import keras_adam, tf_math, tf_variables
from benchmarks.timing import Row, cases, interleave, measure, ratios

# Problems, seconds of a call, and the number of rounds.
SIZES = {
    "smoke": ([Quadratic("2 variables of 10", 2, (10,))], 0.05, 2),
    "full": ([SCALAR, FIFTY, PERCEPTRON, FOUR_MILLION], 5.0, 5),
}
CALIBRATION_STEPS = 100


def _run(size, rounds):
    problems, seconds, usual_rounds = SIZES[size]
    rows = []
    for problem in problems:
        for mode, jit_compile in (("", False), (", jit", True)):
            rows += _compare(problem, mode, jit_compile, seconds, rounds or usual_rounds)
    return rows


def _compare(problem, mode, jit_compile, seconds, rounds):
    import fusemin

    variables = tf_variables(problem)
    loss = problem.bind(tf_math())
    call = (lambda seed: loss(variables, seed)) if problem.seeded else (lambda: loss(variables))
    minimizer = fusemin.Minimizer(call, keras_adam(1e-4), trainable_variables=variables, jit_compile=jit_compile)
    seed = (1, 2) if problem.seeded else None
    # The first run compiles, and the first of a number of steps does in XLA.
    num_steps = CALIBRATION_STEPS
    while True:
        minimizer(num_steps, seed)
        taken = measure(lambda: minimizer(num_steps, seed).numpy()).wall  # noqa: B023  It is called here.
        if taken > 0.2 * seconds:
            break
        num_steps *= 8
    num_steps = max(1, round(num_steps * seconds / taken))

    def watched():
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
            return minimizer.run(
                num_steps,
                seed,
                progress="always",
                callbacks=lambda state: None,
                checkpoint=fusemin.Checkpoint(directory, every=datetime.timedelta(seconds=5)),
            )

    runs = {"bare": lambda: minimizer(num_steps, seed).numpy(), "watched": watched}
    progress(f"runs: {problem.name}{mode}: {num_steps} steps")
    samples = interleave({name: lambda run=run: measure(run) / num_steps for name, run in runs.items()}, rounds + 1)
    rows = [
        Row(
            f"{problem.name}{mode}",
            name,
            "s",
            [s.wall for s in own[1:]],
            {"steps": num_steps, "CPU time, µs": 1e6 * statistics.median(s.cpu for s in own[1:])},
            {"group": name},
        )
        for name, own in samples.items()
    ]
    rows[1].facts["of bare"] = statistics.median(ratios(*rows))
    pairs = zip(*(own[1:] for own in samples.values()), strict=True)
    rows[1].facts["of bare, CPU time"] = statistics.median(bare.cpu / watched.cpu for bare, watched in pairs)
    return rows


def _summarize(rows):
    return [
        f"{case}: a run with progress, a callback and checkpoints takes {watched.facts['of bare']:.3f} of the steps "
        f"per second of a bare call ({1e6 * bare.median:.3g} µs a step); "
        f"{watched.facts['of bare, CPU time']:.3f} by CPU time"
        for case, (bare, watched) in cases(rows).items()
    ]


def _plot(figure, rows):
    axes = figure.subplots()
    pairs = list(cases(rows).items())
    axes.barh([case for case, _ in pairs], [watched.facts["of bare"] for _, (_, watched) in pairs])
    axes.axvline(0.98, color="black", linewidth=1)
    axes.set(xlabel="part of the steps per second of a bare call", xlim=(0.9, None))


QUESTION = Question(
    name="runs",
    title="What does it cost to watch a run?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=_plot,
)
