"""The GPU's op kernels, compiled for the CPU device and with the interpreting driver, through all tests of the CPU's:
gathering, locks, rows, errors, and what a failed step leaves."""

import pytest

from fusemin import _build
from tests.ops import test_trace_rows_op
from tests.ops.test_fused_step_op import *  # noqa: F403
from tests.ops.test_trace_rows_op import *  # noqa: F403
from tests.support.cuda.gpu_ops_library import gpu_ops
from tests.support.cuda.interpreting_driver import InterpretingDriver

# Strings are in host memory: where there is one among the traces, TensorFlow leaves their op to the CPU. The same goes
# for types that cannot be stacked, which the CPU's kernel refuses.
ON_THE_CPU = ("string", "test_types_that_cannot_be_stacked")
STACKED = {name: value for name, value in test_trace_rows_op.VALUES.items() if value[0].dtype != object}


@pytest.fixture(autouse=True)
def driver(monkeypatch, request):
    if any(part in request.node.name for part in ON_THE_CPU):
        pytest.skip("a trace of this type stays on the CPU")
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("jit_compile"):
        pytest.skip("XLA has no kernels under the ops' other names")
    monkeypatch.setattr(test_trace_rows_op, "VALUES", STACKED)
    ops = gpu_ops()
    monkeypatch.setattr(_build, "OPS", ops)
    driver = InterpretingDriver()
    with driver.installed():
        yield driver
    driver.raise_error()
