"""Calls of the raw op FusedStep on variables of their own."""

import dataclasses

import tensorflow as tf

from fusemin import _build, _core
from fusemin.update.fused_step import float64_bits

# Powers of two, so that steps are exact in every type.
HYPERPARAMETERS = {"learning_rate": 0.5, "momentum": 0.25, "beta_1": 0.5, "beta_2": 0.25, "epsilon": 1.0}
HYPERPARAMETERS |= {"beta_1_power_base": 0.5, "beta_2_power_base": 0.25}
STARTS = ((1.0, 2.0, 3.0), ((4.0,), (5.0,)))
SLOT_START = 2.0
ITERATIONS = 7


def gradient_of(i):
    """The elements of the gradient of parameter i."""
    return 4.0 * (i + 1)


@dataclasses.dataclass
class FusedStepCall:
    """The variables of a step, and the arguments of the op.

    Attributes:
      params: the variables, named "x0", "x1", ...
      slots: for each slot of the rule, a variable for each of `params`.
      scalars: the rule's scalars.
      iterations: the count of steps.
      arguments: all arguments of the op, the handles among them.
    """

    params: list[tf.Variable]
    slots: list[list[tf.Variable]]
    scalars: list[tf.Variable]
    iterations: tf.Variable
    arguments: dict

    @classmethod
    def make(cls, rule="sgd_momentum", starts=STARTS, dtype=tf.float64):
        needs = _core.rules()[rule]
        params = [tf.Variable(value, dtype=dtype, name=f"x{i}") for i, value in enumerate(starts)]
        slots = [[tf.Variable(tf.fill(p.shape, tf.cast(SLOT_START, dtype))) for p in params] for _ in needs["slots"]]
        scalars = [tf.Variable(0.5, dtype=dtype) for _ in needs["scalars"]]
        iterations = tf.Variable(ITERATIONS, dtype=tf.int64)
        arguments = {
            "params": [p.handle for p in params],
            "slots": [s.handle for of_all in slots for s in of_all],
            "averages": [],
            "accumulators": [],
            "scalars": [s.handle for s in scalars],
            "iterations": [iterations.handle],
            "loss_scale": [],
            "gradients": [tf.fill(p.shape, tf.cast(gradient_of(i), dtype)) for i, p in enumerate(params)],
            "indices": [],
            "gradient_sums": [],
            "hyperparameters": [],
            "row": 0,
            "after": [],
            "values": [],
            "buffers": [],
            "rule": rule,
            "constants": float64_bits(HYPERPARAMETERS[name] for name in needs["hyperparameters"]),
            "inputs": [],
            "names": [f"x{i}" for i in range(len(params))],
        }
        return cls(params, slots, scalars, iterations, arguments)

    def __call__(self, **changes):
        return _build.OPS.fusemin_fused_step(**{**self.arguments, **changes})

    def state(self):
        """All that the step may write, as arrays."""
        variables = [*self.params, *[s for of_all in self.slots for s in of_all], *self.scalars, self.iterations]
        return [v.numpy() for v in variables]
