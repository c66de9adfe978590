"""Every kind of callable for `loss_fn`: it is called with a `seed` or without as its real signature takes it.

TFP tries a call with a seed, and one without on any TypeError. The results are the same; a user's own TypeError is not
hidden.
"""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import fusemin
from tests.support.minimize_runs import assert_same, quadratic
from tests.support.own_optimizers import PureDescent

RTOL = 1e-6
NUM_STEPS = 3


class Model:
    """Losses of a variable."""

    def __init__(self):
        self.x = tf.Variable([1.0, 2.0])

    def plain(self):
        return quadratic(self.x)

    def seeded(self, seed=None):
        return quadratic(self.x if seed is None else self.x + tf.random.stateless_normal([2], seed))

    def keywords(self, **options):
        return self.seeded(**options)

    def keywords_for_plain(self, **options):
        return plain_with(self, **options)


def plain_with(model):
    return model.plain()


class Base(Model):
    def loss(self, seed=None):
        return self.seeded(seed)


class WithoutSeed(Base):
    def loss(self):
        return self.plain()


class Callable:
    def __init__(self, function):
        self._function = function

    def __call__(self, seed=None):
        return self._function(seed=seed)


class CallableWithoutSeed(Callable):
    def __call__(self):
        return self._function()


class CallableByKeywords(Callable):
    def __call__(self, *arguments, **keywords):
        return self._function(*arguments, **keywords)


def hand_on(function):
    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        return function(*arguments, **keywords)

    return wrapper


def hand_on_without_wraps(function):
    return lambda *arguments, **keywords: function(*arguments, **keywords)


def without_arguments(function):
    @functools.wraps(function)
    def wrapper():
        return function()

    return wrapper


def with_signature(function, signature):
    function.__signature__ = inspect.signature(signature)
    return function


LOSSES = {
    "a method": lambda m: m.plain,
    "a method of a seed": lambda m: m.seeded,
    "a method of keywords": lambda m: m.keywords,
    "a method that hands keywords on to none": lambda m: m.keywords_for_plain,
    "a method overridden without a seed": lambda m: m.loss,
    "a lambda": lambda m: lambda: m.plain(),
    "a lambda of a seed": lambda m: lambda seed: m.seeded(seed),
    "a seed by keyword only": lambda m: lambda *, seed: m.seeded(seed),
    "an object": lambda m: CallableWithoutSeed(m.plain),
    "an object of a seed": lambda m: Callable(m.seeded),
    "an object of keywords": lambda m: CallableByKeywords(m.seeded),
    "an object of keywords without a seed": lambda m: CallableByKeywords(m.plain),
    "a partial": lambda m: functools.partial(plain_with, m),
    "a partial of a seed": lambda m: functools.partial(Model.seeded, m),
    "a partial that binds a seed by position": lambda m: functools.partial(Model.seeded, m, None),
    "a partial that binds a seed by name": lambda m: functools.partial(m.seeded, seed=(1, 2)),
    "a partial of keywords": lambda m: functools.partial(hand_on(plain_with), m),
    "a tf.function": lambda m: tf.function(m.plain),
    "a tf.function of a seed": lambda m: tf.function(m.seeded),
    "a decorator": lambda m: hand_on(m.plain),
    "a decorator of a seed": lambda m: hand_on(m.seeded),
    "a decorator of a decorator": lambda m: hand_on(hand_on(m.plain)),
    "a decorator that wraps nothing": lambda m: hand_on_without_wraps(m.plain),
    "a decorator that wraps nothing, of a seed": lambda m: hand_on_without_wraps(m.seeded),
    "a decorator that takes no seed": lambda m: without_arguments(m.seeded),
    "a signature that is wrong": lambda m: with_signature(lambda: m.plain(), m.seeded),
    "a signature that is wrong, of a seed": lambda m: with_signature(lambda seed: m.seeded(seed), m.plain),
}


@pytest.mark.parametrize("seed", [None, (1, 2)], ids=["no seed", "a seed"])
@pytest.mark.parametrize("case", LOSSES)
def test_as_in_tfp(case, seed):
    def run(minimize):
        model = WithoutSeed()
        return [minimize(LOSSES[case](model), NUM_STEPS, tf_keras.optimizers.SGD(0.125), seed=seed), model.x]

    assert_same(run(fusemin.minimize), run(tfp.math.minimize), RTOL)


def plain(x):
    return quadratic(x)


def seeded(x, seed=None):
    return quadratic(x if seed is None else x + tf.random.stateless_normal([2], seed))


STATELESS_LOSSES = {
    "plain": plain,
    "of a seed": seeded,
    "a partial": functools.partial(plain),
    "a decorator": hand_on(plain),
    "a decorator of a seed": hand_on(seeded),
    "a decorator that wraps nothing": hand_on_without_wraps(plain),
    "a tf.function of a seed": tf.function(seeded),
    "of keywords": lambda x, **options: seeded(x, **options),
}


@pytest.mark.parametrize("case", STATELESS_LOSSES)
def test_of_minimize_stateless_as_in_tfp(case):
    got, want = (
        module.minimize_stateless(
            STATELESS_LOSSES[case], np.array([1.0, 2.0], np.float32), NUM_STEPS, PureDescent(), seed=(1, 2)
        )
        for module in (fusemin, tfp.math)
    )
    assert_same(got, want, RTOL)


def raise_own(error):
    raise error


# That TFP would hide, if a call without a seed went well.
OWN_ERRORS = {
    "of a seed": lambda error: lambda seed=None: raise_own(error) if seed is not None else tf.constant(1.0),
    "behind a decorator": lambda error: hand_on(lambda seed=None: raise_own(error) if seed is not None else None),
    "of keywords": lambda error: lambda **options: raise_own(error) if options else tf.constant(1.0),
}


@pytest.mark.parametrize("case", OWN_ERRORS)
def test_type_error_of_a_users_own_is_not_hidden(case):
    error = TypeError("unsupported operand")
    with pytest.raises(TypeError) as raised:
        fusemin.minimize(OWN_ERRORS[case](error), NUM_STEPS, keras.optimizers.SGD(), seed=1)
    assert raised.value is error


def trace_loss(quantities):
    return quantities.loss


def older_trace(loss, grads, variables):
    return loss


TRACES = {
    "plain": trace_loss,
    "older": older_trace,
    "a decorator": hand_on(trace_loss),
    "a decorator of the older form": hand_on(older_trace),
    "a decorator of one argument": functools.wraps(older_trace)(lambda quantities: quantities.loss),
    "a partial": functools.partial(trace_loss),
    "a bound argument": functools.partial(lambda key, quantities: getattr(quantities, key), "loss"),
    "an object": CallableByKeywords(trace_loss),
    "a tf.function": tf.function(lambda quantities: quantities.loss),
}


@pytest.mark.parametrize("case", TRACES)
def test_trace_fn(case):
    x = tf.Variable([1.0, 2.0])
    losses = fusemin.minimize(lambda: quadratic(x), NUM_STEPS, keras.optimizers.SGD(0.125), trace_fn=TRACES[case])
    np.testing.assert_allclose(losses, 5.0 * 0.5625 ** np.arange(NUM_STEPS), RTOL)
