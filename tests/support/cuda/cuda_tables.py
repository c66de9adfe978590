"""The tables of docs/cuda.md: registers, from the cubins that are embedded in the build, and predictions, from shapes.

    python -m tests.support.cuda.cuda_tables

writes them anew.
"""

from __future__ import annotations

import math
import pathlib
import re

import keras
import tensorflow as tf

from benchmarks.shapes import MODELS
from fusemin import _core
from tests.support.cuda.cubin import resources

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "cuda.md"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
DTYPES = ("float32", "float64", "float16", "bfloat16")
# Registers a thread.
LIMITS = {"float32": 64, "float64": 96, "float16": 64, "bfloat16": 64}


def all_resources():
    """`{architecture: {kernel: Resources}}` of all embedded cubins."""
    images = _core.cuda.images()
    return {a: {k: r for unit in images.values() for k, r in resources(unit[a]).items()} for a in ARCHITECTURES}


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def registers_table():
    """Registers a thread of each rule's kernels, plain / around."""
    found = all_resources()
    rows = []
    for rule, (_, kernel) in sorted(_core.cuda.kernels().items()):
        for dtype in DTYPES:
            cells = [
                "/".join(str(found[a][f"{kernel}_{dtype}_{variant}"].registers) for variant in ("plain", "around"))
                for a in ARCHITECTURES
            ]
            rows.append([f"`{rule}`", dtype, *cells])
    return _table(["rule", "dtype", *ARCHITECTURES], rows)


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
    return _core.cuda.cost(rule, "float32", [math.prod(s) for s in shapes], options or {})


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
    return _table(head, rows)


TABLES = {"registers": registers_table, "predictions": predictions_table}


def with_tables(text):
    """The page with its tables made anew."""
    for name, make in TABLES.items():
        pattern = rf"(<!-- {name} table -->\n).*?(<!-- end -->)"
        if not re.search(pattern, text, flags=re.S):
            raise ValueError(f"the page has no place for the table of {name}")
        text = re.sub(pattern, lambda m, make=make: f"{m[1]}{make()}\n{m[2]}", text, flags=re.S)
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
