"""One of several workers of a MultiWorkerMirroredStrategy: `python -m tests.distribution.worker FILE`, with TF_CONFIG
in the environment. Fits with stock's step and with the fused one, and writes what came out to FILE."""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf
import tf_keras

import fusemin
from tests.distribution.two_replicas import Regression

NUM_STEPS = 4


OPTIMIZERS = {
    "global_clipnorm": lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05), dynamic_growth_steps=3),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.05, jit_compile=False, use_ema=True),
    "legacy": lambda: tf_keras.optimizers.legacy.Adam(0.05),
    # Which stock cannot do here.
    "accumulation": lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=2),
}


def main(path: str) -> None:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
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
    np.savez(path, replicas=strategy.num_replicas_in_sync, **found)


if __name__ == "__main__":
    main(sys.argv[1])
