"""The tests of `on_device`, each file in a process of its own whose GPUs are stand-ins. What fails in one is shown."""

import re

import pytest

from tests.gpu_device.libraries import ROOT, run_tests

# What runs where: the file, an expression that selects in it, what the devices are, how many tests there are at least.
RUNS = {
    "updates": ("test_updates.py", "not two_devices", {}, 170),
    "two devices": ("test_updates.py", "two_devices", {"devices": 2}, 1),
    "compute capability 6.0": ("test_refusals.py", "too_old", {"capability": "6.0"}, 2),
    "compute capability 7.0": ("test_refusals.py", "not too_old", {"capability": "7.0"}, 10),
    "counts": ("test_counts.py", "", {"devices": 2}, 40),
}


@pytest.mark.parametrize("run", RUNS)
def test_on_device(run):
    file, selection, options, least = RUNS[run]
    done = run_tests(str(ROOT / "tests/gpu_device/on_device" / file), "-k", selection, **options)
    print(done.stdout)
    assert done.returncode == 0, f"{file} failed on the stand-in device"
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= least
    assert "skipped" not in done.stdout.splitlines()[-1]
