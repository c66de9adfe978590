"""What needs processes of its own: logical devices, and several workers over loopback."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.distribution.two_replicas import ROOT, run_tests
from tests.distribution.worker import OPTIMIZERS

SECONDS = 240


@pytest.mark.parametrize(("name", "least"), [("test_mirrored.py", 100), ("test_shards.py", 25)])
def test_on_two_logical_cpus(name, least):
    done = run_tests(str(ROOT / "tests/distribution" / name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= least


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _run_workers(number: int, folder) -> list[dict]:
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(number)]
    workers = []
    try:
        for i in range(number):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
            command = [sys.executable, "-m", "tests.distribution.worker", str(folder / f"{i}.npz")]
            with (folder / f"{i}.log").open("w") as log:
                workers.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        for i, worker in enumerate(workers):
            assert worker.wait(timeout=SECONDS) == 0, (folder / f"{i}.log").read_text()[-3000:]
    finally:
        # No worker outlives the test, whatever became of the others.
        for worker in workers:
            worker.kill()
            worker.wait()
    return [dict(np.load(folder / f"{i}.npz")) for i in range(number)]


@pytest.mark.parametrize("number", [2])
def test_several_workers_are_stock(number, tmp_path):
    found = _run_workers(number, tmp_path)
    for worker in found:
        assert worker["replicas"] == number
        for option in OPTIMIZERS:
            assert worker[f"{option}, fused ops"] == 1
            assert worker[f"{option}, stock ops"] == 0
            arrays = [i for i in range(20) if f"{option}, stock {i}" in worker]
            assert len(arrays) > 4
            # Sums of the gradients of parts of the data are rounded otherwise than the gradient of all.
            limit = 1e-5 if option == "accumulation" else 0.0
            for i in arrays:
                stock, fused = (worker[f"{option}, {name} {i}"] for name in ("stock", "fused"))
                np.testing.assert_allclose(fused, stock, rtol=limit, atol=limit, err_msg=f"{option} {i}")
                np.testing.assert_array_equal(fused, found[0][f"{option}, fused {i}"])
