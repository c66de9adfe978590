"""`jit_compile="auto"`: whether XLA compiles a loop, decided before its first step.

Compiling takes seconds, more with each op, and saves what TensorFlow's executor spends on each op at each step. So it
pays from a number of steps on, which is the smaller the more ops a step has. The rule is a fit to CPU seconds, tracing
left out, of what tests/minimize/test_auto_compilation.py lists, on the machine of docs/performance.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from fusemin import graphs
from fusemin.loop.compilation import described_failure

# To compile a loop, for each op of a step, and if numbers are drawn, of which XLA makes hundreds of ops.
SECONDS_OF_A_LOOP = 0.1
SECONDS_OF_AN_OP = 0.6e-3
SECONDS_OF_RANDOM_NUMBERS = 0.6
# What the executor spends on an op.
SECONDS_SAVED_BY_AN_OP = 0.12e-6
# The ops of a loop in the loss are run many times in a step, nobody knows how many. Such losses gain most.
STEPS_WITH_LOOPS = 1_000
# Below it compiling never pays. Known before anything is traced.
MIN_STEPS = STEPS_WITH_LOOPS
_LOOPS = frozenset({"StatelessWhile", "While"})

# Ops that take XLA on a CPU longer than TensorFlow's own kernels, unless the matrices are small. Measured, with
# gradients: Cholesky of 8 rows takes it 0.5 times as long, of 32 rows 2.8, of 200 rows 10.8. The others are like it, of
# 32 rows some are still even.
DECOMPOSITIONS = frozenset(
    {"Cholesky", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "Qr", "SelfAdjointEigV2", "Svd"}
)
MAX_ROWS_OF_DECOMPOSITION = 16


class Decision(NamedTuple):
    """Whether XLA compiles a loop.

    Attributes:
      compiles: whether it does.
      reason: why, in words.
    """

    compiles: bool
    reason: str

    def __str__(self) -> str:
        return f'jit_compile="auto": {"" if self.compiles else "not "}compiled, {self.reason}'


def not_here() -> Decision | None:
    """The decision where none of its own can be made, or None."""
    if not tf.executing_eagerly():
        return Decision(False, "since in a tf.function or graph the loop is part of it, and is compiled if that is")
    if tf.config.functions_run_eagerly():
        return Decision(False, "since with tf.config.run_functions_eagerly(True) nothing is")
    if graphs.is_recorded():
        return Decision(False, "since a tf.GradientTape is around it")
    if tf.distribute.in_cross_replica_context():
        return Decision(False, "since the loop is on all devices of a tf.distribute strategy")
    return None


def decide(num_steps: int, trace_step: Callable[[], object], lower: Callable[[], str | None]) -> Decision:
    """Decides, in eager mode.

    Args:
      num_steps: how many there are at most.
      trace_step: function that gives the step, traced without XLA. Called if the number of steps does not decide.
      lower: function that has XLA take in the loop and gives `find_failure` of that. Called last.
    """
    if num_steps < MIN_STEPS:
        return Decision(False, f"since it does not pay for fewer than {MIN_STEPS:,} steps")
    reason = _find_reason(num_steps, trace_step()) or lower()
    return Decision(reason is None, reason or f"since it pays for {num_steps:,} steps")


def _find_reason(num_steps: int, step) -> str | None:
    """Why compiling would not pay, or None."""
    types = {op.type for op in graphs.with_called(step.loss_operations())}
    draws = any(type_.startswith("StatelessRandom") for type_ in types)
    least = steps_to_pay(step.num_ops(), draws, loops=bool(types & _LOOPS))
    if num_steps < least:
        return f"since a step of {step.num_ops()} ops pays for it from {least:,} steps on"
    if step.has_sparse_gradients:
        return "since XLA has no sparse gradients, and the update would be of all rows"
    if not step.gpus:
        for op in graphs.with_called(step.loss_operations()):
            rows = op.inputs[0].shape[-1] if op.type in DECOMPOSITIONS and op.inputs[0].shape.rank else 0
            if rows is None or rows > MAX_ROWS_OF_DECOMPOSITION:
                return f"since '{op.type}' of {rows or 'any number of'} rows takes XLA longer on a CPU"
    return None


def steps_to_pay(num_ops: int, draws: bool, loops: bool) -> int:
    """From how many steps on compiling pays.

    Args:
      num_ops: of a step, those in loops counted once.
      draws: whether some draw random numbers.
      loops: whether some are in loops.
    """
    if loops:
        return STEPS_WITH_LOOPS
    seconds = SECONDS_OF_A_LOOP + SECONDS_OF_AN_OP * num_ops + SECONDS_OF_RANDOM_NUMBERS * draws
    return round(seconds / (SECONDS_SAVED_BY_AN_OP * num_ops))


def find_failure(lower: Callable[[], object]) -> str | None:
    """Why XLA cannot compile what was traced without it before; None if it can.

    Args:
      lower: function that traces it for XLA, and has XLA take it in.
    """
    try:
        lower()
    except (tf.errors.OpError, NotImplementedError, TypeError, ValueError) as error:
        return f"since {described_failure(str(error)) or f'XLA does not take it: {error}'}"
    return None
