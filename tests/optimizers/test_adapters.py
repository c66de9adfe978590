"""Adapters and the rules that they name: every one fits, and a mistake in one is an error that says where it is."""

import dataclasses

import keras
import pytest
import tensorflow as tf

import fusemin
from fusemin import _core, families
from fusemin.families import AdapterError, keras3
from fusemin.update.plan import plan
from tests.support.optimizer_table import ROWS

ADAPTERS = [(family, name) for family in families.families() for name in family.adapters]


def _rules(row) -> set[str]:
    """Those of dense and of sparse gradients of a row."""
    planned = plan(row.make(learning_rate=0.01), [tf.Variable(1.0)])
    sparse = planned.adapter.sparse(planned.family.inner(planned.optimizer)).rule
    return {planned.rule, sparse or planned.rule}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_adapter_fits_its_rule(row):
    """A plan checks what the adapter says, binding whether the optimizer has it."""
    update = plan(row.make(learning_rate=0.01), [tf.Variable([1.0, 2.0]) for _ in range(row.num_variables)]).bind()
    needed = _core.rules()[update.rule]
    assert [len(slots) for slots in update.slots] == [len(needed["slots"])] * row.num_variables
    assert len(update.scalars) == len(needed["scalars"])
    assert set(needed["hyperparameters"]) <= set(update.hyperparameters)


def _adapter(row):
    return next(family for family in families.families() if family.name == row.family).adapters[row.optimizer]


@pytest.mark.parametrize(("family", "name"), ADAPTERS, ids=lambda part: getattr(part, "name", part))
def test_an_adapter_says_nothing_that_no_rule_needs(family, name):
    """Over all variants, also of other optimizers where they share it: what none needs is misspelt, or dead."""
    adapter = family.adapters[name]
    assert any(_adapter(row) is adapter for row in ROWS), "tests/support/optimizer_table.py has no row of it"
    for kind in ("slots", "scalars", "hyperparameters"):
        rows = [row for row in ROWS if getattr(_adapter(row), kind) is getattr(adapter, kind)]
        needed = {needed for row in rows for rule in _rules(row) for needed in _core.rules()[rule][kind]}
        said = [
            getattr(adapter, kind) if kind != "hyperparameters" else adapter.hyperparameters(row.make(0.01))
            for row in rows
        ]
        assert {name for names in said for name in names} <= needed, kind


ADAM = keras3._ADAPTERS["Adam"]
NADAM = keras3._ADAPTERS["Nadam"]


def _without(mapping, name):
    return {(f"{n}x" if n == name else n): value for n, value in mapping.items()}


# The optimizer, what its adapter says wrongly, the error; and whether the optimizer must be bound to tell.
MISTAKES = {
    "rule": ("Adam", {"rule": lambda o: "adamm"}, "keras Adam names the rule 'adamm'", False),
    "slot": ("Adam", {"slots": _without(ADAM.slots, "velocity")}, r"keras Adam .* slots \['velocity'\]", False),
    "scalar": (
        "Nadam",
        {"scalars": _without(NADAM.scalars, "momentum_product")},
        r"keras Nadam .* scalars \['momentum_product'\]",
        False,
    ),
    "hyperparameter": (
        "Adam",
        {"hyperparameters": lambda o: _without(ADAM.hyperparameters(o), "beta_2")},
        r"keras Adam .* hyperparameters \['beta_2'\]",
        False,
    ),
    "sparse rule": (
        "Adam",
        {"sparse": lambda o: families.SparseUpdate(rule="adam_sparse")},
        "keras Adam names the rule 'adam_sparse'",
        False,
    ),
    "slot of stock": (
        "Adam",
        {"slots": ADAM.slots | {"velocity": "_velocity"}},
        "keras Adam .* slots 'velocity' of the rule is '_velocity'",
        True,
    ),
    "scalar of stock": (
        "Nadam",
        {"scalars": {"momentum_product": "_product"}},
        "keras Nadam .* scalars 'momentum_product' of the rule is '_product'",
        True,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake, monkeypatch):
    name, said, message, when_bound = MISTAKES[mistake]
    monkeypatch.setitem(keras3._ADAPTERS, name, dataclasses.replace(keras3._ADAPTERS[name], **said))
    optimizer, x = getattr(keras.optimizers, name)(0.1), tf.Variable([1.0, 2.0])
    fused = fusemin.fuse(getattr(keras.optimizers, name)(0.1))
    calls = {
        "minimize": lambda: fusemin.minimize(lambda: tf.reduce_sum(x**2), 2, optimizer),
        "fuse": lambda: fused.apply_gradients([(tf.ones([2]), x)]),
    }
    if not when_bound:
        calls["explain"] = lambda: fusemin.explain(optimizer, [x])
    for call in calls.values():
        with pytest.raises(AdapterError, match=message):
            call()
    assert x.numpy().tolist() == [1.0, 2.0]


def test_a_misspelt_option_is_named(monkeypatch):
    monkeypatch.setattr(keras3.Keras3, "option_numbers", lambda self, optimizer: {"clipvalues": 1.0})
    optimizer, x = keras.optimizers.Adam(0.1), tf.Variable([1.0, 2.0])
    for call in (
        lambda: fusemin.explain(optimizer, [x]),
        lambda: fusemin.minimize(lambda: tf.reduce_sum(x**2), 2, optimizer),
    ):
        with pytest.raises(AdapterError, match=r"keras names the options \['clipvalues'\].*'clipvalue'"):
            call()
    assert x.numpy().tolist() == [1.0, 2.0]
