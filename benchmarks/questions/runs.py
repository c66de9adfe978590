"""Steps per second of a run that is watched, beside those of a bare `Minimizer` call.

Both take the same number of steps of Keras 3's Adam, of one `Minimizer`, in turns of about a quarter of a second: the
callback of the watched run is where its clock stands still while a bare call takes a turn. So the two meet the same
drift of the machine, which in turns of seconds was several times what is measured here. The watched run has a progress
bar, drawn into nothing, one callback, and a checkpoint each 5 seconds of its own time and at its end, which is after
10. Its time is all from its beginning to its end: the first short segments, files, waiting for the last checkpoint.
What is still written in the background while the bare call has its turn is little: it begins with the segment after
the checkpoint. What is traced and compiled is there before time is taken. "of bare" is the median over the rounds of
the time of the bare turns by that of the watched run: the part of its steps per second. "of bare, CPU time" is the same
of the time of all threads.
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
from benchmarks.timing import Row, Time, cases, measure, ratios

# Problems, seconds of a turn, how many turns, and the number of rounds.
SIZES = {
    "smoke": ([Quadratic("2 variables of 10", 2, (10,))], 0.01, 4, 2),
    "full": ([SCALAR, FIFTY, PERCEPTRON, FOUR_MILLION], 0.25, 40, 3),
}
CHECKPOINTS = 2
CALIBRATION_STEPS = 100


def _run(size, rounds):
    problems, seconds, turns, usual_rounds = SIZES[size]
    rows = []
    for problem in problems:
        for mode, jit_compile in (("", False), (", jit", True)):
            rows += _compare(problem, mode, jit_compile, seconds, turns, rounds or usual_rounds)
    return rows


def _compare(problem, mode, jit_compile, seconds, turns, rounds):
    import fusemin

    variables = tf_variables(problem)
    loss = problem.bind(tf_math())
    call = (lambda seed: loss(variables, seed)) if problem.seeded else (lambda: loss(variables))
    minimizer = fusemin.Minimizer(call, keras_adam(1e-4), trainable_variables=variables, jit_compile=jit_compile)
    seed = (1, 2) if problem.seeded else None

    def bare(num_steps):
        return measure(lambda: minimizer(num_steps, seed).numpy())

    # The first run compiles, and the first of a number of steps does in XLA.
    steps = CALIBRATION_STEPS
    while True:
        bare(steps)
        taken = bare(steps).wall
        if taken > 0.5 * seconds:
            break
        steps *= 4
    steps = max(1, round(steps * seconds / taken))
    bare(steps)
    every = datetime.timedelta(seconds=2 * seconds * turns / CHECKPOINTS)  # The turns of the bare call are in it.

    def race():
        """The time of a watched run, and that of the bare calls in between."""
        others = []

        def take_turn(state):
            others.append(bare(steps))

        def watched():
            with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
                checkpoint = fusemin.Checkpoint(directory, every=every)
                minimizer.run(
                    steps * turns, seed, progress="always", callbacks=take_turn, every=steps, checkpoint=checkpoint
                )

        both, other = measure(watched), Time(*map(sum, zip(*others, strict=True)))
        return Time(both.wall - other.wall, both.cpu - other.cpu), other

    progress(f"runs: {problem.name}{mode}: {turns} turns of {steps} steps")
    races = [race() for _ in range(rounds + 1)][1:]
    rows = [
        Row(
            f"{problem.name}{mode}",
            name,
            "s",
            [t.wall / (steps * turns) for t in own],
            {"steps": steps * turns, "CPU time, µs": 1e6 * statistics.median(t.cpu for t in own) / (steps * turns)},
            {"group": name},
        )
        for name, own in (("bare", [b for _, b in races]), ("watched", [w for w, _ in races]))
    ]
    rows[1].facts["of bare"] = statistics.median(ratios(*rows))
    rows[1].facts["of bare, CPU time"] = statistics.median(bare.cpu / watched.cpu for watched, bare in races)
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
