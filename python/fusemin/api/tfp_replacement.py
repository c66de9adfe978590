"""`replacing_tfp`: TensorFlow Probability's own functions take their steps by fusemin."""

import contextlib
import contextvars
import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from fusemin.api.minimization import minimize
from fusemin.api.stateless import minimize_stateless

_TESTED = "0.25"
# Where TensorFlow Probability keeps the functions under the names by which it, and its users, call them. All of its
# callers, in `tfp.vi`, `tfp.sts` and `tfp.experimental`, go through the first module.
_PLACES = ("tensorflow_probability.python.vi.optimization", "tensorflow_probability.python.math")
_OURS = {"minimize": minimize, "minimize_stateless": minimize_stateless}

_Function = TypeVar("_Function", bound=Callable[..., Any])

_is_replacing = contextvars.ContextVar("fusemin.replacing_tfp", default=False)
_lock = threading.Lock()
# How many contexts are open, and what stood in TFP's modules before the first of them. Guarded by the lock.
_num_open = 0
_stock: list[tuple[Any, str, Any]] = []


@contextlib.contextmanager
def replacing_tfp() -> Iterator[None]:
    """Within it TensorFlow Probability itself calls `fusemin.minimize` and `fusemin.minimize_stateless`.

    That is all that fits a model there: `tfp.vi.fit_surrogate_posterior`, `tfp.vi.fit_surrogate_posterior_stateless`,
    `tfp.sts.fit_with_hmc`, and `tfp.math.minimize` itself. Contexts may be nested. Other threads keep TFP's functions.
    What is traced by a `tf.function` within the context stays fused when it is called later. A function that was
    imported by its name before, as by `from tensorflow_probability.python.math import minimize`, is not replaced.

    Raises:
      ImportError: TensorFlow Probability is not installed, or is of a version that this was not tested with.

    >>> import tensorflow as tf, tensorflow_probability as tfp, tf_keras, fusemin
    >>> tfd = tfp.distributions
    >>> scale = tfp.util.TransformedVariable(1.0, tfp.bijectors.Softplus())
    >>> surrogate = tfd.Normal(tf.Variable(0.0), scale)
    >>> with fusemin.replacing_tfp():
    ...     losses = tfp.vi.fit_surrogate_posterior(
    ...         tfd.Normal(2.0, 0.5).log_prob, surrogate, tf_keras.optimizers.Adam(0.1), num_steps=200, seed=(1, 2))
    >>> abs(float(surrogate.mean()) - 2.0) < 0.2
    True
    """
    global _num_open
    places = _import_places()
    with _lock:
        if _num_open == 0:
            _replace(places)
        _num_open += 1
    token = _is_replacing.set(True)
    try:
        yield
    finally:
        _is_replacing.reset(token)
        with _lock:
            _num_open -= 1
            if _num_open == 0:
                _restore()


def with_fusemin(theirs: _Function) -> _Function:
    """A function of TensorFlow Probability that takes its steps by fusemin: same signature, same results."""

    @functools.wraps(theirs)
    def fit(*args, **kwargs):
        with replacing_tfp():
            return theirs(*args, **kwargs)

    return cast(_Function, fit)


def _import_places():
    try:
        version = importlib.import_module("tensorflow_probability").__version__
    except ImportError as error:
        raise ImportError(
            f"TensorFlow Probability is not installed. Install tensorflow-probability[tf]=={_TESTED}.*"
        ) from error
    if version.split(".")[:2] != _TESTED.split("."):
        raise ImportError(
            f"fusemin replaces `minimize` inside of TensorFlow Probability {_TESTED}, {version} is installed. Install "
            f"tensorflow-probability[tf]=={_TESTED}.*, or call fusemin.minimize yourself."
        )
    return [importlib.import_module(name) for name in _PLACES]


def _replace(places):
    for module in places:
        for name in _OURS:
            theirs = getattr(module, name)
            _stock.append((module, name, theirs))
            setattr(module, name, _choosing(theirs, _OURS[name]))


def _restore():
    while _stock:
        module, name, theirs = _stock.pop()
        setattr(module, name, theirs)


def _choosing(theirs, ours):
    """Calls ours within a context, theirs in threads that are in none."""

    @functools.wraps(theirs)
    def choose(*args, **kwargs):
        return (ours if _is_replacing.get() else theirs)(*args, **kwargs)

    return choose
