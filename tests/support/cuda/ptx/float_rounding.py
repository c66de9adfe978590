"""Floating-point operations that NumPy does not have, rounded once to nearest, ties to even, as PTX does.

NumPy's own +, -, *, / and sqrt are correctly rounded, in a thread that does not flush denormals: TensorFlow's threads
do, so interpreted kernels run in the `default_environment`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from contextlib import contextmanager
from fractions import Fraction

import numpy as np

_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_SPLITTER = np.float64(2**27 + 1)
# An operand this many powers of two below the other only says on which side of it the sum is.
_FAR = 130
CANONICAL_NAN32 = np.array([0x7FFFFFFF], np.uint32).view(np.float32)
CANONICAL_NAN16 = np.array([0x7FFF], np.uint16).view(np.float16)


@contextmanager
def default_environment():
    """Rounding to nearest, with denormals, in this thread; afterwards whatever was set before."""
    saved = ctypes.create_string_buffer(64)
    _LIBM.fegetenv(saved)
    _LIBM.fesetenv(ctypes.c_void_p(-1))
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _LIBM.fesetenv(saved)


def bfloat16_to_float32(bits):
    """bfloat16, given as its bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bfloat16(x):
    """The bits of the nearest bfloat16."""
    u = x.view(np.uint32)
    rounded = ((u + (np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def flush(x):
    """Denormals become zeros of their sign."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def saturated(x):
    """In [0, 1]; NaN and -0 are +0."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    return np.where(x > zero, np.minimum(x, one), zero)


def two_sum(a, b):
    """The rounded sum and its error, exactly, without overflow."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def to_odd(s, error):
    """A rounded double and the error of it, as the double rounded to odd: what is rounded again is then as if rounded
    once, if it has two digits less."""
    bits = s.view(np.int64)
    fix = np.isfinite(s) & (error != 0) & ((bits & 1) == 0)
    return np.where(fix, (bits + np.where((error > 0) == (s > 0), 1, -1)).view(np.float64), s)


def fma32(a, b, c):
    """a b + c of float32. The product is exact in double."""
    p, c = np.broadcast_arrays(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
    return to_odd(*two_sum(p, c)).astype(np.float32)


def fma16(a, b, c):
    """a b + c of float16."""
    p, c = np.broadcast_arrays(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
    return to_odd(*two_sum(p, c)).astype(np.float16)


def _two_product(a, b):
    """The rounded product and its error, exactly, of doubles far from overflow and underflow (Dekker, Veltkamp)."""

    def split(x):
        t = _SPLITTER * x
        high = t - (t - x)
        return high, x - high

    p = a * b
    (ah, al), (bh, bl) = split(a), split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _fma_of_moderate(a, b, c):
    """a b + c of doubles whose exponents cancel no digit by over- or underflow: Boldo & Melquiond, 2008, emulation of
    a fused multiply-add by rounding to odd."""
    uh, ul = _two_product(a, b)
    th, tl = two_sum(c, ul)
    vh, vl = two_sum(uh, th)
    return vh + to_odd(*two_sum(tl, vl))


def fma64(a, b, c):
    """a b + c of float64."""
    a, b, c = np.broadcast_arrays(a, b, c)
    ma, ea = np.frexp(a)
    mb, eb = np.frexp(b)
    mc, ec = np.frexp(c)
    exponent = ea.astype(np.int64) + eb
    special = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)) | (a == 0) | (b == 0) | (c == 0)
    # Powers of two are taken out, so that the exact method works on numbers near 1.
    apart = np.where(special, 0, ec - exponent)
    scaled = _fma_of_moderate(
        np.where(special, 0.5, ma), np.where(special, 0.5, mb), np.ldexp(np.where(special, 0.5, mc), _clamp(apart))
    )
    # Where c is far larger than the product, the sum in its scale instead.
    far = apart > _FAR
    if far.any():
        exponent = np.where(far, ec - _FAR, exponent)
    result = np.ldexp(scaled, _clamp_exponent(exponent))
    # The exact product is never infinite and never rounds to 0 before c is added.
    product = a * b
    simple = np.where((c == 0) & (a != 0) & (b != 0), product, product + c)
    simple = np.where(np.isfinite(a) & np.isfinite(b) & ~np.isfinite(c), c, simple)
    result = np.where(special, simple, result)
    # A denormal result is rounded to fewer digits than `scaled` has, which would be a second rounding.
    twice = ~special & (np.abs(result) < 2.0**-1021) & (scaled != 0)
    for i in np.flatnonzero(twice):
        result.flat[i] = nearest_double(
            Fraction(float(a.flat[i])) * Fraction(float(b.flat[i])) + Fraction(float(c.flat[i]))
        )
    return result


def _clamp(apart):
    return np.clip(apart, -_FAR, _FAR).astype(np.int32)


def _clamp_exponent(exponent):
    return np.clip(exponent, -5000, 5000).astype(np.int32)


def nearest_double(exact):
    """The double nearest to a fraction that is not 0, however small."""
    value = exact.numerator / exact.denominator if abs(exact) < 2**1024 else np.inf if exact > 0 else -np.inf
    return value


def canonical_nan(x):
    """float32 and float16 results that are NaN have one bit pattern on a GPU."""
    if x.dtype == np.float64:
        return x
    nan = np.isnan(x)
    return np.where(nan, CANONICAL_NAN32 if x.dtype == np.float32 else CANONICAL_NAN16, x) if nan.any() else x


def smaller(a, b):
    """The smaller one; the number if the other is NaN; -0 is smaller than +0."""
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), a, b), np.fmin(a, b))


def larger(a, b):
    """The larger one; the number if the other is NaN; +0 is larger than -0."""
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), b, a), np.fmax(a, b))
