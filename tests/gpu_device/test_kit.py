"""The kit for a machine with a GPU, `tests/gpu/kit`, from end to end on the stand-in driver, without TensorFlow.

Programs of the CUDA toolkit are scripts that run what they are given."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.gpu_device.libraries import ROOT, environment

SANITIZER = """#!/bin/sh
[ "$1" = --tool ] || exit 3
shift 4
exec "$@"
"""
NCU = """#!/bin/sh
shift 3
"$@" || exit 4
cat <<'END'
==PROF== Disconnected
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","sgd_0_float32_plain","dram__throughput.avg.pct_of_peak_sustained_elapsed","%","91.5"
"0","sgd_0_float32_plain","gpu__time_duration.sum","nsecond","1,234"
END
"""


def _rehearse(folder: pathlib.Path, *arguments, tools=True, **settings):
    given = environment(capability="7.0")
    # The folder of the sitecustomize, that of `fusemin`, and that of the tests.
    path = [str(pathlib.Path(__file__).with_name("rehearsal")), str(ROOT), os.environ.get("PYTHONPATH", "")]
    given |= {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONSAFEPATH": ""} | settings
    if tools:
        for name, text in {"compute-sanitizer": SANITIZER, "ncu": NCU}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        given["PATH"] = f"{folder}{os.pathsep}{given['PATH']}"
    out = folder / "kit.json"
    command = [sys.executable, "-m", "tests.gpu.kit", "--small", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=400)
    return done, json.loads(out.read_text()) if out.exists() else None


def test_all_parts(tmp_path):
    done, found = _rehearse(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr + json.dumps(found, indent=1)
    assert found["device"].startswith("stand-in GPU, compute capability 7.0")
    parts = found["parts"]
    assert list(parts) == ["kernels", "sanitizers", "times", "profile"]
    assert parts["kernels"]["steps"]["lamb, float32"] == {"steps": 5, "failed": 0, "ulp": pytest.approx(0, abs=1)}
    assert parts["sanitizers"]["clean"] == ["memcheck of adam"]
    (case,) = parts["times"]["cases"].values()
    assert {"fusemin", "a copy of as many bytes"} <= set(case["us"])
    assert set(case["us in a graph"]) == set(case["us"])
    assert case["bytes"] == pytest.approx(28 * 300, rel=0.05)
    row = {"kernel": "sgd_0_float32_plain", "share of DRAM bandwidth, %": 91.5, "time (nsecond)": 1234.0}
    assert parts["profile"]["kernels"] == {"sgd, float32, numbers": [row]}


def test_what_is_not_there_is_left_out_in_words(tmp_path):
    done, found = _rehearse(tmp_path, "--parts", "sanitizers", "profile", tools=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part, tool in {"sanitizers": "compute-sanitizer", "profile": "ncu"}.items():
        assert found["parts"][part]["left_out"] == {tool: "it is not on PATH, nor in /usr/local/cuda/bin"}


def test_a_part_that_takes_too_long_is_ended(tmp_path):
    done, found = _rehearse(tmp_path, "--parts", "kernels", "--seconds", "0.001")
    assert done.returncode == 0, done.stdout
    assert "no time was left" in str(found["parts"]["kernels"]["left_out"])
