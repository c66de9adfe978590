"""`python -m benchmarks.slot_memory`: what Adam holds of BERT-base on two replicas, with slots on both or in parts.

Two logical CPUs and a MirroredStrategy, float32. Each rival runs in a process of its own: what the process grows by
when the optimizer makes its slots and takes steps, what slots are on each device, and what a step takes, of which
gradients are given.
"slots in parts" is `fusemin.fuse(optimizer, shard_slots=True)`; "sum of all, then parts" is that with TensorFlow's sum
for all replicas in place of the one for the owner of a variable.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from benchmarks.shapes import bert_base
from benchmarks.two_replicas import mirrored

STEPS = 5
WHOLE, PARTS, SUM_OF_ALL = "slots on both", "slots in parts", "sum of all, then parts"
RIVALS = (WHOLE, PARTS, SUM_OF_ALL)


def record(path: pathlib.Path, key: str, found) -> None:
    """Puts what was found into a file of JSON, beside what others have found."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, key: found}, indent=1) + "\n", encoding="utf-8")


def _measure(rival: str, scale: int) -> dict:
    import keras
    import psutil
    import tensorflow as tf

    import fusemin
    from fusemin.update import replicas

    strategy = mirrored()
    if rival == SUM_OF_ALL:
        sum_for_owners = replicas._sum
        replicas._sum = lambda strategy, gradients, containers, shards: sum_for_owners(
            strategy, gradients, containers, None
        )
    with strategy.scope():
        shapes = [(max(1, shape[0] // scale), *shape[1:]) for shape in bert_base()]
        variables = [tf.Variable(tf.fill(shape, 0.5)) for shape in shapes]
        optimizer = fusemin.fuse(keras.optimizers.Adam(1e-3), shard_slots=rival != WHOLE)
        process = psutil.Process()
        before = process.memory_info().rss
        optimizer.build(variables)
        predicted = fusemin.explain(optimizer, variables).replication.slot_bytes

    held = collections.Counter()
    for variable in optimizer.variables:
        if len(variable.shape) == 0:
            continue  # A count, or the learning rate.
        for of_replica in strategy.experimental_local_results(variable.value):
            held[of_replica.device[-1]] += of_replica.shape.num_elements() * of_replica.dtype.size

    def on_replica():
        optimizer.apply([1e-3 * x for x in variables], variables)

    step = tf.function(lambda: strategy.run(on_replica))
    step()
    times = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    # Not before: until a step writes them, the devices of one process share what is alike.
    grown = process.memory_info().rss - before
    return {
        "parameters": sum(v.shape.num_elements() for v in variables),
        "predicted": predicted,
        "held": [held[i] for i in "01"],
        "grown": grown,
        "ms": 1e3 * statistics.median(times),
    }


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slot_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="variables of an N-th of the rows")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures into FILE")
    parser.add_argument("--rival", choices=RIVALS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rival:
        print(json.dumps(_measure(options.rival, options.scale)))
        return 0
    rows = {}
    for rival in RIVALS:
        command = [sys.executable, "-m", "benchmarks.slot_memory", "--scale", str(options.scale), "--rival", rival]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        rows[rival] = row = json.loads(done.stdout.splitlines()[-1])
        held = ", ".join(f"{n / 1e6:.0f} MB" for n in row["held"])
        grown = f"the process grew by {row['grown'] / 1e6:.0f} MB"
        print(f"{rival}: {held} on the devices, {grown}; {row['ms']:.0f} ms a step")
    if options.json:
        record(options.json, "slot memory", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
