"""docs/explanation/many_machines.md has what the cost model and the benchmarks give."""

import json
import math
import os
import subprocess
import sys

import pytest

from tests.distribution import many_machines as model


def test_the_page_is_filled():
    text = model.PAGE.read_text(encoding="utf-8")
    assert model.fill(text) == text, "run `python -m tests.distribution.many_machines`"


@pytest.mark.parametrize("workers", model.WORKERS)
def test_the_model(workers):
    link = (1e9, 1e-5)
    # What is sent is less than twice the gradients, and many messages cost the ring more than the trees.
    assert model.sent(1.0, workers) < 2.0
    assert model.ring(0.0, workers, *link) == pytest.approx(2 * (workers - 1) * 1e-5)
    assert model.tree(0.0, workers, *link) == pytest.approx(2 * math.log2(workers) * 1e-5)
    assert model.ring(1e12, workers, *link) < model.tree(1e12, workers, *link)


@pytest.mark.parametrize("arguments", [["slot_memory", "--scale", "200"], ["loopback", "--smoke", "--rounds", "2"]])
def test_what_measures_runs(arguments, tmp_path):
    """No time is asserted; what it found once stands on the page."""
    command = [
        sys.executable,
        "-m",
        f"benchmarks.{arguments[0]}",
        *arguments[1:],
        "--json",
        str(tmp_path / "found.json"),
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, cwd=model.ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-5000:]
    (found,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8")).values()
    if arguments[0] == "slot_memory":
        assert found["slots in parts"]["held"] == found["slots in parts"]["predicted"]
        assert max(found["slots in parts"]["held"]) < 0.7 * found["slots on both"]["predicted"][0]
    else:
        assert set(found["150 x 100"]) == {"bytes", "the sum alone", "fused", "stock"}


def test_two_workers_send_what_they_have_once():
    assert model.sent(8.0, 2) == 8.0
