"""The tables of docs/cuda.md: registers, from cubins, and predictions, from shapes.

    python -m tests.support.cuda.cuda_tables

writes them anew, and takes some minutes where the build has PTX only: ptxas makes the cubins then.
"""

from __future__ import annotations

import functools
import math
import pathlib
import subprocess
import tempfile

import keras
import tensorflow as tf

from benchmarks.shapes import MODELS
from fusemin import _core
from tests.support.cuda import fatbin
from tests.support.cuda.cubin import resources
from tests.support.cuda.nvidia_tools import ptxas
from tests.support.cuda.page import PAGE, filled, table

# All of cmake/CudaArchitectures.cmake.
ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
DTYPES = ("float32", "float64", "float16", "bfloat16")
# Registers a thread.
LIMITS = {"float32": 64, "float64": 96, "float16": 64, "bfloat16": 64}


@functools.cache
def images(unit):
    """`{architecture: cubin}` of what is embedded, and the PTX, under "ptx"."""
    return fatbin.unpack(_core.cuda.images()[unit])


@functools.cache
def assembled(unit, architecture):
    """`(cubin, what ptxas says)` of the PTX that is embedded."""
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = pathlib.Path(folder) / "unit.ptx", pathlib.Path(folder) / "unit.cubin"
        source.write_bytes(images(unit)["ptx"])
        command = [ptxas(), f"-arch={architecture}", "-O3", "--verbose", source, "-o", cubin]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
        return cubin.read_bytes(), done.stdout


@functools.cache
def unit_resources(unit, architecture):
    """`{kernel: Resources}` of a unit, by its cubin in the build, or, where there is none, by one of the same PTX."""
    return resources(images(unit).get(architecture) or assembled(unit, architecture)[0])


def registers(rule, dtype, architecture):
    """Registers a thread of a rule's kernels, as "plain/options"."""
    unit, kernel = _core.cuda.kernels()[rule]
    found = unit_resources(unit, architecture)
    return "/".join(str(found[f"{kernel}_{dtype}_{variant}"].registers) for variant in ("plain", "options"))


def registers_table():
    """Registers a thread of each rule's kernels."""
    rows = [
        [f"`{rule}`", dtype, *(registers(rule, dtype, a) for a in ARCHITECTURES)]
        for rule in sorted(_core.cuda.kernels())
        for dtype in DTYPES
    ]
    return table(["rule", "dtype", *ARCHITECTURES], rows)


# Ops that launch nothing on a GPU: they hand a buffer on.
_NO_LAUNCH = {"Placeholder", "Identity", "IdentityN", "ReadVariableOp", "AssignVariableOp"}


def stock_cost(optimizer, shape):
    """`(launches, elements)` of an optimizer's own update of one variable: ops with an operand of the variable's shape,
    and how many such operands they read and write. Counted in the graph that `apply` traces."""
    variable = tf.Variable(tf.zeros(shape))
    optimizer.apply_gradients([(tf.zeros(shape), variable)])  # Creates the slots.

    @tf.function
    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    graph = step.get_concrete_function(tf.TensorSpec(shape)).graph
    launches = elements = 0
    for op in graph.get_operations():
        if op.type in _NO_LAUNCH:
            continue
        like = [t for t in (*op.inputs, *op.outputs) if t.dtype == tf.float32 and t.shape == shape]
        if op.type.startswith("Resource"):  # A fused kernel: reads and writes its variables, and reads the gradient.
            resources_ = sum(t.dtype == tf.resource for t in op.inputs)
            launches, elements = launches + 1, elements + 2 * resources_ + len(like)
        elif like:
            reads_and_writes = 2 if op.type in ("AssignAddVariableOp", "AssignSubVariableOp") else 0
            launches, elements = launches + 1, elements + len(like) + reads_and_writes
    return launches, elements


def fused_cost(rule, shapes, options=None):
    """`(launches, bytes)` of the fused step, as the launcher plans it."""
    step = (rule, "float32", [math.prod(s) for s in shapes], options or {})
    return _core.cuda.num_launches(*step), _core.step_bytes(*step)


def predictions_table():
    """Launches and bytes a step, stock against fused."""
    import tf_keras

    rows = []
    for model, make in MODELS.items():
        shapes = make()
        size = sum(map(math.prod, shapes))
        for label, stock, legacy, rule in (
            ("SGD, momentum", keras.optimizers.SGD(0.1, 0.9), tf_keras.optimizers.legacy.SGD(0.1, 0.9), "sgd_momentum"),
            ("Adam", keras.optimizers.Adam(), tf_keras.optimizers.legacy.Adam(), "adam"),
        ):
            cells = []
            for optimizer in (stock, legacy):
                launches, elements = stock_cost(optimizer, (7, 5))
                cells += [f"{len(shapes)} x {launches} = {len(shapes) * launches}", f"{elements * 4 * size / 1e6:,.0f}"]
            launches, num_bytes = fused_cost(rule, shapes)
            rows.append([model, len(shapes), f"{size:,}", label, *cells, launches, f"{num_bytes / 1e6:,.0f}"])
    head = ["variables of", "number", "elements", "optimizer"]
    head += ["Keras 3: launches", "MB", "legacy: launches", "MB", "fused: launches", "MB"]
    return table(head, rows)


TABLES = {"registers table": registers_table, "predictions table": predictions_table}


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
