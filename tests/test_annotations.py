"""Everything that users call has annotations, which type checkers read. CI runs one: mypy, see pyproject.toml."""

import inspect
import pathlib

import pytest

import fusemin
from fusemin import convergence

# `vi` and `sts` are functions of TensorFlow Probability.
FUNCTIONS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (fusemin, convergence)
    for name in module.__all__
    if name not in ("vi", "sts") and callable(getattr(module, name))
}
METHODS = {
    f"{name}.{method.__name__}": method
    for name, known in FUNCTIONS.items()
    if inspect.isclass(known) and not issubclass(known, tuple)
    for method in vars(known).values()
    if inspect.isfunction(method) and (method.__name__ in ("__init__", "__call__") or method.__name__[0] != "_")
}
CALLED = {name: known for name, known in {**FUNCTIONS, **METHODS}.items() if not inspect.isclass(known)}


@pytest.mark.parametrize("name", CALLED)
def test_every_argument_has_a_type(name):
    signature = inspect.signature(CALLED[name])
    without = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
    assert without == []
    assert signature.return_annotation is not signature.empty


def test_type_checkers_read_them():
    assert (pathlib.Path(fusemin.__file__).parent / "py.typed").exists()
    assert len(CALLED) > 12
