"""An op of a user's function that fails while the loop runs is reported with the user's file and line."""

import inspect

import keras
import pytest
import tensorflow as tf

import fusemin
from tests.support.own_optimizers import PureDescent


def check(x):
    tf.debugging.assert_less(x, 2.0, message="x left its domain")


LINE = inspect.getsourcelines(check)[1] + 1


class Never:
    """A criterion that checks."""

    def bootstrap(self, loss, grads, parameters):
        return ()

    def one_step(self, step, loss, grads, parameters, auxiliary_state):
        check(-loss)
        return tf.zeros_like(loss, tf.bool), ()


def minimize(loss_fn, x, **options):
    return fusemin.minimize(loss_fn, 30, keras.optimizers.SGD(0.1, name="sgd"), trainable_variables=[x], **options)


def minimizer(loss_fn, x, **options):
    return fusemin.Minimizer(loss_fn, keras.optimizers.SGD(0.1, name="sgd"), trainable_variables=[x], **options)(30)


def stateless(loss_fn, x, **options):
    return fusemin.minimize_stateless(loss_fn, tf.constant(1.0), 30, PureDescent(), **options)


def assert_names_the_line(run):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        run()
    assert "x left its domain" in str(caught.value)
    assert f'File "{__file__}", line {LINE}, in check' in str(caught.value)


@pytest.mark.parametrize("run", [minimize, minimizer, stateless])
def test_loss_fn(run):
    x = tf.Variable(1.0)

    def loss_fn(parameter=x):
        check(parameter)
        return -(parameter**2)

    assert_names_the_line(lambda: run(loss_fn, x))


@pytest.mark.parametrize("run", [minimize, minimizer, stateless])
@pytest.mark.parametrize("function", ["trace_fn", "convergence_criterion"])
def test_the_functions_that_look(run, function):
    def trace_fn(q):
        check(-q.loss)
        return q.loss

    x = tf.Variable(1.0)
    options = {"trace_fn": trace_fn} if function == "trace_fn" else {"convergence_criterion": Never()}
    assert_names_the_line(lambda: run(lambda parameter=x: -(parameter**2), x, **options))
