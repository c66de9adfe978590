"""Microseconds a step of Adam, by number and size of variables, in default mode (not compiled by XLA).

Each rival minimizes the sum of (x - 5)^2 in float32, or a multilayer perceptron's loss, and records the loss of every
step. "loss and gradient alone" has no update. "eager" is `minimize` called from Python, as most people do, tracing
included. "times stock" is the median over the rounds of the time of the fastest
`tfp.math.minimize`, which is the one of the four families with the smallest median of the row, by the rival's time of
the same round. How times are taken stands in `race.py`:

"""

import statistics

from benchmarks import plots, race
from benchmarks.problems import FIFTY, FOUR_MILLION, PERCEPTRON, SCALAR, TWO_HUNDRED, Quadratic
from benchmarks.question import Question
from benchmarks.rivals import RIVALS, rivals_for
from benchmarks.timing import cases, fastest, ratios

__doc__ += race.__doc__

STOCK = {name for name, rival in RIVALS.items() if rival.group == "stock"}
OTHERS = {"GradientTape loop, keras Adam", "torch loop, fused", "torch loop, foreach", "loss and gradient alone"}
ALL = {name for name, rival in RIVALS.items() if rival.group == "fusemin"} | STOCK | OTHERS
# As most people call `minimize`: not from a `tf.function`. TFP's loop then runs op by op.
EAGER = {"tfp, keras Adam, eager", "tfp, tf_keras legacy Adam, eager", "fusemin, keras Adam, eager"}
FEW = {"fusemin, keras Adam", "fusemin, tf_keras legacy Adam", "torch loop, fused"} | STOCK
# TFP takes half a minute to trace a loop over 200 variables, and minutes over 500 with all but the legacy Adam.
MANY = {"fusemin, keras Adam", "fusemin, tf_keras legacy Adam", "tfp, tf_keras legacy Adam", "torch loop, fused"}


def _many(number):
    return Quadratic(f"{number} variables of 100", number, (100,))


def _large(size):
    return Quadratic(f"1 variable of {size:,}", 1, (size,))


# Of each workload: how many steps a run has, who runs it, and where it stands in the plot.
NUMBER, SIZE = "variables of 100 elements", "one variable"
WORKLOADS = [
    (SCALAR, 2000, ALL | EAGER, (SIZE, 1)),
    (_large(100), 2000, FEW, (SIZE, 100)),
    (_large(10_000), 1000, FEW, (SIZE, 10_000)),
    (_large(100_000), 400, FEW, (SIZE, 100_000)),
    (_large(1_000_000), 50, FEW, (SIZE, 1_000_000)),
    (FOUR_MILLION, 20, ALL, (SIZE, 4_000_000)),
    (_large(10_000_000), 10, FEW, (SIZE, 10_000_000)),
    (_many(10), 500, FEW, (NUMBER, 10)),
    (FIFTY, 200, ALL | EAGER, (NUMBER, 50)),
    (_many(500), 20, MANY, (NUMBER, 500)),
    (TWO_HUNDRED, 20, {*MANY, "tfp, keras Adam"}, None),
    (PERCEPTRON, 100, ALL, None),
]
SMOKE_WORKLOADS = [
    (Quadratic("2 variables of 10", 2, (10,)), 20, ALL | EAGER, (NUMBER, 2)),
    (_large(100), 20, FEW, (SIZE, 100)),
]

# Workloads, seconds of a sample, and the number of rounds.
SIZES = {"smoke": (SMOKE_WORKLOADS, 0.0, 2), "full": (WORKLOADS, 0.15, 7)}


def _run(size, rounds):
    workloads, duration, usual_rounds = SIZES[size]
    rows = []
    for problem, num_steps, names, place in workloads:
        rivals = rivals_for(problem, names)
        here = race.race("steps", problem, rivals, num_steps, duration, rounds or usual_rounds)
        for row in here if place else []:
            row.notes.update(panel=place[0], x=place[1])
        rows += race.compare(here, "stock", "times stock")
    return rows


def summarize(rows):
    """What fusemin gains on the fastest stock TFP in default mode."""
    lines = []
    for case, here in cases(rows).items():
        stock = fastest(here, group="stock")
        ours = [ratios(stock, row) for row in here if row.notes["group"] == "fusemin"] if stock else []
        if ours:
            medians = [statistics.median(r) for r in ours]
            lines.append(
                f"{case}: fusemin takes {min(medians):.2f} to {max(medians):.2f} times as many steps per second as the "
                f"fastest stock TFP in default mode ({stock.rival}); in single rounds {min(map(min, ours)):.2f} to "
                f"{max(map(max, ours)):.2f}"
            )
    return lines


def _plot(figure, rows):
    plots.lines(
        figure,
        rows,
        x="number of variables, or elements",
        label="µs a step",
        value=lambda row, sample: 1e6 * sample,
        logarithmic=True,
        panel=lambda row: row.notes.get("panel"),
    )


QUESTION = Question(
    name="steps",
    title="How long does a step take?",
    method=__doc__,
    run=_run,
    summarize=summarize,
    plot=_plot,
)
