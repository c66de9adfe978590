"""One of several workers of a MultiWorkerMirroredStrategy: `python -m tests.distribution.worker FILE`, with TF_CONFIG
in the environment. Fits with stock's step and with the fused one, and writes what came out to FILE."""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

import fusemin
from tests.distribution.two_replicas import Regression

NUM_STEPS = 4


def main(path: str) -> None:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {}
    for name, prepare in (("stock", lambda o: o), ("fused", fusemin.fuse)):
        fit = Regression(strategy, lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5), prepare).take(NUM_STEPS)
        graph = fit.step.get_concrete_function().graph
        found[f"{name} ops"] = sum(op.type == "Fusemin>FusedStep" for op in graph.get_operations())
        for i, value in enumerate(fit.copies()[0]):
            found[f"{name} {i}"] = value
    np.savez(path, replicas=strategy.num_replicas_in_sync, **found)


if __name__ == "__main__":
    main(sys.argv[1])
