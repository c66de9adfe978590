"""How a user's `loss_fn` is called: with a `seed` or without."""

import inspect
import re
from collections.abc import Callable

# What Python, its builtins, tf.function and pybind11 say where a call does not fit a signature for the seed's sake.
_UNKNOWN = re.compile(r"(unexpected|invalid) keyword argument|takes no keyword arguments|multiple values for")
_MISSING = re.compile(r"missing .*\bseed\b|missing a required (keyword-only )?argument: '?seed")


def _parameters(function: Callable) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):  # Some builtins have none.
        return None


def accepts_seed(loss_fn: Callable) -> bool:
    """Whether `loss_fn` is to be called with `seed=...`, as far as signatures tell.

    What `functools.wraps` says of a function is what it wraps, and need not be so: it decides only where the wrapper
    hands on whatever it is given.
    """
    parameters = _parameters(loss_fn)
    if parameters is None:
        return True
    if any(p.name == "seed" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        return True
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        return False
    wrapped = getattr(loss_fn, "__wrapped__", None)
    return accepts_seed(wrapped) if callable(wrapped) else True


def _is_of_the_call(error: TypeError, with_seed: bool) -> bool:
    """Whether an error says that a seed was given, or not given, against what a function takes."""
    if with_seed:
        # Errors of C++ functions need not say why; they are raised where they are called, in no frame of their own.
        in_c = error.__traceback__.tb_next is None
        return in_c or ("seed" in str(error) and _UNKNOWN.search(str(error)) is not None)
    return _MISSING.search(str(error)) is not None


def seeded(loss_fn: Callable) -> Callable:
    """`loss_fn` as a function `(*arguments, seed)`, which hands on the seed, or None, if `loss_fn` takes one.

    TFP tries both and so hides a TypeError of the user's own. Here the signature decides; the other way is tried only
    where Python says that the signature was wrong.

    Raises:
      Whatever `loss_fn` raises. If it takes a `seed`, got None, and TensorFlow found a None, the error says so.
    """
    accepts = accepts_seed(loss_fn)

    def with_or_without(*arguments, seed):
        try:
            return loss_fn(*arguments, seed=seed) if accepts else loss_fn(*arguments)
        except TypeError as error:
            if not _is_of_the_call(error, accepts):
                raise
        return loss_fn(*arguments) if accepts else loss_fn(*arguments, seed=seed)

    def call(*arguments, seed):
        try:
            return with_or_without(*arguments, seed=seed)
        except (TypeError, ValueError) as error:
            if seed is not None or not accepts or "None values not supported" not in str(error):
                raise
            explained = type(error)(
                "`loss_fn` takes a `seed` and was given None, since no `seed` was passed: pass seed=1, or any other "
                f"seed, beside `loss_fn`. TensorFlow says: {error}"
            )
            # With the line of the user's, for the sake of a tf.function, which drops causes.
            raise explained.with_traceback(error.__traceback__) from error

    return call
