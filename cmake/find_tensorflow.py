"""Prints the version and the folder of the TensorFlow of this Python, as a CMake list. Does not import it, which takes
seconds and starts threads. Any distribution will do that has the package: tensorflow, tensorflow-cpu, a build of one's
own."""

import importlib.metadata
import importlib.util
import sys

WANTED = "pip install 'tensorflow>=2.21,<2.22', or tensorflow-cpu of that version"


def main():
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        sys.exit(f"TensorFlow is not installed for {sys.executable}: {WANTED}")
    folder = spec.submodule_search_locations[0]
    names = sorted(set(importlib.metadata.packages_distributions().get("tensorflow", ())))
    versions = {name: importlib.metadata.version(name) for name in names}
    if len(set(versions.values())) != 1:
        found = ", ".join(f"{name} {version}" for name, version in versions.items()) or "no distribution"
        sys.exit(f"the version of the TensorFlow in {folder} is not known, {found} has it: {WANTED}")
    print(*set(versions.values()), folder, sep=";", end="")


if __name__ == "__main__":
    main()
