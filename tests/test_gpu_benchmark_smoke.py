"""`python -m benchmarks.gpu` without a GPU, and its logic on the CPU device at tiny sizes. No time is asserted."""

import json
import math
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def _run(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def test_without_a_gpu_nothing_is_measured(tmp_path):
    assert _run("--json", str(tmp_path / "gpu.json")) == "no GPU: nothing was measured\n"
    assert not (tmp_path / "gpu.json").exists()


def test_all_of_it_runs_on_the_cpu_device(tmp_path):
    printed = _run("--cpu", "--smoke", "--json", str(tmp_path / "gpu.json"))
    result = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert result["device"] == "CPU:0"
    assert result["size"] == "smoke"
    adams = ["keras Adam", "tf_keras legacy Adam"]
    rivals = {f"{by}, {adam}" for by in ("fused", "stock") for adam in adams}
    of_case = {}
    for row in result["rows"]:
        of_case.setdefault(row["case"], set()).add(row["rival"])
        assert all(math.isfinite(sample) and sample > 0 for sample in row["samples"]), row
        if row["case"].startswith("update"):
            assert row["facts"]["GB/s"] > 0
            assert row["facts"]["of the copy's bandwidth"] > 0
    assert of_case == {
        "update, 2 variables of 1,000": {*rivals, "device copy"},
        "minimize, 2 variables of 10": {
            f"{by}, {adam}{mode}" for by in ("fusemin", "tfp") for adam in adams for mode in ("", ", jit")
        },
    }
    assert "On CPU:0" in printed
    assert len(result["summary"]) == 6
    assert all(line in printed for line in result["summary"])
