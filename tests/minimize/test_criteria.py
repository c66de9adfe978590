"""The criteria of `fusemin.convergence` against their definitions in NumPy, in each mode, and in TFP's own loop."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import fusemin
from fusemin import convergence
from tests.support.minimize_runs import TARGET, assert_same, gradient_descent, to_numpy
from tests.support.own_optimizers import PureDescent

NUM_STEPS = 300
START = np.array([[0.0, 1.0], [1.0, 2.5], [TARGET, TARGET]])
SCALES = np.array([1.0, 0.25, 1.0])
# Two parameters of a batch of three: a vector and a number for each member.
OFFSETS = np.array([-1.0, 4.0, 0.0])


class Problem:
    """A batch of three losses, and the sum of them."""

    def __init__(self, is_batch, dtype=tf.float64):
        self.is_batch = is_batch
        self.variables = [tf.Variable(START, dtype=dtype), tf.Variable(OFFSETS, dtype=dtype)]
        self.optimizer = gradient_descent()

    def loss(self):
        vectors, offsets = self.variables
        scales = tf.constant(SCALES, vectors.dtype)
        losses = scales * (tf.reduce_sum((vectors - TARGET) ** 2, 1) + offsets**2 / 2)
        return losses if self.is_batch else tf.reduce_sum(losses)

    def minimize(self, criterion, minimize=fusemin.minimize, **options):
        return minimize(
            self.loss,
            NUM_STEPS,
            self.optimizer,
            trainable_variables=self.variables,
            trace_fn=lambda q: (q.loss, q.gradients, q.parameters, q.has_converged),
            convergence_criterion=criterion,
            **options,
        )


def norms(tensors, is_batch, ord=2):
    """By step, and member."""
    flat = np.concatenate([t.reshape([*t.shape[:2], -1]) for t in tensors], 2)
    if not is_batch:
        flat = flat.reshape([len(flat), -1])
    return np.linalg.norm(flat, ord, axis=-1)


def gradient_norm(is_batch, loss, gradients, parameters, atol, ord=2, min_num_steps=0):
    return (norms(gradients, is_batch, ord) < atol) & at_least(min_num_steps, loss)


def parameters_settled(is_batch, loss, gradients, parameters, rtol=0.0, atol=0.0, min_num_steps=1):
    moved = norms([np.diff(p, axis=0, prepend=np.nan) for p in parameters], is_batch)
    size = np.roll(norms(parameters, is_batch), 1, axis=0)
    return (moved <= atol + rtol * size) & at_least(min_num_steps, loss)


def loss_plateau(is_batch, loss, gradients, parameters, patience, min_delta=0.0, min_num_steps=0):
    flags = np.zeros(loss.shape, bool)
    for member in np.ndindex(loss.shape[1:]):
        best, since = loss[(0, *member)], 0
        for step in range(1, len(loss)):
            now = loss[(step, *member)]
            best, since = (now, 0) if now < best - min_delta else (best, since + 1)
            flags[(step, *member)] = since >= patience and step >= min_num_steps
    return flags


def at_least(min_num_steps, loss):
    return (np.arange(len(loss)) >= min_num_steps).reshape([-1] + [1] * (loss.ndim - 1))


CASES = {
    "gradient": (convergence.GradientNorm, gradient_norm, {"atol": 0.1}),
    "largest gradient": (convergence.GradientNorm, gradient_norm, {"atol": 0.1, "ord": np.inf}),
    "gradient, not before": (convergence.GradientNorm, gradient_norm, {"atol": 0.1, "min_num_steps": 70}),
    "gradient, by member": (convergence.GradientNorm, gradient_norm, {"atol": np.array([0.1, 0.01, 0.2])}),
    "settled": (convergence.ParametersSettled, parameters_settled, {"rtol": 1e-3}),
    "settled, absolute": (convergence.ParametersSettled, parameters_settled, {"atol": 1e-2, "min_num_steps": 30}),
    "settled, both": (convergence.ParametersSettled, parameters_settled, {"rtol": 1e-3, "atol": 1e-2}),
    "plateau": (convergence.LossPlateau, loss_plateau, {"patience": 3, "min_delta": 0.05}),
    "plateau, not before": (
        convergence.LossPlateau,
        loss_plateau,
        {"patience": 2, "min_delta": 1, "min_num_steps": 40},
    ),
}
MODES = {"default": {}, "XLA": {"jit_compile": True}, "loss in XLA": {"jit_compile": "loss"}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("case", "is_batch"),
    [(case, is_batch) for case in CASES for is_batch in (True, False) if is_batch or "member" not in case],
)
def test_flags_are_those_of_the_definition(case, is_batch, mode):
    criterion, definition, arguments = CASES[case]
    got = to_numpy(Problem(is_batch).minimize(criterion(**arguments), return_full_length_trace=False, **MODES[mode]))
    loss, gradients, parameters, flags = got
    expected = definition(is_batch, loss, gradients, parameters, **arguments)
    np.testing.assert_array_equal(flags[1:], expected[1:])
    assert not flags[0].any()
    assert flags[-1].all()
    assert 1 < len(flags) < NUM_STEPS
    assert not flags[:-1].all(axis=tuple(range(1, flags.ndim))).any()


@pytest.mark.parametrize("case", CASES)
def test_tfp_takes_them(case):
    criterion, _, arguments = CASES[case]
    expected = Problem(True).minimize(criterion(**arguments), minimize=tfp.math.minimize)
    assert_same(Problem(True).minimize(criterion(**arguments)), expected, rtol=1e-12)


SEVERAL = {
    "any": (convergence.AnyOf, np.logical_or),
    "all": (convergence.AllOf, np.logical_and),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SEVERAL)
def test_several(kind, mode):
    several, join = SEVERAL[kind]
    arguments = {"atol": 0.1}, {"patience": 3, "min_delta": 0.05}
    criterion = several(convergence.GradientNorm(**arguments[0]), convergence.LossPlateau(**arguments[1]))
    loss, gradients, parameters, flags = to_numpy(
        Problem(True).minimize(criterion, return_full_length_trace=False, **MODES[mode])
    )
    one = gradient_norm(True, loss, gradients, parameters, **arguments[0])
    other = loss_plateau(True, loss, gradients, parameters, **arguments[1])
    assert (one != other).any()
    np.testing.assert_array_equal(flags[1:], join(one, other)[1:])
    assert 1 < len(flags) < NUM_STEPS


def test_a_parameter_that_all_members_share():
    """Its norm counts for each of them."""
    losses, shared = tf.constant([1.0, 2.0, 3.0]), tf.constant([[3.0, 4.0]])
    own = tf.constant([0.0, 12.0, 0.0])
    criterion = convergence.GradientNorm(6.0)
    has_converged, _ = criterion.one_step(tf.constant(1), losses, [shared, own], [shared, own], ())
    np.testing.assert_array_equal(has_converged, [True, False, True])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.complex64])
@pytest.mark.parametrize("case", ["gradient", "settled", "plateau"])
def test_dtypes(case, dtype):
    criterion, _, arguments = CASES[case]
    x = tf.Variable(tf.cast([0.0, 1.0], dtype))
    losses = fusemin.minimize(
        lambda: tf.reduce_sum(tf.abs(x - tf.cast(TARGET, dtype)) ** 2),
        500,
        gradient_descent(),
        convergence_criterion=criterion(**arguments),
        return_full_length_trace=False,
    )
    assert 2 < len(losses) < 500


def test_a_loss_that_begins_as_nan_improves_with_its_first_number():
    criterion = convergence.LossPlateau(patience=2)
    state = criterion.bootstrap(tf.constant(np.nan), [], [])
    _, state = criterion.one_step(tf.constant(1), tf.constant(3.0), [], [], state)
    np.testing.assert_array_equal(state, (3.0, 0))


def test_minimize_stateless():
    criterion = convergence.AnyOf(convergence.ParametersSettled(rtol=1e-4), convergence.GradientNorm(1e-3))
    x, losses = fusemin.minimize_stateless(
        lambda x: (x - 5.0) ** 2, 1.0, 500, PureDescent(), convergence_criterion=criterion
    )
    assert abs(float(x) - 5.0) < 1e-2
    assert float(losses[-1]) == float(losses[-2])


MISTAKES = {
    "negative": (lambda: convergence.GradientNorm(-1.0), ValueError, "`atol` must be a number from 0 on, it is -1.0"),
    "a norm": (lambda: convergence.GradientNorm(1.0, ord=1), ValueError, "`ord` must be 2 or"),
    "no threshold": (convergence.ParametersSettled, ValueError, "one of `rtol` and `atol` must be more than 0"),
    "no patience": (lambda: convergence.LossPlateau(0), ValueError, "`patience` must be a count of steps"),
    "delta": (lambda: convergence.LossPlateau(1, min_delta=-1), ValueError, "`min_delta` must be a number from 0 on"),
    "none": (convergence.AnyOf, ValueError, "`AnyOf` needs at least one criterion"),
    "None": (lambda: convergence.AllOf(None), TypeError, "each argument of `AllOf` must be a convergence criterion"),
    "a class": (lambda: convergence.AllOf(convergence.AnyOf), TypeError, "must be an instance, it is the class AnyOf"),
    "a number": (lambda: convergence.AnyOf(1), TypeError, "must have the methods bootstrap and one_step"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        make()
