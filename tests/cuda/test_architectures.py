"""cmake/CudaArchitectures.cmake: which machine code is built."""

import pathlib
import subprocess

import pytest

from tests.support.cuda.gpu_ops_library import find_tool

SCRIPT = pathlib.Path(__file__).parents[2] / "cmake/CudaArchitectures.cmake"

ALL = "70 75 80 90 100 120"
# The option, what nvidia-smi says, or None where there is none, and what is built.
CASES = {
    "release": ("all", None, ALL),
    "ptx": ("none", "8.0", ""),
    "some": ("80;90", "7.0", "80 90"),
    "no gpu": ("native", None, ""),
    "nvidia-smi without a driver": ("native", "NVIDIA-SMI has failed", ""),
    "two gpus": ("native", "8.6\n9.0", "80 90"),
    "two alike": ("native", "8.6\n8.9", "80"),
    # Of one GPU: the newest that runs on it, which is of the same major version.
    "volta": ("native", "7.0", "70"),
    "turing": ("native", "7.5", "75"),
    "a100": ("native", "8.0", "80"),
    "orin": ("native", "8.7", "80"),
    "ada": ("native", "8.9", "80"),
    "hopper": ("native", "9.0", "90"),
    "b200": ("native", "10.0", "100"),
    "b300": ("native", "10.3", "100"),
    "thor": ("native", "11.0", ""),
    "rtx 50": ("native", "12.0", "120"),
    "spark": ("native", "12.1", "120"),
    "yet to come": ("native", "13.0", ""),
    "pascal": ("native", "6.1", ""),
}


def configure(option, nvidia_smi):
    command = [find_tool("cmake"), f"-DFUSEMIN_CUDA_ARCHITECTURES={option}", f"-DNVIDIA_SMI={nvidia_smi}", "-P", SCRIPT]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize("case", CASES)
def test_what_is_built(case, tmp_path):
    option, says, built = CASES[case]
    nvidia_smi = "NVIDIA_SMI-NOTFOUND"
    if says is not None:
        nvidia_smi = tmp_path / "nvidia-smi"
        code = 9 if "failed" in says else 0
        nvidia_smi.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
        nvidia_smi.chmod(0o755)
    done = configure(option, nvidia_smi)
    assert done.returncode == 0, done.stdout
    [line] = done.stdout.splitlines()
    assert line.strip() == f"-- CUDA kernels: PTX, and machine code for: {built}".strip()


def test_an_unknown_architecture_is_refused():
    done = configure("80;86", "NVIDIA_SMI-NOTFOUND")
    assert done.returncode != 0
    assert "some of 70;75;80;90;100;120; it has 86" in " ".join(done.stdout.split())
