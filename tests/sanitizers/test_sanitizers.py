"""Builds the kernels and driver.cc under each sanitizer, and runs them. Needs no build of fusemin."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent
# The sanitizers of one build, the argument with which the driver does what they must stop, and what they then print.
BUILDS = {
    "address,undefined": ("--overrun", "heap-buffer-overflow"),
    "thread": ("--race", "ThreadSanitizer: data race"),
}


def tool(name):
    """A program, from PATH or from where this Python's packages install theirs."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command):
    # What this environment may say of sanitizers is not to change what these do. Else ThreadSanitizer would go on after
    # a race, and report thousands.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("SAN_OPTIONS")}
    environment["TSAN_OPTIONS"] = "halt_on_error=1"
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, env=environment
    )


@pytest.fixture(scope="module", params=BUILDS)
def build(request, tmp_path_factory):
    """The name of a build, and its driver."""
    folder = tmp_path_factory.mktemp("sanitizers")
    configure = run(
        *(tool("cmake"), "-S", SOURCE, "-B", folder, "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        f"-DCMAKE_CXX_COMPILER={tool('g++')}",
        # Lines in what a sanitizer reports, and no more.
        *("-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG"),
        f"-DSANITIZE={request.param}",
    )
    assert configure.returncode == 0, configure.stdout
    compiled = run(tool("cmake"), "--build", folder)
    assert compiled.returncode == 0, compiled.stdout
    return request.param, folder / "driver"


def test_every_step_is_clean(build):
    _, driver = build
    done = run(driver)
    assert done.returncode == 0, done.stdout
    last = re.fullmatch(r"(\d+) steps, 0 failed", done.stdout.splitlines()[-1])
    assert last, done.stdout
    assert int(last[1]) > 0


def test_the_sanitizer_is_on(build):
    name, driver = build
    argument, message = BUILDS[name]
    done = run(driver, argument)
    assert done.returncode != 0
    assert message in done.stdout
