"""nvcc, where there is a CUDA toolkit, compiles the same sources, with every warning an error."""

import pathlib
import subprocess

import pytest

from fusemin import _core
from tests.support.cuda.mutants import compiler
from tests.support.cuda.nvidia_tools import nvcc

SOURCE = pathlib.Path(__file__).parents[2] / "csrc"
KERNELS = _core.cuda.kernels()


def source_of(unit):
    """The text of a .cu file, as the build makes it."""
    if unit == "common":
        return (SOURCE / "backends/cuda/common.cu").read_text(encoding="utf-8")
    return compiler().rule_source(unit, sum(of == unit for of, _ in KERNELS.values()))


@pytest.mark.parametrize("unit", _core.cuda.images())
def test_compiles_without_a_warning(unit, tmp_path):
    path = tmp_path / f"{unit}.cu"
    path.write_text(source_of(unit))
    command = [nvcc(), "-std=c++17", "-arch=sm_80", "--fmad=false", "-Werror=all-warnings", f"-I{SOURCE}", "-ptx", path]
    command += ["-o", tmp_path / "unit.ptx"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    assert ".entry" in (tmp_path / "unit.ptx").read_text(encoding="utf-8")
