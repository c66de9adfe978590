"""cmake/find_tensorflow.py: the TensorFlow that a build takes, of whichever distribution."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "cmake/find_tensorflow.py"

# Distributions with a package `tensorflow`, and the version that is found, or what the error says.
CASES = {
    "tensorflow": ({"tensorflow": "2.21.0"}, "2.21.0", None),
    "tensorflow-cpu": ({"tensorflow_cpu": "2.21.1"}, "2.21.1", None),
    "two of one version": ({"tensorflow": "2.21.0", "tensorflow_intel": "2.21.0"}, "2.21.0", None),
    "two versions": (
        {"tensorflow": "2.21.0", "tensorflow_cpu": "2.20.0"},
        None,
        "tensorflow 2.21.0, tensorflow_cpu 2.20.0",
    ),
    "a source tree": ({}, None, "no distribution"),
    "nothing": (None, None, "TensorFlow is not installed for"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case, tmp_path):
    distributions, version, error = CASES[case]
    if distributions is not None:
        (tmp_path / "tensorflow").mkdir()
        # Not imported: that would take seconds.
        (tmp_path / "tensorflow/__init__.py").write_text("raise AssertionError")
        for name, of in distributions.items():
            folder = tmp_path / f"{name}-{of}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {of}\n")
            (folder / "top_level.txt").write_text("tensorflow\n")
    # Without site-packages.
    start = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); "
    start += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=False)
    if error is None:
        assert (done.returncode, done.stdout) == (0, f"{version};{tmp_path / 'tensorflow'}"), done.stderr
    else:
        assert done.returncode == 1
        assert error in done.stderr
        assert "pip install 'tensorflow" in done.stderr
