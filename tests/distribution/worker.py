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
import tf_keras

import fusemin
from tests.distribution.two_replicas import Minimization, Regression

NUM_STEPS = 4
RUN_STEPS, EVERY = 60, 10

OPTIMIZERS = {
    "global_clipnorm": lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05), dynamic_growth_steps=3),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.05, jit_compile=False, use_ema=True),
    "legacy": lambda: tf_keras.optimizers.legacy.Adam(0.05),
    # Which stock cannot do here.
    "accumulation": lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=2),
}


def fit(strategy) -> dict:
    """Custom loops, by stock and fused, and `minimize`."""
    found = {}
    for option, make in OPTIMIZERS.items():
        for name, prepare in (("stock", lambda o: o), ("fused", fusemin.fuse)):
            # What stock cannot do is compared with one device.
            alone = option == "accumulation" and name == "stock"
            fit = Regression(tf.distribute.get_strategy() if alone else strategy, make, prepare).take(NUM_STEPS)
            graph = fit.step.get_concrete_function().graph
            updates = [op for op in graph.get_operations() if op.type == "Fusemin>FusedStep"]
            found[f"{option}, {name} ops"] = len(updates)
            for i, value in enumerate(fit.copies()[0]):
                found[f"{option}, {name} {i}"] = value
    fit = Minimization(strategy, OPTIMIZERS["global_clipnorm"])
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
