"""What may import what."""

import ast
import pathlib

import pytest

import fusemin

MODULES = sorted(pathlib.Path(fusemin.__file__).parent.rglob("*.py"))
FAMILIES = [path for path in MODULES if path.parent.name == "families"]
PRIVATE = ("tensorflow.python", "keras.src", "tf_keras.src")


def _imported(path) -> list[str]:
    """Full names of all that a module imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_private_modules_of_tensorflow_and_keras(path):
    """Are imported in one file, which a new version of them is read against, and in the families."""
    private = [name for name in _imported(path) if name.startswith(PRIVATE)]
    assert path.stem == "_compat" or path in FAMILIES or private == []


@pytest.mark.parametrize("path", FAMILIES, ids=lambda path: path.stem)
def test_families_know_nothing_of_steps_and_loops(path):
    allowed = ("fusemin._", "fusemin.constraints", "fusemin.families", "fusemin.graphs")
    assert [name for name in _imported(path) if name.startswith("fusemin") and not name.startswith(allowed)] == []


# A package imports those before it only.
ORDER = ["families", "optimizers", "update", "loop", "runs", "api"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_layers(path):
    if path.parent.name in ORDER:
        above = tuple(f"fusemin.{package}" for package in ORDER[ORDER.index(path.parent.name) + 1 :])
        assert [name for name in _imported(path) if name.startswith(above)] == []
