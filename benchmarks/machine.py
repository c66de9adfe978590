"""Where figures come from: the machine, and the versions of all that was measured."""

import importlib.metadata
import os
import pathlib
import platform

import psutil

PACKAGES = (
    "fusemin",
    "tensorflow",
    "tensorflow-probability",
    "keras",
    "tf_keras",
    "numpy",
    "scikit-learn",
    "torch",
    "jax",
    "jaxlib",
    "optax",
)


def num_threads() -> int:
    """The cores that this process may use: the threads that every rival is given."""
    return len(os.sched_getaffinity(0))


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model():
    """Of x86; elsewhere the architecture."""
    info = dict(
        (part.strip() for part in line.split(":", 1))
        for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    if "model name" not in info:
        return platform.machine()
    numbers = [f"{name} {info[name]}" for name in ("cpu family", "model") if name in info]
    return f"{info['model name']} ({', '.join(numbers)})"


def _caches() -> str:
    """Those of the first core, as Linux tells them."""
    found = []
    for index in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        shared = (index / "shared_cpu_list").read_text().strip()
        if kind != "Instruction":
            found.append(f"L{level} {size} (shared by cores {shared})")
    return ", ".join(found) or "unknown"


def describe() -> dict:
    """CPU, memory, load, and versions; None for a package that is not installed."""
    from fusemin import _core

    return {
        "cpu": _cpu_model(),
        "cores": num_threads(),
        "caches": _caches(),
        "memory in GiB": round(psutil.virtual_memory().total / 2**30, 1),
        # Above zero: something else was running, and times are noisy.
        "load average at start": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "instruction set of fusemin": _core.isa(),
        "compiler of fusemin": _core.build_info()["compiler"],
        "packages": {package: _version(package) for package in PACKAGES},
    }
