"""What needs processes of its own: logical devices, and several workers over loopback."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.loopback import free_ports
from tests.distribution.two_replicas import ROOT, Minimization, run_tests
from tests.distribution.worker import NUM_STEPS, OPTIMIZERS, RUN_STEPS

SECONDS = 240


@pytest.mark.parametrize(
    ("file", "least"), [("test_mirrored.py", 100), ("test_minimize_mirrored.py", 60), ("test_shards.py", 40)]
)
def test_on_two_logical_cpus(file, least):
    done = run_tests(str(ROOT / "tests/distribution" / file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= least


class _Workers:
    """A job of several workers over loopback. None of them outlives the `with`, whatever became of the others."""

    def __init__(self, number: int, folder, *arguments):
        self._number, self._folder, self._arguments = number, folder, arguments

    def __enter__(self):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self._number)]
        self.processes = []
        for i in range(self._number):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
            command = [sys.executable, "-m", "tests.distribution.worker", str(self._folder / f"{i}.npz")]
            with (self._folder / f"{i}.log").open("w") as log:
                self.processes.append(
                    subprocess.Popen([*command, *self._arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
                )
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self) -> list[int]:
        """How they ended."""
        return [process.wait(timeout=SECONDS) for process in self.processes]

    def log(self, i: int) -> str:
        return (self._folder / f"{i}.log").read_text()

    def found(self) -> list[dict]:
        """What they wrote."""
        codes = self.wait()
        assert codes == [0] * self._number, "".join(self.log(i)[-3000:] for i in range(self._number))
        return [dict(np.load(self._folder / f"{i}.npz")) for i in range(self._number)]


def _arrays(worker: dict, kind: str) -> list[np.ndarray]:
    return [worker[name] for name in worker if re.fullmatch(rf"{kind} \d+", name)]


@pytest.mark.parametrize("number", [2, 4])
def test_several_workers(number, tmp_path):
    """`fuse` is stock; `minimize` is that of one device, and the same on all of them."""
    with _Workers(number, tmp_path) as workers:
        found = workers.found()
    alone = Minimization(None, OPTIMIZERS["global_clipnorm"])
    trace = alone.minimize(NUM_STEPS)
    for worker in found:
        assert worker["replicas"] == number
        for option in OPTIMIZERS:
            assert worker[f"{option}, fused ops"] == 1
            assert worker[f"{option}, stock ops"] == 0
            of_stock, of_fused = (_arrays(worker, f"{option}, {name}") for name in ("stock", "fused"))
            assert len(of_stock) > 4
            # Sums of the gradients of parts of the data are rounded otherwise than the gradient of all.
            limit = 1e-5 if option == "accumulation" else 0.0
            for fused, stock in zip(of_fused, of_stock, strict=True):
                np.testing.assert_allclose(fused, stock, rtol=limit, atol=limit, err_msg=option)
        for kind in ("minimize", *(f"{option}, fused" for option in OPTIMIZERS)):
            for mine, first in zip(_arrays(worker, kind), _arrays(found[0], kind), strict=True):
                np.testing.assert_array_equal(mine, first)
        np.testing.assert_array_equal(worker["minimize trace"], found[0]["minimize trace"])
        np.testing.assert_allclose(worker["minimize trace"], trace, rtol=1e-12)
        for mine, of_one in zip(_arrays(worker, "minimize"), alone.copies()[0], strict=True):
            np.testing.assert_allclose(mine, of_one, rtol=1e-12, atol=1e-14)


def test_a_worker_that_is_killed(tmp_path):
    """The other ends with TensorFlow's error, and the job that is started again ends as one that was not killed."""
    checkpoint = str(tmp_path / "checkpoint")
    with _Workers(2, tmp_path, "--checkpoint", checkpoint, "--die-at", "35") as workers:
        codes = workers.wait()
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, -signal.SIGKILL)
    assert re.search(r"(Unavailable|Aborted|Internal|Cancelled|FailedPrecondition)Error", workers.log(0))
    steps = sorted(path.name for path in (tmp_path / "checkpoint").glob("step-*.json"))
    assert steps == ["step-20.json", "step-30.json"]
    with _Workers(2, tmp_path, "--checkpoint", checkpoint) as workers:
        found = workers.found()
    for worker in found:
        np.testing.assert_array_equal(worker["resumed trace"], worker["whole trace"])
        np.testing.assert_array_equal(worker["resumed trace"], found[0]["resumed trace"])
        assert len(worker["whole trace"]) == RUN_STEPS
        for resumed, whole in zip(_arrays(worker, "resumed"), _arrays(worker, "whole"), strict=True):
            np.testing.assert_array_equal(resumed, whole)
