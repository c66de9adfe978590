"""What the parts have in common: their arguments, a limit of time, and what they write down."""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import time

from tests.gpu import driver_only


class Part:
    """A part that runs.

    Attributes:
      small: whether it is to be small.
      found: what it writes down; "failures" is a list of str.
    """

    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("out", type=pathlib.Path)
        parser.add_argument("--seconds", type=float, default=540)
        parser.add_argument("--small", action="store_true")
        arguments = parser.parse_args()
        self._out, self._end, self.small = arguments.out, time.monotonic() + arguments.seconds, arguments.small
        self.found: dict = {"failures": []}
        driver_only.load_core()

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def fail(self, what: str, error: object) -> None:
        first = str(error).splitlines() or [""]
        self.found["failures"].append(f"{what}: {type(error).__name__}: {first[0]}")
        self.write()

    def leave_out(self, what: str, why: str) -> None:
        self.found.setdefault("left_out", {})[what] = why
        self.write()

    def write(self) -> None:
        """Now, so that it is there if the process is ended."""
        self._out.write_text(json.dumps(self.found))


def find_tool(name: str) -> str | None:
    """A program of the CUDA toolkit."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
