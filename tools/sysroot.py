"""The C and C++ libraries of Debian 11 in a folder, for the wheels.

What a newer Debian's compiler links against them runs on every Linux with glibc 2.31 or newer. Takes apt-get, dpkg-deb
and the mirror of Debian that this machine uses. Installs nothing.
"""

import os
import pathlib
import platform
import re
import subprocess

SUITE = "bullseye"
GCC = "10"
PACKAGES = (
    *("libc6", "libc6-dev", "linux-libc-dev", "libcrypt1", "libcrypt-dev"),
    *("libgcc-s1", f"libgcc-{GCC}-dev", "libstdc++6", f"libstdc++-{GCC}-dev"),
)


def _sources() -> tuple[str, str]:
    """The suffix and the text of this machine's own list of sources, for the older suite."""
    folder = pathlib.Path("/etc/apt")
    for path in (folder / "sources.list.d/debian.sources", folder / "sources.list"):
        if path.exists():
            codename = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.MULTILINE)
            if codename:
                return path.suffix, path.read_text().replace(codename[1], SUITE)
    raise SystemExit("the sysroot comes from Debian's packages, and this machine knows no mirror: run on Debian 12")


def make_sysroot(folder: pathlib.Path) -> None:
    """Unpacks the packages into `folder`, unless that was done before."""
    done = folder / "done"
    if done.exists():
        return
    apt = folder.with_name(folder.name + "-apt")
    for part in ("lists/partial", "cache/archives/partial", "packages"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    suffix, text = _sources()
    # What is installed here must not keep the older packages away.
    (apt / "status").touch()
    sources = apt / f"older{suffix}"
    sources.write_text(text)
    options = (
        *("-q", "-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::Etc::SourceList={sources}"),
        *("-o", f"Dir::State::Lists={apt}/lists", "-o", f"Dir::State::Status={apt}/status"),
        *("-o", f"Dir::Cache={apt}/cache", "-o", "APT::Sandbox::User=root"),
    )
    subprocess.run(["apt-get", *options, "update"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["apt-get", *options, "download", *PACKAGES], check=True, stdout=subprocess.DEVNULL, cwd=apt / "packages"
    )
    for package in sorted((apt / "packages").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    for link in folder.rglob("*"):
        # An absolute link leads out of the sysroot, to this machine's libraries.
        if link.is_symlink() and os.path.isabs(target := os.readlink(link)):
            link.unlink()
            link.symlink_to(os.path.relpath(f"{folder}{target}", link.parent))
    done.touch()


def cmake_flags(folder: pathlib.Path) -> dict[str, str]:
    """The variables with which CMake compiles and links against a sysroot.

    The compiler stays that of this machine, and so does its own folder of libraries, which it searches first: so each
    folder of the sysroot is named.
    """
    triple = f"{platform.machine()}-linux-gnu"
    headers = (folder / f"usr/include/c++/{GCC}", folder / f"usr/include/{triple}/c++/{GCC}")
    libraries = (folder / f"usr/lib/gcc/{triple}/{GCC}", folder / f"usr/lib/{triple}", folder / f"lib/{triple}")
    compiled = [f"--sysroot={folder}", "-nostdinc++", *(f"-isystem {header}" for header in headers)]
    linked = " ".join([f"--sysroot={folder}", f"-B{libraries[1]}", *(f"-L{library}" for library in libraries)])
    return {
        "CMAKE_CXX_FLAGS": " ".join(compiled),
        "CMAKE_SHARED_LINKER_FLAGS": linked,
        "CMAKE_MODULE_LINKER_FLAGS": linked,
    }
