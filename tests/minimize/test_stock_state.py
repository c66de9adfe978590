"""Fused steps leave what stock steps would have left, and take over what stock left: training may change hands.

Every test compares with stock `apply_gradients` all the way, in float64.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.support.families import KERAS, LEGACY, TF_KERAS, V1, legacy, v1
from tests.support.parity_table import (
    FUSED_ROWS,
    Row,
    coupled_loss,
    largest_difference,
    new_variables,
    row_id,
    take_stock_steps,
)

LIMIT = 1e-12

# Enough for a wrong count of steps, power or slot to show; few enough to be quick.
NUM_STEPS = 8

# Of each family two that have slots, for what does not depend on the rule.
ADAM_AND_MOMENTUM = tuple(row for row in FUSED_ROWS if row.name in ("Adam", "SGD momentum", "Momentum"))


def take_steps(optimizer, variables, num_steps, trainable=None):
    """`take_stock_steps`, by `minimize`."""
    trainable = variables if trainable is None else trainable
    fusemin.minimize(lambda: coupled_loss(variables), num_steps, optimizer, trainable_variables=trainable)


def take_fused_steps(optimizer, variables, num_steps, trainable=None):
    """The same; asserts that the op does them."""
    assert fusemin.explain(optimizer, variables if trainable is None else trainable).fused
    take_steps(optimizer, variables, num_steps, trainable)


TAKE = {"fused": take_fused_steps, "stock": take_stock_steps}


@pytest.fixture
def check_same(check_difference):
    """`check_same(row, optimizer, variables, stock_optimizer, stock_variables)`: variables, slots and counts agree."""

    def check(row, optimizer, variables, stock_optimizer, stock_variables):
        check = functools.partial(check_difference, "float64, taking turns with stock", limit=LIMIT)
        check(what=f"{row.id}: variables", measured=largest_difference(variables, stock_variables))
        # Legacy slots that come from a checkpoint are named without the optimizer's name, and come in another order.
        prefix = type(optimizer).__name__ + "/"
        ours, theirs = (
            {name.removeprefix(prefix): value for name, value in row.state(o, v).items()}
            for o, v in ((optimizer, variables), (stock_optimizer, stock_variables))
        )
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            check(what=f"{row.id}: {name}", measured=largest_difference([value], [theirs[name]]))

    return check


@functools.cache
def _stock_all_the_way(row, num_steps):
    optimizer, variables = row.new(), new_variables(tf.float64)
    take_stock_steps(optimizer, variables, num_steps)
    return optimizer, variables


@pytest.mark.parametrize("turns", ["fused stock", "stock fused"])
@pytest.mark.parametrize("row", FUSED_ROWS, ids=row_id)
def test_turns(row, turns, check_same):
    optimizer, variables = row.new(), new_variables(tf.float64)
    for turn in turns.split():
        TAKE[turn](optimizer, variables, NUM_STEPS)
    stock, stock_variables = _stock_all_the_way(row, 2 * NUM_STEPS)
    check_same(row, optimizer, variables, stock, stock_variables)
    assert list(row.state(optimizer, variables)) == list(row.state(stock, stock_variables))


@pytest.mark.parametrize("row", FUSED_ROWS, ids=row_id)
def test_optimizer_that_was_built_before(row, check_same):
    optimizer, variables = row.new(), new_variables(tf.float64)
    row.family.build(optimizer, variables)
    names = list(row.state(optimizer, variables))
    for _ in range(2):
        take_fused_steps(optimizer, variables, NUM_STEPS)
    assert list(row.state(optimizer, variables)) == names
    check_same(row, optimizer, variables, *_stock_all_the_way(row, 2 * NUM_STEPS))


@pytest.mark.parametrize("row", ADAM_AND_MOMENTUM, ids=row_id)
def test_optimizer_that_was_built_for_more_variables(row, check_same):
    """A part of its variables, in another order, is minimized; the others and their slots stay as they were."""
    runs = []
    for take in (take_fused_steps, take_stock_steps):
        optimizer, variables = row.new(), new_variables(tf.float64)
        row.family.build(optimizer, variables)
        scalar, vector, matrix = variables
        take(optimizer, variables, NUM_STEPS, trainable=[matrix, scalar])
        np.testing.assert_array_equal(vector, new_variables(tf.float64)[1])
        take(optimizer, variables, NUM_STEPS, trainable=[vector, matrix])
        runs += [optimizer, variables]
    check_same(row, *runs)


@pytest.mark.parametrize("is_built", [False, True], ids=["into a new optimizer", "into a built optimizer"])
@pytest.mark.parametrize("turns", ["fused stock", "stock fused"])
@pytest.mark.parametrize("row", ADAM_AND_MOMENTUM, ids=row_id)
def test_checkpoint(row, turns, is_built, tmp_path, check_same):
    before, after = (TAKE[turn] for turn in turns.split())
    optimizer, variables = row.new(), new_variables(tf.float64)
    before(optimizer, variables, NUM_STEPS)
    path = tf.train.Checkpoint(optimizer=optimizer, variables=variables).write(str(tmp_path / "checkpoint"))

    optimizer, variables = row.new(), new_variables(tf.float64)
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    if is_built:
        row.family.build(optimizer, variables)
    status = tf.train.Checkpoint(optimizer=optimizer, variables=variables).read(path)
    after(optimizer, variables, NUM_STEPS)
    status.assert_consumed()
    check_same(row, optimizer, variables, *_stock_all_the_way(row, 2 * NUM_STEPS))


class Counted:
    """A loss that counts how often it is traced."""

    def __init__(self, variables):
        self.variables = variables
        self.count = 0

    def __call__(self):
        self.count += 1
        return coupled_loss(self.variables)


def take_turns_with_changes(make, changes, check_same, row):
    """Stock and a `Minimizer`, traced once, agree if `changes`, one after each turn, are made to both.

    Args:
      make: returns a new optimizer.
      changes: functions of the optimizer.
      check_same: the fixture.
      row: of the optimizer.
    """
    runs = []
    for fused in (True, False):
        optimizer, variables = make(), new_variables(tf.float64)
        if fused:
            row.check_explained(optimizer, variables)
            loss_fn = Counted(variables)
            minimizer = fusemin.Minimizer(loss_fn, optimizer, trainable_variables=variables)
            take = minimizer
        else:
            take = functools.partial(take_stock_steps, optimizer, variables)
        take(NUM_STEPS)
        after_first = [v.numpy() for v in variables]
        for change in changes:
            change(optimizer)
            take(NUM_STEPS)
        assert largest_difference(variables, after_first) > 1e-3
        runs += [optimizer, variables]
    assert loss_fn.count == 1
    check_same(row, *runs)


@pytest.mark.parametrize("row", ADAM_AND_MOMENTUM, ids=row_id)
def test_learning_rate_is_changed(row, check_same):
    """Between runs of one `Minimizer`, without tracing it again."""
    if row.family is V1:  # These optimizers have no variable for it, they take one of the user's.
        rates = []

        def make():
            rates.append(tf.Variable(row.learning_rate))
            return row.new(rates[-1])

        changes = [lambda o, f=factor: rates[-1].assign(f * row.learning_rate) for factor in (0.25, 0.0, 0.5)]
    else:
        make = row.new
        changes = [
            lambda o: setattr(o, "learning_rate", 0.25 * row.learning_rate),
            lambda o: o.learning_rate.assign(0.0),
            lambda o: o.learning_rate.assign(0.5 * row.learning_rate),
        ]
    take_turns_with_changes(make, changes, check_same, row)


@pytest.mark.parametrize("row", [r for r in ADAM_AND_MOMENTUM if r.family.schedules], ids=row_id)
def test_learning_rate_is_a_schedule(row, check_same):
    """It goes on counting from run to run."""
    take_turns_with_changes(
        lambda: row.new(row.family.schedule(2.0 * row.learning_rate, 8)), [lambda o: None] * 2, check_same, row
    )


@pytest.mark.parametrize("row", [r for r in ADAM_AND_MOMENTUM if r.family is LEGACY], ids=row_id)
def test_learning_rate_decays(row, check_same):
    """The option `decay` of the legacy optimizers, which divides by 1 + decay * iterations."""
    kind = type(row.new())
    options = {"momentum": 0.9} if kind is legacy.SGD else {}
    take_turns_with_changes(
        lambda: kind(2.0 * row.learning_rate, decay=0.1, **options), [lambda o: None], check_same, row
    )


@pytest.mark.parametrize("row", ADAM_AND_MOMENTUM, ids=row_id)
def test_learning_rate_is_callable(row, check_same):
    """It is called in every step, and may read variables. (tf_keras calls it once: it becomes an initial value.)"""
    factors = []

    def make():
        factor = tf.Variable(1.0)
        factors.append(factor)
        return row.new(lambda: row.learning_rate * factor.read_value())

    changes = [lambda o: factors[-1].assign(0.25), lambda o: factors[-1].assign(0.5)]
    take_turns_with_changes(make, changes, check_same, row)


@pytest.mark.parametrize("row", [r for r in ADAM_AND_MOMENTUM if r.family is not TF_KERAS], ids=row_id)
def test_learning_rate_depends_on_what_is_trained(row, check_same):
    """A callable that reads a variable which the step updates: before the update, as in stock."""
    runs = []
    for take in (take_fused_steps, take_stock_steps):
        variables = new_variables(tf.float64)
        optimizer = row.new(lambda v=variables: row.learning_rate / (1.0 + 4.0 * v[0] ** 2))
        take(optimizer, variables, 2 * NUM_STEPS)
        runs += [optimizer, variables]
    check_same(row, *runs)
    constant = _stock_all_the_way(row, 2 * NUM_STEPS)[1]
    assert largest_difference(runs[1], constant) > 1e-3


# Momentum and betas as variables: where the family has or takes such, and in an attribute where it does not.


def find(family, name):
    """The row of an optimizer."""
    (row,) = (row for row in FUSED_ROWS if row.family is family and row.name == name)
    return row


@pytest.mark.parametrize(
    ("name", "hyperparameter", "value"),
    [
        ("SGD momentum", "momentum", 0.5),
        ("SGD nesterov", "momentum", 0.5),
        ("Adam", "beta_1", 0.5),
        ("Adam", "beta_2", 0.9),
        ("Adam amsgrad", "beta_2", 0.9),
    ],
)
def test_legacy_hyperparameter_is_changed(name, hyperparameter, value, check_same):
    """The legacy optimizers hold them in variables."""
    row = find(LEGACY, name)
    take_turns_with_changes(row.new, [lambda o: setattr(o, hyperparameter, value)], check_same, row)


class Hyperparameter(NamedTuple):
    """An argument that the user gives as a number, a tensor or a variable.

    Attributes:
      row: an optimizer.
      make: from a learning rate and the argument to an instance.
      values: one for each of two runs.
    """

    row: Row
    make: Callable
    values: tuple[float, float]


HYPERPARAMETERS = {
    "keras Adam beta_1": Hyperparameter(
        find(KERAS, "Adam"), lambda lr, value: keras.optimizers.Adam(lr, beta_1=value), (0.9, 0.7)
    ),
    "keras Adam beta_2": Hyperparameter(
        find(KERAS, "Adam"), lambda lr, value: keras.optimizers.Adam(lr, beta_2=value), (0.999, 0.9)
    ),
    "keras Adam epsilon": Hyperparameter(
        find(KERAS, "Adam"), lambda lr, value: keras.optimizers.Adam(lr, epsilon=value), (1e-7, 1e-2)
    ),
    "tf_keras SGD momentum": Hyperparameter(
        find(TF_KERAS, "SGD momentum"), lambda lr, value: tf_keras.optimizers.SGD(lr, momentum=value), (0.9, 0.7)
    ),
    "tf_keras Adam beta_1": Hyperparameter(
        find(TF_KERAS, "Adam"), lambda lr, value: tf_keras.optimizers.Adam(lr, beta_1=value), (0.9, 0.7)
    ),
    "tf_keras Adam beta_2": Hyperparameter(
        find(TF_KERAS, "Adam"), lambda lr, value: tf_keras.optimizers.Adam(lr, beta_2=value), (0.999, 0.9)
    ),
    "tf_keras Adam epsilon": Hyperparameter(
        find(TF_KERAS, "Adam"), lambda lr, value: tf_keras.optimizers.Adam(lr, epsilon=value), (1e-7, 1e-2)
    ),
    "legacy SGD momentum": Hyperparameter(
        find(LEGACY, "SGD momentum"), lambda lr, value: legacy.SGD(lr, momentum=lambda: value + 0.0), (0.9, 0.7)
    ),
    "legacy Adam beta_1": Hyperparameter(
        find(LEGACY, "Adam"), lambda lr, value: legacy.Adam(lr, beta_1=lambda: value + 0.0), (0.9, 0.7)
    ),
    "legacy Adam beta_2": Hyperparameter(
        find(LEGACY, "Adam"), lambda lr, value: legacy.Adam(lr, beta_2=value), (0.999, 0.9)
    ),
    "legacy Adam epsilon": Hyperparameter(
        find(LEGACY, "Adam"), lambda lr, value: legacy.Adam(lr, epsilon=value), (1e-7, 1e-2)
    ),
    "v1 GradientDescent learning_rate": Hyperparameter(
        find(V1, "GradientDescent"), lambda lr, value: v1.GradientDescentOptimizer(value), (0.02, 0.01)
    ),
    "v1 Momentum momentum": Hyperparameter(
        find(V1, "Momentum"), lambda lr, value: v1.MomentumOptimizer(lr, value), (0.9, 0.7)
    ),
    "v1 Adam beta1": Hyperparameter(find(V1, "Adam"), lambda lr, value: v1.AdamOptimizer(lr, beta1=value), (0.9, 0.7)),
    "v1 Adam beta2": Hyperparameter(
        find(V1, "Adam"), lambda lr, value: v1.AdamOptimizer(lr, beta2=value), (0.999, 0.9)
    ),
    "v1 Adam epsilon": Hyperparameter(
        find(V1, "Adam"), lambda lr, value: v1.AdamOptimizer(lr, epsilon=value), (1e-8, 1e-2)
    ),
}

every_hyperparameter = pytest.mark.parametrize(
    "hyperparameter", [pytest.param(h, id=name.replace(" ", "-")) for name, h in HYPERPARAMETERS.items()]
)


@every_hyperparameter
def test_hyperparameter_is_a_variable_of_the_user(hyperparameter, check_same):
    """Read in every step, or only once, as stock does; whether the op or the optimizer itself takes the step."""
    row, runs = hyperparameter.row, []
    for fused in (True, False):
        variables = new_variables(tf.float64)
        # Some optimizers mix it with a gradient without a cast, so it is of that dtype.
        value = tf.Variable(hyperparameter.values[0], dtype=tf.float64)
        optimizer = hyperparameter.make(row.learning_rate, value)
        if fused:
            loss_fn = functools.partial(coupled_loss, variables)
            take = fusemin.Minimizer(loss_fn, optimizer, trainable_variables=variables)
        else:
            take = functools.partial(take_stock_steps, optimizer, variables)
        take(NUM_STEPS)
        value.assign(hyperparameter.values[1])
        take(NUM_STEPS)
        runs += [optimizer, variables]
    check_same(row, *runs)


NUMBERS = {
    "numpy float32": np.float32,
    "numpy float64": np.float64,
    "tensor": lambda number: tf.constant(number, tf.float64),
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
@every_hyperparameter
def test_hyperparameter_is_no_python_number(hyperparameter, number, check_same):
    """Stock makes a Python float a float32 in places where it leaves NumPy's numbers and tensors as they are.

    Whether the op or the optimizer itself takes the step.
    """
    row, runs = hyperparameter.row, []
    for take in (take_steps, take_stock_steps):
        optimizer = hyperparameter.make(row.learning_rate, number(hyperparameter.values[1]))
        variables = new_variables(tf.float64)
        take(optimizer, variables, NUM_STEPS)
        runs += [optimizer, variables]
    check_same(row, *runs)


class HalvedKerasAdam(keras.optimizers.Adam):
    @property
    def learning_rate(self):
        return 0.5 * self._get_current_learning_rate()


class SlowedKerasAdam(keras.optimizers.Adam):
    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() / (1.0 + tf.cast(self.iterations.value, tf.float32))


class HalvedTfKerasAdam(tf_keras.optimizers.Adam):
    @property
    def learning_rate(self):
        return 0.5 * self._learning_rate


@pytest.mark.parametrize("make", [HalvedKerasAdam, SlowedKerasAdam, HalvedTfKerasAdam])
def test_subclass_that_overrides_the_learning_rate(make, check_difference):
    """Fused or not, it takes the steps of the subclass."""
    runs = []
    for take in (take_steps, take_stock_steps):
        optimizer, variables = make(0.02), new_variables(tf.float64)
        take(optimizer, variables, NUM_STEPS)
        runs.append(variables)
    check_difference("float64, taking turns with stock", make.__name__, largest_difference(*runs), LIMIT)


@pytest.mark.parametrize(
    ("row", "attribute", "value"),
    [
        (find(KERAS, "SGD momentum"), "momentum", 0.5),
        (find(KERAS, "Adam"), "beta_1", 0.5),
        (find(TF_KERAS, "SGD momentum"), "momentum", 0.5),
        (find(TF_KERAS, "SGD"), "momentum", 0.5),
        (find(TF_KERAS, "Adam"), "beta_2", 0.9),
        (find(KERAS, "SGD momentum"), "nesterov", True),
    ],
    ids=lambda value: row_id(value) if hasattr(value, "family") else None,
)
def test_attribute_is_changed(row, attribute, value, check_same):
    """A number in Python is that of the time of the call of `minimize`."""
    runs = []
    for take in (take_fused_steps, take_stock_steps):
        optimizer, variables = row.new(), new_variables(tf.float64)
        take(optimizer, variables, NUM_STEPS)
        setattr(optimizer, attribute, value)
        take(optimizer, variables, NUM_STEPS)
        runs += [optimizer, variables]
    check_same(row, *runs)
    assert largest_difference(runs[1], _stock_all_the_way(row, 2 * NUM_STEPS)[1]) > 1e-3
