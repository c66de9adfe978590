"""Peak memory of tracing a variable: how much more than the trace itself.

One variable and Keras 3's Adam; `trace_fn` returns the variable at each step, so that the trace has `steps x elements`
floats. In a process of its own: a call of ten steps on one element first, which loads and creates what is there once;
then the resident memory is read, the call is made in eager mode, and the peak of the resident memory is read. The
difference, which holds all that the call needs (graph, gradients, trace), is compared with the bytes of the trace. The
last row of the trace is checked against the variable. Rounds of both libraries are interleaved.

The peak is VmHWM of /proc: ru_maxrss is passed on from the process that starts another. It holds what came before the
call too, so that for traces of a few megabytes the figure is too large.
"""

import functools
import gc
import importlib.util
import pathlib
import re

import numpy as np
import psutil

from benchmarks import plots
from benchmarks.question import Question, in_fresh_process
from benchmarks.report import progress
from benchmarks.rivals import keras_adam, minimize_of
from benchmarks.timing import Row, interleave

# (steps, elements) of the traces, and the number of rounds.
SIZES = {
    "smoke": ([(100, 10_000)], 1),
    "full": ([(1_000, 25_000), (1_000, 50_000), (1_000, 100_000)], 3),
}


def _peak_resident_bytes() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))


def _growth(library, num_steps, num_elements) -> int:
    """Bytes by which the peak of a call is above the memory before it. Runs in a fresh process."""
    import tensorflow as tf

    minimize = minimize_of(library)

    def trace_variable(steps, elements):
        x = tf.Variable(tf.zeros([elements]), name="x")
        trace = minimize(
            lambda: tf.reduce_sum((x - 5.0) ** 2),
            steps,
            keras_adam(0.05),
            trainable_variables=[x],
            trace_fn=lambda quantities: quantities.parameters[0],
        )
        return trace, x

    trace_variable(10, 1)
    gc.collect()
    before = psutil.Process().memory_info().rss
    trace, x = trace_variable(num_steps, num_elements)
    growth = _peak_resident_bytes() - before
    np.testing.assert_array_equal(trace[-1], x)
    assert trace.shape == (num_steps, num_elements)
    return growth


def _run(size, rounds):
    traces, usual_rounds = SIZES[size]
    libraries = ["fusemin"] + ["tfp"] * bool(importlib.util.find_spec("tensorflow_probability"))
    rows = []
    for num_steps, num_elements in traces:
        progress(f"memory: {num_steps} steps of {num_elements} floats")
        measurements = {
            library: functools.partial(in_fresh_process, _growth, library, num_steps, num_elements)
            for library in libraries
        }
        samples = interleave(measurements, rounds or usual_rounds)
        trace_bytes = 4 * num_steps * num_elements
        for library in libraries:
            row = Row(f"{num_steps:,} steps x {num_elements:,} floats", library, "B", samples[library])
            row.facts["times the trace"] = row.median / trace_bytes
            row.notes["x"] = trace_bytes / 1e6
            rows.append(row)
    return rows


def _summarize(rows):
    return [f"{r.case}: {r.rival} needs {r.facts['times the trace']:.2f} times the memory of the trace" for r in rows]


QUESTION = Question(
    name="memory",
    title="How much memory does a trace take at its peak?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(plots.lines, x="trace, MB", label="peak growth, MB", value=lambda row, sample: sample / 1e6),
)
