"""Microseconds a step of Adam on real models, data from scikit-learn.

Models, in `models.py`: the eight schools and a Bayesian logistic regression (breast cancer) by variational
inference, hyperparameters of a Gaussian process (diabetes), a multilayer perceptron (digits), a matrix factorisation
with sparse gradients (digits). "loss and gradient alone" is the same loop without an update, each gradient stored in a
variable so that it is computed. "times stock" is as in the question "steps". How times are taken stands in
`race.py`:

"""

import functools

from benchmarks import plots, race
from benchmarks.question import Question
from benchmarks.questions import steps
from benchmarks.rivals import RIVALS, rivals_for
from benchmarks.timing import cases, median_ratio

__doc__ += race.__doc__

DEFAULT = {name for name, rival in RIVALS.items() if rival.group in ("fusemin", "stock")}
RIVAL_NAMES = DEFAULT | {
    "fusemin, keras Adam, jit",
    "tfp, keras Adam, jit",
    "GradientTape loop, keras Adam",
    "GradientTape loop, fuse(keras Adam)",
    "loss and gradient alone",
}
# Steps of a run, seconds of a sample, and the number of rounds.
NUM_STEPS = {"Gaussian process": 20}
SIZES = {"smoke": (4, 0.0, 2), "full": (500, 0.15, 7)}


def _run(size, rounds):
    from benchmarks.models import MODELS

    most_steps, duration, usual_rounds = SIZES[size]
    rows = []
    for problem in MODELS:
        num_steps = min(most_steps, NUM_STEPS.get(problem.name, most_steps))
        rivals = rivals_for(problem, RIVAL_NAMES)
        here = race.race("models", problem, rivals, num_steps, duration, rounds or usual_rounds)
        rows += race.compare(here, "stock", "times stock")
    return rows


def _summarize(rows):
    lines = steps.summarize(rows)
    for case, here in cases(rows).items():
        by_name = {row.rival: row for row in here}
        alone, ours = by_name["loss and gradient alone"], by_name["fusemin, keras Adam"]
        lines.append(f"{case}: loss and gradient alone are {median_ratio(alone, ours):.2f} of fusemin's step")
    return lines


QUESTION = Question(
    name="models",
    title="How long does a step of a real model take?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(
        plots.bars, label="µs a step", scale=1e6, only=lambda row: not row.notes["group"].endswith("jit")
    ),
)
