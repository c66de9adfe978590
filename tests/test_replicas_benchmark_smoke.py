"""`python -m benchmarks.replicas` at a tiny size. No time is asserted; what it found once stands on the page."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_all_of_it_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.replicas", "--smoke", "--json", str(tmp_path / "found.json")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]
    assert rows["the sum alone"]["ops"] < rows["fused"]["ops"] < rows["stock"]["ops"]
    assert rows["minimize on one device"]["ops"] < rows["minimize"]["ops"]
    assert f"fused: {rows['fused']['ms']:.2f} ms a step" in done.stdout


def test_the_page_has_what_was_found():
    found = json.loads((ROOT / "docs/replicas.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/howto/distributed.md").read_text(encoding="utf-8")
    assert f"takes {1 / found['step, times']:.1f} of the time" in page
    for rival in ("stock", "fused", "the sum alone"):
        assert f"{found['rows'][rival]['ops']:,}" in page
