"""The part that runs steps of some rules under compute-sanitizer's tools."""

from __future__ import annotations

import subprocess
import sys

from tests.gpu.kit.part import Part, find_tool

TOOLS = ("memcheck", "racecheck", "initcheck")
RULES = ("adam", "lamb", "sgd")
_ERRORS_FOUND = 9


def main() -> None:
    part = Part()
    part.found["clean"] = []
    program = find_tool("compute-sanitizer")
    if program is None:
        part.leave_out("compute-sanitizer", "it is not on PATH, nor in /usr/local/cuda/bin")
        return
    for tool in TOOLS[:1] if part.small else TOOLS:
        for rule in RULES[:1] if part.small else RULES:
            what = f"{tool} of {rule}"
            if part.seconds_left < 5:
                part.leave_out(what, "no time was left")
                continue
            cases = ["--cases", "sizes", "out of place, rows", "clipnorm, many chunks", "all"]
            command = [program, "--tool", tool, "--error-exitcode", str(_ERRORS_FOUND), sys.executable]
            command += ["-m", "tests.gpu.driver_only", "--rules", rule, "--dtypes", "float32", *cases, "--no-large"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=part.seconds_left)
            except subprocess.TimeoutExpired:
                part.leave_out(what, "no time was left in the middle")
                continue
            if done.returncode == 0:
                part.found["clean"].append(what)
            else:
                errors = [
                    line for line in (done.stdout + done.stderr).splitlines() if "=====" in line or "FAILED" in line
                ]
                part.fail(what, RuntimeError("; ".join(errors[:12]) or done.stderr[-500:] or "no output"))
    part.write()


if __name__ == "__main__":
    main()
