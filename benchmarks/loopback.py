"""`python -m benchmarks.loopback`: a step of Adam in two processes of one machine, over 127.0.0.1.

A MultiWorkerMirroredStrategy, one replica a process, float32; gradients are given. "the sum alone" is one `all_reduce`
of all gradients, "fused" and "stock" are whole steps. Every process times the same calls, which wait for each other;
the figures are those of the first. Rounds are interleaved.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys

from benchmarks.replicated_steps import FUSED, STOCK, SUM, build_step
from benchmarks.slot_memory import record
from benchmarks.timing import interleave, measure

# Number and size of the variables.
CASES = {"150 x 100": (150, 100), "10 x 100,000": (10, 100_000), "10 x 1,000,000": (10, 1_000_000)}
SECONDS = 420


def _work(rounds: int, smoke: bool) -> dict:
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {}
    for case, (number, size) in CASES.items():
        if smoke and size > 100:
            continue
        steps_a_round = max(1, 1_000_000 // (number * size))
        steps_a_round = min(steps_a_round, 20)
        built = {name: build_step(name, strategy, number, size)[0] for name in (SUM, FUSED, STOCK)}
        for step in built.values():
            step()

        def sampler(step, steps_a_round=steps_a_round):
            def steps():
                for _ in range(steps_a_round):
                    step()

            return lambda: measure(steps).wall / steps_a_round

        samples = interleave({name: sampler(step) for name, step in built.items()}, rounds)
        found[case] = {
            "bytes": 4 * number * size,
            **{name: 1e3 * statistics.median(values) for name, values in samples.items()},
        }
    return found


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loopback", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="the smallest case, to see that all of it runs")
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures into FILE")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(_work(options.rounds, options.smoke)))
        return 0
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    command = [sys.executable, "-m", "benchmarks.loopback", "--worker", "--rounds", str(options.rounds)]
    workers = []
    try:
        for i in range(2):
            config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": config, "CUDA_VISIBLE_DEVICES": "-1"}
            workers.append(
                subprocess.Popen(
                    [*command, *(["--smoke"] if options.smoke else [])],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
        outputs = [worker.communicate(timeout=SECONDS)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if any(worker.returncode for worker in workers):
        print(f"a worker ended with {[worker.returncode for worker in workers]}", file=sys.stderr)
        return 1
    found = json.loads(outputs[0].splitlines()[-1])
    for case, row in found.items():
        print(f"{case}: " + ", ".join(f"{name} {row[name]:.2f} ms" for name in (SUM, FUSED, STOCK)))
    if options.json:
        record(options.json, "loopback", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
