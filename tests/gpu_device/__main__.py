"""See the package."""

import argparse
import os
import sys

from tests.gpu_device.libraries import SOURCE, environment

parser = argparse.ArgumentParser(prog="python -m tests.gpu_device")
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--capability", default="9.0")
parser.add_argument("--table", action="store_true", help="count for docs/cuda.md instead, and write its table")
options, others = parser.parse_known_args()
if options.table:
    command = [sys.executable, "-m", "tests.gpu_device.counts_table"]
    os.execve(sys.executable, command, environment())
others = others or [str(SOURCE.with_name("on_device"))]
command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "tests.gpu_device.plugin", *others]
os.execve(sys.executable, command, environment(options.devices, options.capability))
