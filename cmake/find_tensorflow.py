"""Prints the version and the folder of each TensorFlow that the op library is to be built for, as one CMake list.

They are those in the folders given, or the one of this Python. Imports none, which takes seconds and starts threads.
Any distribution will do that has the package: tensorflow, tensorflow-cpu, a build of one's own."""

import importlib.metadata
import importlib.util
import pathlib
import sys

# There is no FFI header in older ones. A newer one was not tried: see CONTRIBUTING.md.
MINORS = ("2.20", "2.21", "2.22")
WANTED = "pip install 'tensorflow>=2.20,<2.22', or tensorflow-cpu of such a version"


def versions_at(folder: pathlib.Path) -> dict[str, str]:
    """The versions of the distributions that have the package in `folder`, by their names."""
    found = {}
    for distribution in importlib.metadata.distributions(path=[str(folder.parent)]):
        tops = (distribution.read_text("top_level.txt") or "").split()
        if folder.name in tops or any(file.parts[0] == folder.name for file in distribution.files or ()):
            found[distribution.metadata["Name"]] = distribution.version
    return found


def describe(folder: pathlib.Path) -> tuple[str, str]:
    """The version and the path of a folder, or exits."""
    versions = versions_at(folder)
    if len(set(versions.values())) != 1:
        found = ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "no distribution"
        sys.exit(f"the version of the TensorFlow in {folder} is not known, {found} has it: {WANTED}")
    (version,) = set(versions.values())
    if ".".join(version.split(".")[:2]) not in MINORS:
        sys.exit(f"fusemin builds against TensorFlow {', '.join(MINORS)}, {folder} is {version}: {WANTED}")
    return version, str(folder)


def main():
    folders = [pathlib.Path(folder).resolve() for folder in sys.argv[1:]]
    if not folders:
        spec = importlib.util.find_spec("tensorflow")
        if spec is None or spec.origin is None:
            sys.exit(f"TensorFlow is not installed for {sys.executable}: {WANTED}")
        folders = [pathlib.Path(spec.submodule_search_locations[0])]
    print(*(text for folder in folders for text in describe(folder)), sep=";", end="")


if __name__ == "__main__":
    main()
