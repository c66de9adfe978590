"""Fits on the two logical CPUs of `benchmarks.two_replicas`. They must be there before TensorFlow makes its devices, so
what uses them runs in a process of its own: `run_tests`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

import fusemin

ROOT = pathlib.Path(__file__).parents[2]


def run_tests(*arguments, timeout=600) -> subprocess.CompletedProcess:
    """Runs pytest in a process that may make its logical devices."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "FUSEMIN_TWO_REPLICAS": "1", "PYTEST_ADDOPTS": "", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, timeout=timeout, capture_output=True, text=True
    )


def data() -> tuple[np.ndarray, np.ndarray]:
    """8 rows of 5 numbers, and what is to be predicted of each."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 5)).astype(np.float32), rng.standard_normal(8).astype(np.float32)


def copies_of(strategy, optimizer, variables) -> list[list[np.ndarray]]:
    """The values on each replica of variables, and of all that an optimizer holds."""
    strategy = strategy or tf.distribute.get_strategy()
    held = optimizer.variables
    held = list(held() if callable(held) else held)
    values = [getattr(v, "value", v) if not isinstance(v, tf.Variable) else v for v in [*variables, *held]]
    of_each = [[x.numpy() for x in strategy.experimental_local_results(v)] for v in values]
    return [[copies[i % len(copies)] for copies in of_each] for i in range(strategy.num_replicas_in_sync)]


class Regression:
    """Two variables that a strategy keeps copies of, and an optimizer that fits them, each replica on its own rows.

    Attributes:
      optimizer: made by `make` in the scope.
      variables: a matrix and a vector; with a `lookup` also a table whose gradient is sparse.
    """

    def __init__(self, strategy, make, prepare=lambda o: o, lookup=False):
        self._strategy = strategy
        rng = np.random.default_rng(1)
        with strategy.scope():
            shapes = [(5, 3), (3,)] + ([(6, 3)] if lookup else [])
            self.variables = [tf.Variable(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
            self.optimizer = prepare(make())
            # TensorFlow does not make all of the slots in the first call of a `tf.function` on several replicas.
            build = getattr(self.optimizer, "build", None) or self.optimizer._create_all_weights
            build(self.variables)
        self._lookup = lookup
        self.step = tf.function(self.step_as_is)

    def _on_replica(self):
        x, y = map(tf.constant, data())
        i = tf.distribute.get_replica_context().replica_id_in_sync_group
        number = self._strategy.num_replicas_in_sync
        share = 8 // number
        x, y = x[i * share : (i + 1) * share], y[i * share : (i + 1) * share]
        with tf.GradientTape() as tape:
            hidden = tf.tanh(x @ self.variables[0])
            if self._lookup:
                hidden += tf.gather(self.variables[2], [0, 2, 2, 5][:share])
            loss = tf.reduce_sum((tf.linalg.matvec(hidden, self.variables[1]) - y) ** 2)
            if hasattr(self.optimizer, "scale_loss"):
                loss = self.optimizer.scale_loss(loss)
        pairs = zip(tape.gradient(loss, self.variables), self.variables, strict=True)
        self.optimizer.apply_gradients(list(pairs))

    def step_as_is(self):
        self._strategy.run(self._on_replica)

    def take(self, num_steps: int) -> Regression:
        for _ in range(num_steps):
            self.step()
        return self

    def copies(self) -> list[list[np.ndarray]]:
        """The values on each replica of the variables and of all that the optimizer holds."""
        return copies_of(self._strategy, self.optimizer, self.variables)


class Minimization:
    """The same regression by `minimize`, in float64, in the scope of a strategy; or without one, of all rows.

    Attributes:
      optimizer: made by `make`.
      variables: a matrix and a vector.
      minimizer: a Minimizer.
    """

    def __init__(self, strategy, make, listed=True, **options):
        self._strategy = strategy
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            rng = np.random.default_rng(1)
            shapes = {"w": (5, 3), "b": (3,)}
            self.variables = [tf.Variable(rng.standard_normal(shape), name=name) for name, shape in shapes.items()]
            self.optimizer = make()
        if listed:
            options["trainable_variables"] = self.variables
        self.minimizer = fusemin.Minimizer(self.loss, self.optimizer, **options)

    def loss(self):
        """The part of a replica."""
        x, y = (tf.constant(a, tf.float64) for a in data())
        if self._strategy is not None:
            share = 8 // self._strategy.num_replicas_in_sync
            start = tf.distribute.get_replica_context().replica_id_in_sync_group * share
            x, y = x[start : start + share], y[start : start + share]
        return tf.reduce_sum((tf.linalg.matvec(tf.tanh(x @ self.variables[0]), self.variables[1]) - y) ** 2)

    def minimize(self, num_steps: int):
        """The trace."""
        with contextlib.nullcontext() if self._strategy is None else self._strategy.scope():
            return self.minimizer(num_steps)

    def run(self, num_steps: int, **keywords):
        with contextlib.nullcontext() if self._strategy is None else self._strategy.scope():
            return self.minimizer.run(num_steps, **keywords)

    def copies(self) -> list[list[np.ndarray]]:
        """As `Regression.copies`."""
        return copies_of(self._strategy, self.optimizer, self.variables)
