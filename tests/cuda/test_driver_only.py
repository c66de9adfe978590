"""tests/gpu/driver_only.py from end to end without TensorFlow, its libcuda being the PTX interpreter."""

import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _run(program, *arguments):
    start = "import sys; from tests.gpu import driver_only; driver_only.load_core()\n"
    end = "\nassert not any(name.split('.')[0] in ('tensorflow', 'keras') for name in sys.modules)\nsys.exit(code)"
    command = [sys.executable, "-c", start + textwrap.dedent(program) + end, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


FAKE = """
from tests.support.cuda.fake_libcuda import FakeLibcuda
driver = FakeLibcuda({options})
with driver.installed():
    code = driver_only.main(lambda: driver)
"""
SOME = ["--rules", "adam", "lamb", "--dtypes", "float32", "bfloat16"]


def test_all_cases_of_some_rules():
    done = _run(FAKE.format(options=""), *SOME)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "PTX interpreter, compute capability 7.0, driver for CUDA 12.5" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    from tests.support.cuda.kernel_cases import CASES

    steps = str(len(CASES) + 1)
    for rule in ("adam", "lamb"):
        for dtype in ("float32", "bfloat16"):
            assert [rule, dtype, steps, "0"] in [line[:4] for line in lines]
    assert "more than 2^31 elements: left out, the device has 1.0 GiB free" in done.stdout
    assert f"{4 * int(steps)} steps, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("rules/adam.h", "narrow(wide_one - hyperparameters[1])", "narrow(hyperparameters[1])", "AssertionError: adam"),
        ("backends/cuda/memory.cuh", "i < chunk.end;", "i < chunk.end + 1;", "GuardError: a kernel wrote beside"),
    ],
    ids=["wrong values", "a store beside an array"],
)
def test_a_kernel_with_a_bug_fails(tmp_path, file, old, new, error):
    from tests.support.cuda.mutants import Mutant, compile_rule, missing, patched

    if missing():
        pytest.skip(missing())
    mutant = Mutant(file, old, new, "", Exception)
    (tmp_path / "mutant.ptx").write_text(compile_rule(patched(tmp_path, mutant), "adam", False))
    path = str(tmp_path / "mutant.ptx")
    options = f"mutate=lambda text, name: open({path!r}, 'rb').read()"
    done = _run(FAKE.format(options=options), "--rules", "adam", "--dtypes", "float32", "--cases", "1 tensors")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "FAILED adam, float32, 1 tensors: " + error in done.stdout


def test_without_a_driver_it_says_so():
    done = _run("code = driver_only.main(lambda: (_ for _ in ()).throw(OSError('no libcuda.so.1')))")
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stdout == "no GPU: nothing was tested (no libcuda.so.1)\n"


def test_without_a_device_it_says_so():
    done = _run(FAKE.format(options="num_devices=0"))
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stdout == "no GPU: nothing was tested (there is no device 0, there are 0)\n"


def test_more_than_2_31_elements_are_looked_at():
    """The same function, on a number that stands for 2^31 and is not too large for the interpreter."""
    done = _run(
        """
        from tests.support.cuda.cuda_driver import GpuMachine
        from tests.support.cuda.fake_libcuda import FakeLibcuda
        driver = FakeLibcuda()
        with driver.installed():
            machine = GpuMachine(driver)
            assert driver_only.past_2_31(machine, 2**15) is None
            driver.interprets = False
            try:
                driver_only.past_2_31(machine, 2**15)
            except AssertionError as error:
                assert "elements 0 to" in str(error)
                code = 0
        """
    )
    assert done.returncode == 0, done.stderr[-3000:]
