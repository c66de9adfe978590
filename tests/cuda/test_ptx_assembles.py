"""NVIDIA's own assembler accepts every kernel of these tests: what the interpreter is tested with is PTX."""

import shutil
import subprocess
from importlib import util
from pathlib import Path

import pytest

from tests.support.cuda.ptx_kernels import KERNELS
from tests.support.cuda.ptx_snippets import HEADER
from tests.support.cuda.ptx_tables import SNIPPETS


def ptxas():
    """The assembler of the wheel nvidia-cuda-nvcc-cu12, or one on the path, or None."""
    try:
        found = util.find_spec("nvidia.cuda_nvcc")
    except ModuleNotFoundError:
        found = None
    for folder in found.submodule_search_locations if found else ():
        if (Path(folder) / "bin" / "ptxas").exists():
            return str(Path(folder) / "bin" / "ptxas")
    return shutil.which("ptxas")


@pytest.mark.skipif(ptxas() is None, reason="no ptxas: it is in the wheel nvidia-cuda-nvcc-cu12")
@pytest.mark.parametrize("source", ["opcodes", *KERNELS])
def test_ptxas_accepts(source, tmp_path):
    text = HEADER + "\n".join(s.text() for s in SNIPPETS) if source == "opcodes" else KERNELS[source]
    path = tmp_path / "module.ptx"
    path.write_text(text)
    command = [ptxas(), "-arch=sm_90", "-O0", str(path), "-o", str(tmp_path / "module.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
