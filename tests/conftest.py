"""Lanes, what is collected where, and measured differences, which are kept with each test and printed at the end of a
run, each group's largest beside its limit."""

import math
import os
import re
import shutil

import pytest

from fusemin._build import HAS_CUDA_KERNELS
from tests.gpu_device import libraries
from tests.support.cuda.gpus import why_no_gpu

# Tables are as wide as the terminal, which is another one on each machine.
os.environ["COLUMNS"] = "120"

# The lanes, each a marker: `python -m pytest -m fast`. What is in one is said here, by how the ids of tests begin.
LANES = {
    "fast": (
        r"kernels/test_rules.py::test_(the_table|agrees|constant)",
        r"kernels/test_(half_rounding|kernel_errors)",
        r"ops/test_(fused_step_op|trace_rows_op)",
        r"optimizers/test_against_stock.py::test_float64_is",
        r"optimizers/test_golden_values",
        r"minimize/test_(errors|traces)",
        r"fuse/test_(fused_optimizer|loops)",
        r"xla/test_modes.py::test_minimize_is_fused_and_as_in_the_default_mode\[[\w ]+-keras\]",
        r"xla/test_modes.py::test_(a_dynamic_loss_scale|a_compiled_loop|a_sparse_gradient|what_xla_cannot)",
        r"xla/test_chunks.py::test_\w+\[(97|32-\w+)\]",
        r"xla/test_one_loop.py::test_a_gradient_of_\w+\[(distance|reversed)-Adam\]",
        r"cuda/test_(cost|driver\.py)",
        r"test_(readme|doctests)",
    ),
    "cuda": (r"cuda/", r"gpu/", r"gpu_device/"),
    "bench": (r"test_(gpu_benchmark|replicas_benchmark|benchmarks)_smoke",),
}
# Tests that could only skip are not collected: what they need, and why it is not there.
_NO_KERNELS = "" if HAS_CUDA_KERNELS else "fusemin was built with FUSEMIN_CUDA=OFF"
NEEDS = {
    "cuda": _NO_KERNELS,
    "gpu": _NO_KERNELS,
    "test_gpu_benchmark_smoke.py": _NO_KERNELS,
    "gpu/test_kernels.py": why_no_gpu(),
    "cuda/test_nvcc.py": "" if shutil.which("nvcc") else "nvcc is not on PATH",
    "gpu_device": _NO_KERNELS or libraries.why_not(),
    **dict.fromkeys(
        (f"distribution/test_{name}.py" for name in ("mirrored", "minimize_mirrored", "shards")),
        "" if "FUSEMIN_TWO_REPLICAS" in os.environ else "distribution/test_processes.py runs it",
    ),
    "gpu_device/on_device": "" if "STAND_IN_DEVICES" in os.environ else "gpu_device/test_on_device.py runs it",
}
collect_ignore = [path for path, why_not in NEEDS.items() if why_not]

# Minutes in few tests: begun first, so that no process is left with them at the end.
FIRST = (
    "sanitizers/",
    "test_benchmarks_smoke",
    "minimize/test_public_patterns",
    "xla/test_every_rule",
    "runs/test_checkpoints",
    "distribution/",
)


def pytest_report_header():
    left_out = [f"not collected: tests/{path}, {why_not}" for path, why_not in NEEDS.items() if why_not]
    gpu = ["what needs a GPU runs where there is one, by `python -m pytest -m cuda`"] if why_no_gpu() else []
    return left_out + gpu


def _name(item):
    return item.nodeid.removeprefix("tests/")


@pytest.hookimpl(tryfirst=True)  # Before pytest looks for the marker that is asked for.
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not _name(item).startswith(FIRST))
    for item in items:
        test = _name(item)
        for lane, patterns in LANES.items():
            if any(re.match(pattern, test) for pattern in patterns):
                item.add_marker(lane)


_KEY = "difference"


@pytest.fixture
def record_difference(record_property):
    """`record_difference(group, measured, limit, where, stock=None)`; `stock` is how far stock is from the
    reference."""

    def record(group, measured, limit, where, stock=None):
        # Plain numbers: a report goes from process to process.
        stock = None if stock is None else float(stock)
        value = {"group": group, "measured": float(measured), "limit": float(limit), "where": where, "stock": stock}
        record_property(_KEY, value)

    return record


@pytest.fixture
def check_difference(record_difference):
    """`check_difference(group, what, measured, limit)` asserts `measured <= limit` and records both."""

    def check(group, what, measured, limit):
        record_difference(group, measured, limit, what)
        assert measured <= limit, f"{group}: {what} differs by {measured:.3g}, the limit is {limit:.3g}"

    return check


def _size(value):
    """NaN is larger than all numbers."""
    return math.inf if math.isnan(value["measured"]) else value["measured"]


def pytest_terminal_summary(terminalreporter):
    worst = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, value in report.user_properties:
            if key == _KEY and _size(value) >= _size(worst.get(value["group"], value)):
                worst[value["group"]] = value
    if not worst:
        return
    terminalreporter.section("measured largest difference / limit")
    width = max(map(len, worst))
    for group, value in sorted(worst.items()):
        stock = "" if value["stock"] is None else f", stock {value['stock']:.2g}"
        at = f"  at {value['where']}" if value["measured"] else ""
        terminalreporter.write_line(f"{group:{width}}  {value['measured']:.2g} / {value['limit']:.3g}{stock}{at}")
