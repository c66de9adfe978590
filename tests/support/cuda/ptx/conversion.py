"""cvt: between all integers and floats, in the roundings that compilers emit."""

from __future__ import annotations

import numpy as np

from .decoding import opcode
from .float_rounding import bfloat16_to_float32, canonical_nan, float32_to_bfloat16, flush, saturated
from .types import TYPES

_TO_INTEGER = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


def float_to_integer(x, target, source):
    """An integral float as an integer, the nearest one where it is out of range.

    NaN is 0, or, from or to 64 bits, only the highest bit.
    """
    limits = np.iinfo(target.dtype)
    # The upper limit plus one is a power of two, which every float type but float16 holds.
    x = x.astype(np.float64)
    above, below = x >= float(limits.max) + (target.bits < 64), x < float(limits.min)
    inside = np.where(above | below | np.isnan(x), 0.0, x)
    result = inside.astype(np.int64).astype(target.dtype) if limits.max < 2**63 else inside.astype(target.dtype)
    result = np.where(above, target.dtype.type(limits.max), np.where(below, target.dtype.type(limits.min), result))
    wide = source.bits == 64 or target.bits == 64
    nan = np.array([1 << (target.bits - 1) if wide else 0], np.uint64).astype(f"u{target.size}").view(target.dtype)
    return np.where(np.isnan(x), nan, result)


def _saturated_integer(x, target):
    """An integer in the nearest of the target's."""
    limits = np.iinfo(target.dtype)
    own = np.iinfo(x.dtype)
    low, high = max(limits.min, own.min), min(limits.max, own.max)
    return np.clip(x, x.dtype.type(low), x.dtype.type(high)).astype(target.dtype)


@opcode("cvt")
def _cvt(code):
    code.count(2)
    if len(code.modifiers) < 2 or code.modifiers[-2] not in TYPES:
        raise code.unknown("type")
    target, source = TYPES[code.modifiers[-2]], TYPES[code.modifiers[-1]]
    words = code.only("rn", "rz", "ftz", "sat", *_TO_INTEGER, types=2)
    roundings = [x for x in words if x not in ("ftz", "sat")]
    convert = _conversion(code, target, source, roundings, "sat" in words)
    if "ftz" in words:
        convert = _flushed(code, convert, target, source)
    read, write = code.read(1, source, wider=source.is_integer), code.write(0, target)
    return lambda run, active: write(run, active, convert(read(run, active)))


def _flushed(code, convert, target, source):
    if "f32" not in (target.name, source.name):
        raise code.unknown("modifier")

    def flushed(x):
        result = convert(flush(x) if source.name == "f32" else x)
        return flush(result) if target.name == "f32" else result

    return flushed


def _conversion(code, target, source, roundings, saturate):
    if source.is_integer and target.is_integer:
        if roundings or "bits" in (source.kind, target.kind):
            raise code.unknown("modifier")
        return (lambda x: _saturated_integer(x, target)) if saturate else (lambda x: x.astype(target.dtype))
    if source.is_integer:
        if roundings != ["rn"] or saturate or target.name not in ("f16", "f32", "f64"):
            raise code.unknown("modifier")
        return lambda x: _integer_to_float(x, target)
    if target.is_integer:
        if len(roundings) != 1 or roundings[0] not in _TO_INTEGER or source.kind != "float":
            raise code.unknown("modifier")
        to_integral = _TO_INTEGER[roundings[0]]
        # Saturation of floats to integers is what happens anyway.
        return lambda x: float_to_integer(to_integral(x), target, source)
    return _float_to_float(code, target, source, roundings, saturate)


def _integer_to_float(x, target):
    if target.bits == 16:
        # Through float64, which holds all that is not infinite in float16; larger numbers round to infinity there too.
        return x.astype(np.float64).astype(np.float16)
    return x.astype(target.dtype)


def _float_to_float(code, target, source, roundings, saturate):
    convert = _unsaturated(code, target, source, roundings)
    if target.kind == "bfloat":
        if saturate:
            raise code.unknown("modifier")
        return convert
    if saturate:
        return lambda x: saturated(convert(x))
    return lambda x: canonical_nan(convert(x))


def _unsaturated(code, target, source, roundings):
    if target == source and target.kind == "float":
        if roundings not in ([], ["rzi"], ["rni"], ["rmi"], ["rpi"]):
            raise code.unknown("modifier")
        return _TO_INTEGER[roundings[0]] if roundings else lambda x: x
    if roundings == ["rz"] and (source.name, target.name) == ("f64", "f32"):
        return _towards_zero
    if roundings != (["rn"] if target.bits < source.bits else []):
        raise code.unknown("rounding")
    if "bfloat" in (target.kind, source.kind):
        if {target.name, source.name} != {"bf16", "f32"}:
            raise code.unknown("type")
        return float32_to_bfloat16 if target.kind == "bfloat" else bfloat16_to_float32
    return lambda x: x.astype(target.dtype)


def _towards_zero(x):
    near = x.astype(np.float32)
    beyond = np.abs(near.astype(np.float64)) > np.abs(x)
    return np.where(beyond & ~np.isinf(x), np.nextafter(near, np.float32(0)), near)
