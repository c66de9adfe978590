"""One of several workers of a MultiWorkerMirroredStrategy: `python -m tests.distribution.worker FILE`, with TF_CONFIG
in the environment. Fits with stock's step and with the fused one, then by `minimize`, and writes what came out to FILE.

With `--checkpoint DIR` a run of `minimize` is resumed from there, and the same run is taken without it. With
`--die-at STEP` the worker kills itself at this step, if it is not the first one.
"""

from __future__ import annotations

import argparse
import os
import signal

import keras
import numpy as np
import tensorflow as tf

import fusemin
from tests.distribution.two_replicas import Minimization, Regression

NUM_STEPS = 4
RUN_STEPS, EVERY = 60, 10


def fit(strategy) -> dict:
    """Custom loops, by stock and fused, and `minimize`."""
    found = {}
    for name, prepare in (("stock", lambda o: o), ("fused", fusemin.fuse)):
        fit = Regression(strategy, lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5), prepare).take(NUM_STEPS)
        graph = fit.step.get_concrete_function().graph
        found[f"{name} ops"] = sum(op.type == "Fusemin>FusedStep" for op in graph.get_operations())
        for i, value in enumerate(fit.copies()[0]):
            found[f"{name} {i}"] = value
    fit = Minimization(strategy, lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5))
    found["minimize trace"] = fit.minimize(NUM_STEPS).numpy()
    for i, value in enumerate(fit.copies()[0]):
        found[f"minimize {i}"] = value
    return found


def resume(strategy, directory: str, die_at: int | None) -> dict:
    """A run that goes on from the checkpoints in a directory, and the same run as a whole."""
    is_first = strategy.cluster_resolver.task_id == 0

    def die(state):
        if state.step >= die_at and not is_first:
            os.kill(os.getpid(), signal.SIGKILL)

    found = {}
    callbacks = [] if die_at is None else [die]
    checkpoint = fusemin.Checkpoint(directory, every=EVERY)
    for name, keywords in (("resumed", {"checkpoint": checkpoint, "callbacks": callbacks}), ("whole", {})):
        fit = Minimization(strategy, lambda: keras.optimizers.Adam(0.05))
        found[f"{name} trace"] = fit.run(RUN_STEPS, every=5, **keywords).trace.numpy()
        for i, value in enumerate(fit.copies()[0]):
            found[f"{name} {i}"] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--checkpoint")
    parser.add_argument("--die-at", type=int)
    options = parser.parse_args()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    checkpoint = options.checkpoint
    found = fit(strategy) if checkpoint is None else resume(strategy, checkpoint, options.die_at)
    np.savez(options.file, replicas=strategy.num_replicas_in_sync, **found)


if __name__ == "__main__":
    main()
