"""The examples in the docstrings of the installed package run and give what they show."""

import doctest
import importlib
import pkgutil

import pytest

import fusemin

# `__main__` is a program.
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fusemin.__path__, "fusemin.")
    if not module.name.endswith("__main__")
    and not module.name.startswith(("fusemin.fusemin_ops_", "fusemin.libfusemin_cuda"))
)


@pytest.mark.parametrize("name", ["fusemin", *MODULES])
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_the_public_functions_have_examples():
    for function in (fusemin.minimize, fusemin.minimize_stateless, fusemin.Minimizer, fusemin.explain, fusemin.fuse):
        assert ">>> " in function.__doc__, function.__name__
