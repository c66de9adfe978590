"""The GPU's op kernels, compiled for the CPU device and with the interpreting driver, through all tests of the CPU's:
gathering, locks, rows, errors, and what a failed step leaves."""

import sys
from pathlib import Path

import pytest
from gpu_ops_library import gpu_ops
from interpreting_driver import InterpretingDriver

sys.path.append(str(Path(__file__).parents[1] / "ops"))

from test_fused_step_op import *  # noqa: E402, F403
from test_trace_rows_op import *  # noqa: E402, F403

from fusemin import _build  # noqa: E402


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    ops = gpu_ops()
    monkeypatch.setattr(_build, "ops", lambda: ops)
    driver = InterpretingDriver()
    with driver.installed():
        yield driver
    driver.raise_error()
