"""Binary floating point by fractions of Python integers: the reference of the interpreter's arithmetic.

A number is given and returned as its bits. Slow, and independent of NumPy and the processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Format:
    """`precision` counts the hidden bit. NaN results are `nan`; of float64 a GPU does not say which NaN they are."""

    bits: int
    precision: int
    nan: int

    @property
    def sign_bit(self):
        return 1 << (self.bits - 1)

    @property
    def infinity(self):
        return ((1 << (self.bits - self.precision)) - 1) << (self.precision - 1)

    @property
    def lowest_exponent(self):
        """Of the unit in the last place of denormal numbers."""
        return 3 - (1 << (self.bits - self.precision - 1)) - self.precision

    @property
    def smallest_normal(self):
        return 1 << (self.precision - 1)

    def is_nan(self, bits):
        return bits & ~self.sign_bit > self.infinity

    def is_infinite(self, bits):
        return bits & ~self.sign_bit == self.infinity

    def is_negative(self, bits):
        return bool(bits & self.sign_bit)

    def fraction(self, bits):
        """The value of a finite number."""
        exponent, mantissa = divmod(bits & ~self.sign_bit, self.smallest_normal)
        if exponent:
            mantissa, exponent = mantissa + self.smallest_normal, exponent - 1
        value = Fraction(mantissa) * Fraction(2) ** (exponent + self.lowest_exponent)
        return -value if self.is_negative(bits) else value

    def round(self, value, negative_zero=False):
        """The nearest number to a fraction, ties to even."""
        if value == 0:
            return self.sign_bit if negative_zero else 0
        magnitude = abs(value)
        # The exponent of the last place of a number with full precision, at least that of denormal ones.
        exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - self.precision - 1
        while magnitude >= Fraction(2) ** (exponent + self.precision):
            exponent += 1
        exponent = max(exponent, self.lowest_exponent)
        mantissa = round(magnitude / Fraction(2) ** exponent)
        bits = (exponent - self.lowest_exponent) * self.smallest_normal + mantissa
        return min(bits, self.infinity) | (self.sign_bit if value < 0 else 0)

    def flush(self, bits):
        """Denormal numbers as zeros of their sign."""
        return bits & self.sign_bit if bits & ~self.sign_bit < self.smallest_normal else bits


FORMATS = {
    "f16": Format(16, 11, 0x7FFF),
    "bf16": Format(16, 8, 0x7FFF),
    "f32": Format(32, 24, 0x7FFFFFFF),
    "f64": Format(64, 53, 0x7FFFFFFFFFFFFFFF),
}


def fma(form, a, b, c):
    """a b + c, rounded once."""
    if any(form.is_nan(x) for x in (a, b, c)):
        return form.nan
    negative = form.is_negative(a) != form.is_negative(b)
    if form.is_infinite(a) or form.is_infinite(b):
        if 0 in (a & ~form.sign_bit, b & ~form.sign_bit):
            return form.nan
        if form.is_infinite(c) and form.is_negative(c) != negative:
            return form.nan
        return form.infinity | (form.sign_bit if negative else 0)
    if form.is_infinite(c):
        return c
    product = form.fraction(a) * form.fraction(b)
    exact_zeros = product == 0 and form.fraction(c) == 0
    return form.round(product + form.fraction(c), exact_zeros and negative and form.is_negative(c))


def add(form, a, b):
    """a + b."""
    return fma(form, a, _one(form), b)


def subtract(form, a, b):
    """a - b."""
    return fma(form, a, _one(form), b ^ form.sign_bit)


def multiply(form, a, b):
    """a b."""
    negative = form.is_negative(a) != form.is_negative(b)
    return fma(form, a, b, form.sign_bit if negative else 0)


def divide(form, a, b):
    """a / b."""
    negative = form.is_negative(a) != form.is_negative(b)
    sign = form.sign_bit if negative else 0
    if form.is_nan(a) or form.is_nan(b) or (form.is_infinite(a) and form.is_infinite(b)):
        return form.nan
    if form.is_infinite(a):
        return form.infinity | sign
    if form.is_infinite(b):
        return sign
    if form.fraction(b) == 0:
        return form.nan if form.fraction(a) == 0 else form.infinity | sign
    return form.round(form.fraction(a) / form.fraction(b), negative)


def reciprocal(form, a):
    """1 / a."""
    return divide(form, _one(form), a)


def square_root(form, a):
    """The square root of a; NaN below zero."""
    if form.is_nan(a) or (form.is_negative(a) and a != form.sign_bit):
        return form.nan
    if a in (0, form.sign_bit, form.infinity):
        return a
    value = form.fraction(a)
    # The root of the value times 4^k, so large that the last digit of what is cut off is far below the rounding.
    k = 2 * form.precision + value.denominator.bit_length()
    scaled = value * 4**k
    root = math.isqrt(scaled.numerator // scaled.denominator)
    exact = Fraction(root * root) == scaled
    return form.round(Fraction(2 * root + (not exact), 2 ** (k + 1)))


def smaller(form, a, b):
    """The smaller one, of a number and NaN the number, of the zeros the negative one."""
    return _choose(form, a, b, False)


def larger(form, a, b):
    """The larger one, of a number and NaN the number, of the zeros the positive one."""
    return _choose(form, a, b, True)


def _choose(form, a, b, larger_one):
    if form.is_nan(a) or form.is_nan(b):
        return form.nan if form.is_nan(a) and form.is_nan(b) else a if form.is_nan(b) else b
    first, second = sorted((a, b), key=lambda x: order(form, x))
    return second if larger_one else first


def order(form, a):
    """Where a number that is not NaN stands; -0 before +0."""
    magnitude = a & ~form.sign_bit
    return -magnitude - 1 if form.is_negative(a) else magnitude


def or_nan(operation):
    """The operation, or NaN if one of the operands is."""
    return lambda form, a, b: form.nan if form.is_nan(a) or form.is_nan(b) else operation(form, a, b)


def saturate(form, a):
    """In [0, 1]; NaN is 0."""
    if form.is_nan(a) or form.is_negative(a):
        return 0
    return min(a, _one(form))


def _one(form):
    return form.round(Fraction(1))
