"""NVIDIA's compilers, where they are: ptxas of PyPI's wheel, which builds fusemin, and nvcc of a toolkit."""

import importlib.util
import pathlib
import shutil

import pytest


def ptxas():
    """The path of ptxas, of the wheel nvidia-cuda-nvcc-cu12."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        path = pathlib.Path(folder) / "cuda_nvcc" / "bin" / "ptxas"
        if path.exists():
            return str(path)
    pytest.skip("ptxas is not installed: pip install nvidia-cuda-nvcc-cu12")


def nvcc():
    """The path of nvcc."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not on PATH")
    return found
