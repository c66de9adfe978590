"""Small steps inside XLA: a trace in chunks, so that XLA keeps a step on one thread."""

import math

import tensorflow as tf

from fusemin.loop.trace_plan import TracePlan

# XLA on a CPU runs the kernels of a loop's body on several threads as soon as one of them touches a buffer of more than
# 512 bytes, and for kernels of some nanoseconds handing over costs more than it gains. A trace is such a buffer after
# 128 steps. Measured by 50 variables of 100, which have 400 bytes each: docs/xla.md.
MAX_BYTES_OF_SEQUENTIAL_BUFFER = 512
# A GPU has no such threads. There a loop inside of another has no number of iterations that XLA knows, and each one's
# condition would go to the host.
# With fewer rows the loop over chunks costs what it gains.
MIN_ROWS_OF_CHUNK = 16
# Of less, as of a scalar with a cheap loss, XLA makes a few kernels, and keeps them on one thread whatever they touch.
MIN_OPS_OF_CHUNKED_STEP = 20


def _bytes(spec: tf.TensorSpec) -> float:
    return math.prod(spec.shape) * spec.dtype.size if spec.shape.is_fully_defined() else math.inf


def rows_of_chunk(step, plan: TracePlan, num_rows: int) -> int | None:
    """How many rows of the trace a loop is to write into a buffer of its own; None for all of them.

    Args:
      step: a VariableStep or StatelessStep.
      plan: of the trace.
      num_rows: how many rows it has.
    """
    largest = max(map(_bytes, [*plan.source_specs, *plan.derived_specs]), default=0)
    if largest == 0 or step.num_ops() < MIN_OPS_OF_CHUNKED_STEP or step.gpus:
        return None
    if any(_bytes(spec) > MAX_BYTES_OF_SEQUENTIAL_BUFFER for spec in tf.nest.flatten(step.parameters)):
        return None
    most = int(MAX_BYTES_OF_SEQUENTIAL_BUFFER // largest)
    if not MIN_ROWS_OF_CHUNK <= most < num_rows:
        return None
    # Chunks that fill the trace exactly need not be cut, which would be a copy of it.
    return next((rows for rows in range(most, most // 2, -1) if num_rows % rows == 0), most)
