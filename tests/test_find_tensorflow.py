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
    "too old": ({"tensorflow": "2.19.1"}, None, "fusemin builds against TensorFlow 2.20, 2.21, 2.22"),
}


def make_tensorflow(folder, distributions):
    """A folder of packages with a `tensorflow` that these distributions have."""
    (folder / "tensorflow").mkdir(parents=True)
    # Not imported: that would take seconds.
    (folder / "tensorflow/__init__.py").write_text("raise AssertionError")
    for name, of in distributions.items():
        metadata = folder / f"{name}-{of}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {of}\n")
        (metadata / "top_level.txt").write_text("tensorflow\n")
    return folder / "tensorflow"


def find(path, *folders):
    """Runs the script without site-packages, with `path` in their place."""
    start = f"import sys, runpy; sys.path.insert(0, {str(path)!r}); sys.argv = {['', *map(str, folders)]!r}; "
    start += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case, tmp_path):
    distributions, version, error = CASES[case]
    if distributions is not None:
        make_tensorflow(tmp_path, distributions)
    done = find(tmp_path)
    if error is None:
        assert (done.returncode, done.stdout) == (0, f"{version};{tmp_path / 'tensorflow'}"), done.stderr
    else:
        assert done.returncode == 1
        assert error in done.stderr
        assert "pip install 'tensorflow" in done.stderr


def test_several_folders(tmp_path):
    """Named to the build, and not those of its Python."""
    old, new = (make_tensorflow(tmp_path / of, {"tensorflow": of}) for of in ("2.20.0", "2.22.0rc0"))
    done = find(tmp_path, old, new)
    assert (done.returncode, done.stdout) == (0, f"2.20.0;{old};2.22.0rc0;{new}"), done.stderr


def test_a_folder_that_is_none(tmp_path):
    done = find(tmp_path, tmp_path / "tensorflow")
    assert done.returncode == 1
    assert f"the version of the TensorFlow in {tmp_path / 'tensorflow'} is not known" in done.stderr
