"""float16 and bfloat16: every pattern is loaded exactly, and every float is stored as NumPy and ml_dtypes round it.

The rule `sgd` computes param - gradient * learning_rate in float32, so it can make any float of two halves and a rate.
"""

import ml_dtypes
import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import DTYPES, HALVES, assert_same_bits

every_half = pytest.mark.parametrize("dtype", HALVES)
every_isa = pytest.mark.parametrize("isa", _core.isas())


def every_pattern(dtype):
    return np.arange(1 << 16).astype(np.uint16).view(DTYPES[dtype])


def assert_rounds_like_numpy(params, gradients, rates, isa):
    for rate in rates:
        with np.errstate(all="ignore"):
            exact = params.astype(np.float32) - gradients.astype(np.float32) * np.float32(rate)
            expected = exact.astype(params.dtype)
        got = params.copy()
        _core.step("sgd", [got], [gradients], hyperparameters=[rate], isa=isa)
        assert_same_bits({"params": got}, {"params": expected}, f"{isa}, learning rate {float(rate).hex()}:")


def unit_in_the_last_place(values):
    limits = ml_dtypes.finfo(values.dtype)
    _, exponent = np.frexp(values.astype(np.float32))
    return np.ldexp(np.float32(1), np.maximum(exponent - 1, limits.minexp) - limits.nmant).astype(values.dtype)


@every_half
@every_isa
def test_every_pattern_survives_a_step_of_length_zero(dtype, isa):
    patterns = every_pattern(dtype)
    got = patterns.copy()
    _core.step("sgd", [got], [np.zeros_like(patterns)], hyperparameters=[0.0], isa=isa)
    assert_same_bits({"params": got}, {"params": patterns})


@every_half
@every_isa
def test_every_pattern_times_random_rates(dtype, isa):
    patterns = every_pattern(dtype)
    rng = np.random.default_rng(0)
    rates = rng.choice([-1, 1], 40) * 2 ** rng.uniform(-6, 6, 40)
    assert_rounds_like_numpy(np.zeros_like(patterns), patterns, rates, isa)


@every_half
@every_isa
def test_around_every_tie(dtype, isa):
    """Half a unit above and below every finite number, which are the ties, and a little to either side of them.

    Among these are the least number that overflows to infinity, and the largest that underflows to zero.
    """
    patterns = every_pattern(dtype)
    with np.errstate(invalid="ignore"):
        patterns = patterns[np.isfinite(patterns)]
    # Small enough to be well within a unit, large enough for float32 to hold the sum exactly.
    rates = [sign * (0.5 + offset) for sign in (-1, 1) for offset in (-(2.0**-12), 0, 2.0**-12)]
    assert_rounds_like_numpy(patterns, unit_in_the_last_place(patterns), rates, isa)


@every_half
@every_isa
def test_arbitrary_floats(dtype, isa):
    """Random patterns of 32 bits, and the floats at which a conversion changes from one case to another."""
    limits = ml_dtypes.finfo(DTYPES[dtype])
    edges = [0, limits.smallest_subnormal, limits.tiny, 1, limits.max, np.finfo(np.float32).max, np.inf, np.nan]
    edges = np.array([*edges, np.finfo(np.float32).tiny, np.finfo(np.float32).smallest_subnormal, 65520], np.float32)
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(edges, np.float32(to)) for to in (-np.inf, np.inf)]
    edges = np.concatenate([edges, *neighbours])
    # The NaN of which the arithmetic of rounding would make a zero: it carries into the sign.
    nans = np.array([0x7FFFFFFF], np.uint32).view(np.float32)
    random = np.random.default_rng(0).integers(0, 1 << 32, 3000, dtype=np.uint32).view(np.float32)
    # More than a vector of any instruction set, and a remainder.
    shape = np.ones(37, DTYPES[dtype])
    assert_rounds_like_numpy(shape * 0, -shape, np.concatenate([edges, -edges, nans, -nans, random]), isa)
