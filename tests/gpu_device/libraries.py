"""Builds the stand-in libraries, and the environment in which a process finds them."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

from tests.support.cuda.gpu_ops_library import find_tool

SOURCE = pathlib.Path(__file__).with_name("driver")
ROOT = pathlib.Path(__file__).parents[2]
_DRIVER = ["calls.cc", "copies.cc", "devices.cc", "graphs.cc", "memory.cc", "modules.cc", "streams.cc"]
# What TensorFlow opens beside driver and runtime. NVRTC and the linker are not XLA's: it has ptxas.
_OTHERS = [
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcudnn.so.9",
    "libcufft.so.11",
    "libcupti.so.12",
    "libcurand.so.10",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libnccl.so.2",
    "libnvidia-ml.so.1",
    "libnvJitLink.so.12",
    "libnvrtc.so.12",
]


def _tensorflow_folder() -> pathlib.Path:
    return pathlib.Path(sysconfig.get_path("purelib")) / "tensorflow"


def why_not() -> str:
    """Why there can be no stand-in here, or ""."""
    if not sys.platform.startswith("linux"):
        return "the stand-in driver is for Linux"
    if not (_tensorflow_folder() / "include/third_party/gpus/cuda/include/cuda.h").exists():
        return "this TensorFlow comes without CUDA's headers"
    return ""


def _compile(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


@functools.cache
def build() -> pathlib.Path:
    """The folder of the libraries. It is kept, by a hash of their sources, for other processes and the next run."""
    include = _tensorflow_folder() / "include"
    digest = hashlib.sha256(str(include).encode())
    for source in sorted(SOURCE.iterdir()):
        digest.update(source.read_bytes())
    kept = pathlib.Path(tempfile.gettempdir()) / f"fusemin-stand-in-{os.getuid()}-{digest.hexdigest()[:16]}"
    if kept.is_dir():
        return kept
    compiler, cuda = find_tool("g++"), include / "third_party/gpus/cuda/include"
    options = ["-O1", "-shared", "-fPIC", "-std=c++17", "-Wall", f"-I{include}", f"-I{cuda}"]
    with tempfile.TemporaryDirectory(dir=kept.parent) as made:
        folder = pathlib.Path(made) / "lib"
        folder.mkdir()
        _compile(compiler, *options, *(SOURCE / name for name in _DRIVER), "-o", folder / "libcuda.so.1")
        runtime = ["-o", folder / "libcudart.so.12", f"-L{folder}", "-l:libcuda.so.1"]
        _compile(compiler, *options, SOURCE / "runtime.cc", *runtime)
        others = folder / "others.so"
        _compile(find_tool("gcc"), "-O1", "-shared", "-fPIC", SOURCE / "libraries.c", "-o", others)
        for name in _OTHERS:
            (folder / name).symlink_to(others.name)
        _compile(compiler, "-O1", "-shared", "-fPIC", SOURCE / "row_on_device.cc", "-o", folder / "row_on_device.so")
        try:
            folder.rename(kept)
        except OSError:  # Another process was first.
            assert kept.is_dir()
    return kept


def environment(
    devices: int = 1, capability: str = "9.0", preload: str = "", default_device: str = ""
) -> dict[str, str]:
    """The environment of a process whose GPUs are stand-ins.

    Args:
      devices: how many.
      capability: their compute capability.
      preload: a library of `build` to load first.
      default_device: where tests run that name none.
    """
    folder = build()
    wheel = pathlib.Path(sysconfig.get_path("purelib")) / "nvidia/cuda_nvcc"
    given = {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH", "")])),
        "STAND_IN_DEVICES": str(devices),
        "STAND_IN_CAPABILITY": capability.replace(".", ""),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # XLA:GPU asks ptxas and libdevice of PyPI's package of CUDA's compiler.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_cuda_data_dir={wheel}".strip(),
        "PATH": os.pathsep.join([str(wheel / "bin"), os.environ["PATH"]]),
        # Of the process that starts this one.
        "PYTEST_ADDOPTS": "",
    }
    if default_device:
        given["STAND_IN_DEFAULT_DEVICE"] = default_device
    if preload:
        given["LD_PRELOAD"] = str(folder / preload)
    return os.environ | given


def run_tests(*arguments, timeout=600, **options) -> subprocess.CompletedProcess:
    """Runs pytest in a process of its own on stand-ins, with the options of `environment`."""
    # One process; of what is configured for the whole suite only what is not about many.
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-p", "tests.gpu_device.plugin"]
    return subprocess.run(
        [*command, "-q", *arguments],
        env=environment(**options),
        cwd=ROOT,
        timeout=timeout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
