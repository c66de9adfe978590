"""`python -m benchmarks.replicas`: a step of Adam on two replicas of one machine's CPU, stock and fused.

150 variables of 100 elements under a MirroredStrategy, float32; gradients are given, so that a step is the sum of them
over the replicas and the update. Each rival is a `tf.function`, traced before time is taken; "the sum alone" has no
update. Rounds are interleaved. "ops" are those of the traced step and of the functions that it calls. Of `minimize`,
on the two replicas and on one device, a step also has the loss, of one operation for each variable, and its gradients.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import sys

from benchmarks.replicated_steps import FUSED, STOCK, SUM, build_step
from benchmarks.slot_memory import record
from benchmarks.timing import interleave, measure
from benchmarks.two_replicas import mirrored

NUMBER, SIZE, STEPS = 150, 100, 20
MINIMIZE, ALONE = "minimize", "minimize on one device"


def _build_minimize(strategy, number):
    """A function that takes `STEPS` steps of `minimize`, and a step's number of ops; of the same variables, whose
    gradients are halves of them, or with two replicas quarters. Without a strategy on one device."""
    import keras
    import tensorflow as tf

    import fusemin

    with contextlib.nullcontext() if strategy is None else strategy.scope():
        variables = [tf.Variable(tf.ones([SIZE]), name=f"x{i}") for i in range(number)]
        replicas = 1 if strategy is None else strategy.num_replicas_in_sync

        def loss():
            return tf.add_n([tf.reduce_sum(x**2) for x in variables]) / (4.0 * replicas)

        fit = fusemin.Minimizer(loss, keras.optimizers.Adam(1e-3), trainable_variables=variables)

    def steps():
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            fit(STEPS)

    steps()
    [(step, _)] = fit._program.traces.values()
    return steps, step.num_ops()


def _num_ops(step) -> int:
    definition = step.get_concrete_function().graph.as_graph_def()
    return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="few variables, to see that all of it runs")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np

    strategy, number = mirrored(), 3 if options.smoke else NUMBER
    built = {name: build_step(name, strategy, number, SIZE) for name in (STOCK, FUSED, SUM)}
    for step, _ in built.values():
        step()
    for mine, theirs in zip(built[FUSED][1], built[STOCK][1], strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())

    def sampler(step):
        def steps():
            for _ in range(STEPS):
                step()

        return lambda: measure(steps).wall / STEPS

    rounds = 2 if options.smoke else options.rounds
    runs = {MINIMIZE: _build_minimize(strategy, number), ALONE: _build_minimize(None, number)}
    samplers = {name: sampler(step) for name, (step, _) in built.items()}
    samplers |= {name: lambda steps=steps: measure(steps).wall / STEPS for name, (steps, _) in runs.items()}
    samples = interleave(samplers, rounds)
    rows = {}
    for name, (_, ops) in runs.items():
        rows[name] = {"ms": 1e3 * statistics.median(samples[name]), "ops": ops}
        print(f"{name}: {rows[name]['ms']:.2f} ms a step, {rows[name]['ops']:,} ops")
    for name, (step, _) in built.items():
        rows[name] = {"ms": 1e3 * statistics.median(samples[name]), "ops": _num_ops(step)}
        print(f"{name}: {rows[name]['ms']:.2f} ms a step, {rows[name]['ops']:,} ops")
    step_times = statistics.median(a / b for a, b in zip(samples[STOCK], samples[FUSED], strict=True))
    update_times = (rows[STOCK]["ms"] - rows[SUM]["ms"]) / (rows[FUSED]["ms"] - rows[SUM]["ms"])
    print(f"fused is {step_times:.2f} times as fast a step, {update_times:.2f} times without the sum")
    if options.json:
        found = {"variables": number, "rows": rows, "step, times": step_times, "update, times": update_times}
        for key, value in found.items():
            record(options.json, key, value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
