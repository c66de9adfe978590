"""See the package."""

import argparse
import os
import sys

from tests.gpu_device.libraries import SOURCE, environment

parser = argparse.ArgumentParser(prog="python -m tests.gpu_device")
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--capability", default="9.0")
options, others = parser.parse_known_args()
others = others or [str(SOURCE.with_name("on_device"))]
command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "tests.gpu_device.plugin", *others]
os.execve(sys.executable, command, environment(options.devices, options.capability))
