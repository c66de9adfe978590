"""cvt, between all types that a compiler converts."""

from __future__ import annotations

import itertools
import math

from tests.support.cuda import exact_floats
from tests.support.cuda.exact_floats import FORMATS
from tests.support.cuda.ptx_snippets import Snippet

from .integers import INTEGER_TYPES, bits_of, number, values_of, wrapped
from .values import drawn_floats, drawn_integers, float_edges, integer_edges

_ROUND = {"rzi": math.trunc, "rni": round, "rmi": math.floor, "rpi": math.ceil}


def _range(kind):
    bits = bits_of(kind)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)


def _clamped(kind, value):
    low, high = _range(kind)
    return wrapped(kind, min(max(value, low), high))


_INTEGER_TO_INTEGER = [
    Snippet(
        f"cvt.{target}.{source}",
        f"cvt.{target}.{source} %d, %a;",
        (source,),
        (target,),
        values_of(source),
        lambda a, target=target, source=source: wrapped(target, number(source, a)),
    )
    for target, source in itertools.product(INTEGER_TYPES, INTEGER_TYPES)
    if target != source
]
_SATURATED = [
    Snippet(
        f"cvt.sat.{target}.{source}",
        f"cvt.sat.{target}.{source} %d, %a;",
        (source,),
        (target,),
        values_of(source),
        lambda a, target=target, source=source: _clamped(target, number(source, a)),
    )
    for target, source in (
        ("u16", "s32"),
        ("s16", "u32"),
        ("s32", "s64"),
        ("u32", "s64"),
        ("s32", "u64"),
        ("s16", "s32"),
    )
]
# Registers of 16 bits and more hold narrower integers.
_NARROW = [
    Snippet(
        f"cvt.{target}.{source} in wider registers",
        f"cvt.{target}.{source} %d, %a;",
        (register,),
        (result,),
        values_of(register),
        lambda a, t=target, s=source, r=result: wrapped(r, number(t, wrapped(t, number(s, wrapped(s, a))))),
    )
    for target, source, register, result in (
        ("u32", "u8", "u16", "u32"),
        ("s32", "s8", "u16", "s32"),
        ("u16", "u8", "u32", "u16"),
        ("u8", "u32", "u32", "u16"),
        ("s8", "s32", "s32", "s16"),
        ("u64", "u16", "u32", "u64"),
        ("s16", "s8", "u32", "s16"),
    )
]


def _around_integers(kind):
    """Floats near the limits of the integers, and halves, whose rounding is a tie."""

    def values():
        form = FORMATS[kind]
        found = float_edges(kind) + drawn_floats(kind, 300, 5)
        for value in (0.5, 1.5, 2.5, 3.7, 127.5, 255.5, 32767.5, 65535.5):
            found += [form.round(exact_floats.Fraction(value) * sign) for sign in (1, -1)]
        for bits in (8, 15, 16, 31, 32, 63, 64):
            near = form.round(exact_floats.Fraction(2) ** bits)
            found += [x | sign for x in (near - 1, near, near + 1) for sign in (0, form.sign_bit)]
        return [[min(x, 2**form.bits - 1) for x in found]]

    return values


def _to_integer(target, source, rounding, bits):
    form = FORMATS[source]
    if form.is_nan(bits):
        return 1 << bits_of(target) - 1 if 64 in (bits_of(target), form.bits) else 0
    low, high = _range(target)
    if form.is_infinite(bits):
        return wrapped(target, low if form.is_negative(bits) else high)
    return _clamped(target, _ROUND[rounding](form.fraction(bits)))


_FLOAT_TO_INTEGER = [
    Snippet(
        f"cvt.{rounding}.{target}.{source}",
        f"cvt.{rounding}.{target}.{source} %d, %a;",
        (source,),
        (target,),
        _around_integers(source),
        lambda a, target=target, source=source, rounding=rounding: _to_integer(target, source, rounding, a),
    )
    for rounding, target, source in itertools.product(_ROUND, INTEGER_TYPES, ("f16", "f32", "f64"))
    if rounding == "rzi" or (bits_of(target) > 16 and source != "f16")
]
_INTEGER_TO_FLOAT = [
    Snippet(
        f"cvt.rn.{target}.{source}",
        f"cvt.rn.{target}.{source} %d, %a;",
        (source,),
        (target,),
        # Neighbours of ties, and drawn numbers of all lengths.
        lambda source=source: [
            [
                wrapped(source, x + y)
                for x in [*integer_edges(bits_of(source)), *drawn_integers(bits_of(source), 300, 9), 1 << 25, 3 << 24]
                for y in (-1, 0, 1)
            ]
        ],
        lambda a, target=target, source=source: FORMATS[target].round(exact_floats.Fraction(number(source, a))),
    )
    for target, source in itertools.product(("f16", "f32", "f64"), INTEGER_TYPES)
]


def _ties(target, source):
    """Numbers of the source half way between two of the target, and next to them."""

    def values():
        narrow, wide = FORMATS[target], FORMATS[source]
        found = float_edges(source) + drawn_floats(source, 400, 7)
        for bits in [*float_edges(target), *drawn_floats(target, 200, 8)]:
            if narrow.is_nan(bits) or narrow.is_infinite(bits):
                continue
            lower = narrow.fraction(bits)
            step = narrow.fraction(bits & ~narrow.sign_bit | 1) - narrow.fraction(bits & ~narrow.sign_bit & ~1)
            half = wide.round(lower + step / 2)
            found += [half, max(half - 1, 0), half + 1, wide.round(lower)]
        return [found]

    return values


def _to_float(target, source, bits):
    narrow, wide = FORMATS[target], FORMATS[source]
    if wide.is_nan(bits):
        return narrow.nan
    sign = narrow.sign_bit if wide.is_negative(bits) else 0
    if wide.is_infinite(bits):
        return narrow.infinity | sign
    return narrow.round(wide.fraction(bits), bool(sign))


def _to_float_row(name, target, source, reference):
    values = _ties(target, source) if FORMATS[target].bits < FORMATS[source].bits else lambda: [float_edges(source)]
    nan = FORMATS[target].is_nan if target == "f64" else lambda bits: False
    return Snippet(name, f"{name} %d, %a;", (source,), (target,), values, reference, nan)


def _towards_zero(a):
    """float64 as float32, cut off."""
    near, narrow, wide = _to_float("f32", "f64", a), FORMATS["f32"], FORMATS["f64"]
    if narrow.is_nan(near) or wide.is_infinite(a):
        return near
    beyond = narrow.is_infinite(near) or abs(narrow.fraction(near)) > abs(wide.fraction(a))
    return near - 1 if beyond else near


def _to_integral(kind, rounding, bits):
    """A float rounded to an integer that is a float; zeros keep their sign."""
    form = FORMATS[kind]
    if form.is_nan(bits):
        return form.nan
    if form.is_infinite(bits):
        return bits
    return form.round(exact_floats.Fraction(_ROUND[rounding](form.fraction(bits))), form.is_negative(bits))


_FLOAT_TO_FLOAT = [
    *(
        _to_float_row(
            f"cvt.{'rn.' if FORMATS[target].bits < FORMATS[source].bits else ''}{target}.{source}",
            target,
            source,
            lambda a, target=target, source=source: _to_float(target, source, a),
        )
        for target, source in (
            ("f16", "f32"),
            ("f16", "f64"),
            ("bf16", "f32"),
            ("f32", "f64"),
            ("f32", "f16"),
            ("f32", "bf16"),
            ("f64", "f16"),
            ("f64", "f32"),
        )
    ),
    *(
        _to_float_row(
            f"cvt.{rounding}.{kind}.{kind}",
            kind,
            kind,
            lambda a, kind=kind, rounding=rounding: _to_integral(kind, rounding, a),
        )
        for rounding in _ROUND
        for kind in ("f32", "f64")
    ),
    _to_float_row("cvt.rz.f32.f64", "f32", "f64", _towards_zero),
    _to_float_row("cvt.sat.f32.f32", "f32", "f32", lambda a: exact_floats.saturate(FORMATS["f32"], a)),
    _to_float_row("cvt.rn.ftz.f32.f64", "f32", "f64", lambda a: FORMATS["f32"].flush(_to_float("f32", "f64", a))),
    _to_float_row("cvt.ftz.f64.f32", "f64", "f32", lambda a: _to_float("f64", "f32", FORMATS["f32"].flush(a))),
]

CONVERSIONS = [
    *_INTEGER_TO_INTEGER,
    *_SATURATED,
    *_NARROW,
    *_FLOAT_TO_INTEGER,
    *_INTEGER_TO_FLOAT,
    *_FLOAT_TO_FLOAT,
]
