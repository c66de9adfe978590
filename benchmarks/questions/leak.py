"""Memory that calls of `minimize` in eager mode leave behind.

In a process of its own each library minimizes (x - 5)^2 by ten steps of Keras 3's Adam again and again, each time with
a new variable, a new optimizer and a new loss function. After every few calls garbage is collected and the resident
memory is read. The figure is its growth from the end of the first calls, which load and create what is there once, to
the last.
"""

import gc
import importlib.util

import psutil

from benchmarks import plots
from benchmarks.question import Question, in_fresh_process
from benchmarks.report import progress
from benchmarks.rivals import keras_adam, minimize_of
from benchmarks.timing import Row

# The number of calls, how many of them come before the growth is counted, and after how many memory is read.
SIZES = {"smoke": (6, 2, 2), "full": (200, 20, 20)}


def _resident(library, num_calls, interval) -> dict[int, int]:
    """Resident bytes by number of calls. Runs in a fresh process."""
    import tensorflow as tf

    minimize, process, resident = minimize_of(library), psutil.Process(), {}

    def call():
        x = tf.Variable(0.0, name="x")
        return minimize(lambda: (x - 5.0) ** 2, 10, keras_adam(0.05), trainable_variables=[x])

    for number in range(1, num_calls + 1):
        call()
        if number % interval == 0:
            gc.collect()
            resident[number] = process.memory_info().rss
    return resident


def _run(size, rounds):
    del rounds  # A curve over many calls: it shows its own noise.
    num_calls, first, interval = SIZES[size]
    rows = []
    for library in ["fusemin"] + ["tfp"] * bool(importlib.util.find_spec("tensorflow_probability")):
        progress(f"leak: {num_calls} calls of {library}")
        resident = in_fresh_process(_resident, library, num_calls, interval)
        growth = resident[num_calls] - resident[first]
        facts = {"MB a call": growth / (num_calls - first) / 1e6}
        notes = {"calls": list(resident), "resident": list(resident.values())}
        rows.append(Row(f"calls {first + 1} to {num_calls}", library, "B", [growth], facts, notes))
    return rows


def _summarize(rows):
    return [f"{r.case}: {r.rival} grows by {r.median / 1e6:.1f} MB, {r.facts['MB a call']:.2f} a call" for r in rows]


def _plot(figure, rows):
    axes = figure.subplots()
    for row in rows:
        resident = [r / 1e6 for r in row.notes["resident"]]
        axes.plot(row.notes["calls"], resident, color=plots.color(row.rival), label=row.rival)
    axes.set(xlabel="calls", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend()


QUESTION = Question(
    name="leak",
    title="How much memory do calls leave behind?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=_plot,
)
