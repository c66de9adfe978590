"""Builds and loads gpu_ops: the GPU's op kernels for the CPU device."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import pytest
import tensorflow as tf

import fusemin

SOURCE = pathlib.Path(__file__).with_name("gpu_ops")


def find_tool(name):
    """A program, from PATH or from where this Python's packages install theirs."""
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), str(pathlib.Path(sys.executable).parent)])
    )
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert done.returncode == 0, done.stdout


@functools.cache
def gpu_ops():
    """The ops by the names of `fusemin._build.OPS`, with the kernels of the GPU. They need a driver in place."""
    with tempfile.TemporaryDirectory() as folder:
        _run(
            *(find_tool("cmake"), "-S", SOURCE, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
            f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}",
            f"-DCMAKE_CXX_COMPILER={find_tool('g++')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DFUSEMIN_FOLDER={pathlib.Path(fusemin.__file__).parent}",
        )
        _run(find_tool("cmake"), "--build", folder)
        library = tf.load_op_library(str(pathlib.Path(folder) / "gpu_ops.so"))
    return types.SimpleNamespace(
        fusemin_fused_step=library.fusemin_interpreted_fused_step,
        fusemin_trace_rows=library.fusemin_interpreted_trace_rows,
    )
