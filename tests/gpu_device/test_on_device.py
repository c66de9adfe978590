"""The tests of `on_device`, each run in a process of its own whose GPUs are stand-ins. What fails in one is shown."""

import re
import signal

import pytest

from tests.gpu_device.libraries import ROOT, run_tests

# What runs where: files, an expression that selects in them, what the devices are, how many tests there are at least.
# Of the tests of the ops those whose outcome does not hang on kernels of TensorFlow's own, which are not run, and which
# make nothing that TensorFlow has on the host only, such as arrays of handles.
ERRORS_OF_OPS = "(invalid_call or malformed) and not (handle or sums or string or without)"
RUNS = {
    "updates": (["test_updates.py"], "not two_devices", {}, 140),
    "counts on two devices": (
        ["test_counts.py", "test_seeded_bugs.py", "test_updates.py"],
        "test_counts or test_seeded_bugs or two_devices",
        {"devices": 2},
        45,
    ),
    "errors of the ops": (
        ["../../ops/test_malformed_steps.py", "../../ops/test_fused_step_op.py"],
        ERRORS_OF_OPS,
        {"default_device": "GPU:0"},
        140,
    ),
    "compute capability 6.0": (["test_refusals.py"], "too_old", {"capability": "6.0"}, 2),
    "compute capability 7.0": (["test_refusals.py"], "not too_old", {"capability": "7.0"}, 10),
}


def _run(files, selection, **options):
    done = run_tests(*(str(ROOT / "tests/gpu_device/on_device" / file) for file in files), "-k", selection, **options)
    print(done.stdout)
    return done


@pytest.mark.parametrize("name", RUNS)
def test_on_device(name):
    files, selection, options, least = RUNS[name]
    done = _run(files, selection, **options)
    assert done.returncode == 0, "tests failed on the stand-in device"
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= least


def test_a_row_in_the_memory_of_the_device_is_found():
    """A bug that is put in: TensorFlow is not told that the op reads `row` on the host. The read is a fault."""
    done = _run(["test_counts.py"], "default_loop and 1-loss", preload="row_on_device.so")
    assert done.returncode == -signal.SIGSEGV
