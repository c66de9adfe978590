"""What cmake/compile_cuda.py promises to those who use it as a library, as the mutants do."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.support.cuda.mutants import missing

SCRIPT = """
import locale
from compile_cuda import Nvrtc
before = locale.getpreferredencoding(False)
assert ".entry empty" in Nvrtc().compile('extern "C" __global__ void empty() {}', "empty.cu", [])
print(before, locale.getpreferredencoding(False))
"""


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_compilation_leaves_the_locale_alone():
    """NVRTC does not. What is read afterwards would be taken for ASCII, here the files and programs of later tests."""
    cmake = pathlib.Path(__file__).parents[2] / "cmake"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0", "PYTHONPATH": str(cmake)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.lower().split() == ["utf-8", "utf-8"]
