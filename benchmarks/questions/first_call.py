"""Time of the first call of `minimize`, which traces and compiles, by number of variables, in default mode and by XLA.

The sum of (x - 5)^2, ten steps with Adam, called in eager mode as a user calls it; each time with new variables,
a new optimizer and a new loss function, so that nothing is traced already. What TensorFlow does once in a process is
not counted: each rival makes a call on one variable before. Creating the variables is not counted either; creating
the optimizer's own is. Rounds of all rivals are interleaved, garbage is collected before each call and not during it.
"times TFP" is the median over the rounds of the time by that of TFP with the same optimizer and mode.
"""

import functools
import gc
import statistics

from benchmarks import plots
from benchmarks.problems import FIFTY, TWO_HUNDRED, Quadratic
from benchmarks.question import Question
from benchmarks.report import progress
from benchmarks.rivals import ADAMS, RIVALS, minimize_of, tf_math, tf_variables
from benchmarks.timing import Row, Time, cases, interleave, measure, median_ratio

ONE = Quadratic("1 variable of 100", 1, (100,))
TEN = Quadratic("10 variables of 100", 10, (100,))
# Problems with their number of rounds.
SIZES = {"smoke": ([(ONE, 1)]), "full": [(ONE, 5), (TEN, 5), (FIFTY, 3), (TWO_HUNDRED, 2)]}
NUM_STEPS = 10
# By mode, as it stands in names: the family that new code uses, and the one whose updates are a kernel already.
FAMILIES = {"": ["keras", "tf_keras legacy"], ", jit": ["keras"]}


def _of_minimize(library, family, jit_compile, problem) -> Time:
    """The time of a call of `minimize` that was never made before."""
    variables, optimizer = tf_variables(problem), ADAMS[family][0](0.05)
    minimize, loss = minimize_of(library), problem.bind(tf_math())

    def call():
        losses = minimize(
            lambda: loss(variables),
            NUM_STEPS,
            optimizer,
            trainable_variables=variables,
            jit_compile=jit_compile,
        )
        return losses.numpy()

    return measure(call)


def _of_jax(problem) -> Time:
    return measure(RIVALS[_JAX].build(problem, 0.05, NUM_STEPS).run)


_JAX = "jax + optax, scan, jit"


def _first_call(function, problem) -> Time:
    gc.collect()
    return function(problem)


def _rivals():
    functions = {}
    for mode, families in FAMILIES.items():
        for library in ("tfp", "fusemin"):
            for family in families:
                name = f"{library}, {family} Adam{mode}"
                if RIVALS[name].available():
                    functions[name] = functools.partial(_of_minimize, library, family, bool(mode))
    if RIVALS[_JAX].available():
        functions[_JAX] = _of_jax
    return functions


def _run(size, rounds):
    functions, rows = _rivals(), []
    for function in functions.values():
        _first_call(function, ONE)
    for problem, usual_rounds in SIZES[size]:
        progress(f"first_call: {problem.name}")
        measurements = {name: functools.partial(_first_call, f, problem) for name, f in functions.items()}
        samples = interleave(measurements, rounds or usual_rounds)
        here = {}
        for name in functions:
            walls, cpus = zip(*samples[name], strict=True)
            notes = {"x": problem.num_variables, "panel": "XLA" if name.endswith("jit") else "default mode"}
            here[name] = Row(problem.name, name, "s", list(walls), {"CPU time, s": statistics.median(cpus)}, notes)
        for name, row in here.items():
            stock = here.get(name.replace("fusemin", "tfp"))
            if stock:
                row.facts["times TFP"] = median_ratio(row, stock)
        rows += here.values()
    return rows


def _summarize(rows):
    lines = []
    for case, here in cases(rows).items():
        for row in here:
            if row.rival.startswith("fusemin") and "times TFP" in row.facts:
                lines.append(f"{case}: the first call of {row.rival} takes {row.facts['times TFP']:.2f} of TFP's time")
    return lines


QUESTION = Question(
    name="first_call",
    title="How long does the first call take?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(
        plots.lines,
        x="number of variables",
        label="s",
        logarithmic=True,
        panel=lambda row: row.notes["panel"],
    ),
)
