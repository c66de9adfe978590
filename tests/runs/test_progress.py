"""The bar, in a terminal of 80 columns and where there is none; `python -m fusemin` with Ctrl-C and --plot."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import types

import pytest

from fusemin.runs.progress import Progress
from tests.runs.fits import Fit

COLUMNS = 80


def _in_a_terminal(command, until=None) -> tuple[str, int]:
    """What a program writes into a terminal of 80 columns, and its exit status. SIGINT once it has written `until`."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, close_fds=True)
    os.close(child)
    written = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:  # The program has ended.
            break
        if not block:
            break
        written += block
        if until is not None and re.search(until, written):
            process.send_signal(signal.SIGINT)
            until = None
    os.close(parent)
    return written.decode(), process.wait(60)


PROGRAM = """
import keras, tensorflow as tf, fusemin
x = tf.Variable(tf.zeros([1000]))
minimizer = fusemin.Minimizer(lambda: tf.reduce_sum((x - 5.0) ** 2), keras.optimizers.Adam(1e-3))
minimizer.run(30_000, progress=True)
"""


def test_in_a_terminal():
    written, status = _in_a_terminal([sys.executable, "-c", PROGRAM])
    assert status == 0
    states = [s for s in re.split(r"[\r\n]+", written) if "loss=" in s]
    assert len(states) >= 2
    for state in states:
        assert len(state.replace("\x1b[A", "")) <= COLUMNS, state
    last = states[-1]
    assert "100%" in last
    assert "30.0k/30.0k" in last
    assert "steps/s" in last
    # One line that is written over again and again.
    assert written.count("\n") <= 2 + written.count("I0000") + written.count("WARNING")


def test_silent_where_there_is_no_terminal(capfd):
    Fit().minimizer().run(20, progress=True)
    out, err = capfd.readouterr()
    assert "steps" not in out + err
    Fit().minimizer().run(20, progress="always")
    out, err = capfd.readouterr()
    assert "20.0/20.0" in err
    assert "loss=" in err


def test_in_a_notebook(monkeypatch, capfd):
    """A kernel's stderr is no terminal. Without widgets tqdm writes a line of text there."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    progress = Progress(True, 100, 0)
    assert progress.is_shown
    progress.update(50, 1.5)
    progress.close()
    out, err = capfd.readouterr()
    assert "50.0/100" in out + err


def test_a_run_that_goes_on_begins_where_it_was(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = Progress("always", 100, 40)
    progress.update(70, 2.0)
    progress.close()
    assert "40.0/100" in stderr.getvalue()
    assert "70.0/100" in stderr.getvalue()


def test_the_main_job_survives_ctrl_c(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "out.png"
    command = [sys.executable, "-m", "fusemin", "--steps", "10000000", "--samples", "1", "--plot", str(path)]
    written, status = _in_a_terminal(command, until=rb"loss=[^\r]*\r[^\r]*loss=")
    assert status == 130
    assert "interrupted after" in written
    assert "Posterior" in written
    assert path.read_bytes().startswith(b"\x89PNG")
