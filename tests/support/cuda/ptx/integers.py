"""Integer arithmetic: it wraps around, and is exact in 64 bits."""

from __future__ import annotations

import numpy as np

from .decoding import opcode
from .errors import PTXError
from .types import SIGNED, TYPES, UNSIGNED


def _magnitude(a):
    """|a| as unsigned; the smallest number has one too."""
    bits = a.view(f"u{a.dtype.itemsize}")
    return np.where(a < 0, ~bits + bits.dtype.type(1), bits)


def _refuse_zero(b):
    if (bad := b == 0).any():
        error = PTXError("integer division by zero, whose result PTX leaves open")
        error.first = int(np.argmax(bad))
        raise error


def divide(a, b):
    """The quotient, rounded towards zero."""
    _refuse_zero(b)
    if a.dtype.kind == "u":
        return a // b
    q = _magnitude(a) // _magnitude(b)
    return np.where((a < 0) ^ (b < 0), ~q + q.dtype.type(1), q).view(a.dtype)


def remainder(a, b):
    """The remainder of `divide`, of the sign of a."""
    return a - divide(a, b) * b


def _upper_unsigned(a, b):
    """The upper 64 bits of the product of two u64."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    al, ah, bl, bh = a & low, a >> half, b & low, b >> half
    middle = ah * bl + (al * bl >> half)
    other = al * bh + (middle & low)
    return ah * bh + (middle >> half) + (other >> half)


def upper_half(a, b):
    """The upper half of the product."""
    bits = a.dtype.itemsize * 8
    if bits < 64:
        wide = (SIGNED if a.dtype.kind == "i" else UNSIGNED)[2 * bits]
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    ua, ub = a.view(np.uint64), b.view(np.uint64)
    upper = _upper_unsigned(ua, ub)
    if a.dtype.kind == "i":
        # a = ua - 2^64 where a is negative.
        upper = upper - np.where(a < 0, ub, np.uint64(0)) - np.where(b < 0, ua, np.uint64(0))
    return upper.view(a.dtype)


def _product(code):
    """What of the product a multiplication takes, and the type that it has."""
    words = code.only("lo", "hi", "wide")
    code.expect("u16", "s16", "u32", "s32", "u64", "s64")
    if len(words) != 1:
        raise code.unknown("modifier")
    kind = code.type
    if words[0] == "lo":
        return np.multiply, kind
    if words[0] == "hi":
        return upper_half, kind
    if kind.bits == 64:
        raise code.unknown("type")
    wide = (SIGNED if kind.is_signed else UNSIGNED)[2 * kind.bits]
    return (lambda a, b: a.astype(wide) * b.astype(wide)), TYPES[f"{kind.name[0]}{2 * kind.bits}"]


def _decode_mul(code):
    product, kind = _product(code)
    return code.compute(product, code.type, kind)


def decode_mad(code):
    """a b + c, of which c and the result are wide in mad.wide."""
    product, kind = _product(code)
    a, b, c, write = code.read(1), code.read(2), code.read(3, kind), code.write(0, kind)
    return lambda run, active: write(run, active, product(a(run, active), b(run, active)) + c(run, active))


def _plain(function):
    def decode(code):
        code.only()
        code.expect("u16", "s16", "u32", "s32", "u64", "s64")
        return code.compute(function)

    return decode


def _of_signed(function):
    def decode(code):
        code.only()
        code.expect("s16", "s32", "s64")
        return code.compute(function)

    return decode


@opcode("rem")
def _rem(code):
    code.count(3)
    return _plain(remainder)(code)


# What floating_point.py, where the opcodes are shared, hands on.
ARITHMETIC = {
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _decode_mul,
    "div": _plain(divide),
    "min": _plain(np.minimum),
    "max": _plain(np.maximum),
    "neg": _of_signed(np.negative),
    "abs": _of_signed(np.abs),
}
