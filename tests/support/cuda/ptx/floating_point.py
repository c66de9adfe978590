"""Arithmetic of float16, float32 and float64, rounded once to nearest, and comparisons."""

from __future__ import annotations

import numpy as np

from .decoding import is_half, opcode
from .float_rounding import (
    bfloat16_to_float32,
    canonical_nan,
    flush,
    fma16,
    fma32,
    fma64,
    larger,
    saturated,
    smaller,
)
from .integers import ARITHMETIC as INTEGER_ARITHMETIC
from .integers import decode_mad
from .syntax import Pair
from .types import PREDICATE


def _decode_float(code, function, *words):
    """+, *, ... of floats: `function` in the type, halves in float64, which holds their exact result."""
    words = code.only("rn", "ftz", "sat", *words)
    code.expect("f16", "f32", "f64")
    if "ftz" in words and code.type.name == "f64" and "approx" not in words:
        raise code.unknown("modifier")
    half, dtype = is_half(code.type), code.type.dtype
    ftz, saturates = "ftz" in words, "sat" in words

    def rounded(*values):
        if ftz:
            values = [flush(x) for x in values]
        if half:
            values = [x.astype(np.float64) for x in values]
        result = canonical_nan(function(*values).astype(dtype, copy=False))
        if ftz:
            result = flush(result)
        return saturated(result) if saturates else result

    return code.compute(rounded)


_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@opcode("add", "sub", "mul")
def _add_sub_mul(code):
    code.count(3)
    name = code.instruction.opcode
    if code.type.is_integer:
        return INTEGER_ARITHMETIC[name](code)
    return _decode_float(code, _ARITHMETIC[name])


@opcode("fma")
def _fma(code):
    code.count(4)
    # There is no default rounding of fma.
    if "rn" not in code.modifiers:
        raise code.unknown("rounding")
    words = code.only("rn", "ftz", "sat")
    if is_half(code.type) and not words[1:]:
        return code.compute(lambda a, b, c: canonical_nan(fma16(a, b, c)))
    return _decode_float(code, fma64 if code.type.name == "f64" else fma32)


@opcode("mad")
def _mad(code):
    code.count(4)
    return decode_mad(code) if code.type.is_integer else _fma(code)


def _decode_rounded_or_approximate(code, exact, approximate, *words):
    """div, rcp, sqrt: `.rn` is exact; `.approx` and `.full` only where the launch allows them."""
    if "rn" in code.modifiers:
        return _decode_float(code, exact)
    if not {"approx", "full"} & set(code.modifiers):
        raise code.unknown("rounding")
    check, execute = code.approximation(), _decode_float(code, approximate, "approx", "full", *words)

    def checked(run, active):
        check(run)
        execute(run, active)

    return checked


@opcode("div")
def _div(code):
    code.count(3)
    if code.type.is_integer:
        return INTEGER_ARITHMETIC["div"](code)
    return _decode_rounded_or_approximate(code, np.divide, np.divide)


def _reciprocal(a):
    return a.dtype.type(1) / a


def gross_reciprocal(a):
    """rcp.approx.ftz.f64 as the PTX manual has it: the reciprocal of the upper 32 bits, of which the upper 32. Which
    of the nearby values hardware gives in these is not documented; software that uses it refines it."""
    upper = np.uint64(0xFFFFFFFF00000000)
    a = (flush(a).view(np.uint64) & upper).view(np.float64)
    r = 1.0 / a
    nearest = ((r.view(np.uint64) + np.uint64(0x80000000)) & upper).view(np.float64)
    return flush(np.where(np.isfinite(r), nearest, r))


@opcode("rcp")
def _rcp(code):
    code.count(2)
    if code.type.name == "f64" and "rn" not in code.modifiers:
        if code.modifiers != ("approx", "ftz", "f64"):
            raise code.unknown("modifier")
        check, execute = code.approximation(), code.compute(gross_reciprocal)

        def checked(run, active):
            check(run)
            execute(run, active)

        return checked
    return _decode_rounded_or_approximate(code, _reciprocal, _reciprocal)


@opcode("sqrt")
def _sqrt(code):
    code.count(2)
    return _decode_rounded_or_approximate(code, np.sqrt, np.sqrt)


def _in_double(function):
    return lambda a: function(a.astype(np.float64)).astype(a.dtype)


_APPROXIMATE = {
    "rsqrt": _in_double(lambda a: 1 / np.sqrt(a)),
    "ex2": _in_double(np.exp2),
    "lg2": _in_double(np.log2),
    "sin": _in_double(np.sin),
    "cos": _in_double(np.cos),
    "tanh": _in_double(np.tanh),
}


@opcode(*_APPROXIMATE)
def _approximate(code):
    code.count(2)
    if "approx" not in code.modifiers:
        raise code.unknown("rounding")
    function = _APPROXIMATE[code.instruction.opcode]
    return _decode_rounded_or_approximate(code, function, function)


@opcode("min", "max")
def _min_max(code):
    code.count(3)
    name = code.instruction.opcode
    if code.type.is_integer:
        return INTEGER_ARITHMETIC[name](code)
    choose = smaller if name == "min" else larger
    if "NaN" not in code.modifiers:
        return _decode_float(code, choose)

    def or_nan(a, b):
        return np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), choose(a, b))

    return _decode_float(code, or_nan, "NaN")


@opcode("neg", "abs")
def _neg_abs(code):
    code.count(2)
    name = code.instruction.opcode
    if code.type.is_integer:
        return INTEGER_ARITHMETIC[name](code)
    code.expect("f16", "f32", "f64")
    ftz = "ftz" in code.only("ftz")
    sign = np.array([1 << (code.type.bits - 1)], np.uint64).astype(f"u{code.type.size}")

    def change(a):
        bits = (flush(a) if ftz else a).view(sign.dtype)
        return (bits ^ sign if name == "neg" else bits & ~sign).view(a.dtype)

    return code.compute(change)


@opcode("copysign")
def _copysign(code):
    code.count(3)
    code.only()
    code.expect("f32", "f64")
    return code.compute(lambda sign, magnitude: np.copysign(magnitude, sign))


_TESTS = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda a: ~np.isnan(a),
    "notanumber": np.isnan,
    "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
    "subnormal": lambda a: (np.abs(a) < np.finfo(a.dtype).tiny) & (a != 0),
}


@opcode("testp")
def _testp(code):
    code.count(2)
    code.expect("f32", "f64")
    words = code.only(*_TESTS)
    return code.compute(_TESTS[words[0]], code.type, PREDICATE)


_ORDERED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMBINED = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _comparison(code, name):
    """A function of two arrays: ordered comparisons are false for NaN, those with u true."""
    if code.type.is_integer:
        name = _UNSIGNED.get(name, name) if code.type.kind != "signed" else name
        if name not in _ORDERED or (code.type.kind == "bits" and name not in ("eq", "ne")):
            raise code.unknown("comparison")
        return _ORDERED[name]

    def nan(a, b):
        return np.isnan(a) | np.isnan(b)

    if name == "nan":
        return nan
    if name == "num":
        return lambda a, b: ~nan(a, b)
    if name in _ORDERED:
        # NumPy's comparisons are false for NaN, but for !=.
        return (lambda a, b: (a != b) & ~nan(a, b)) if name == "ne" else _ORDERED[name]
    if name.endswith("u") and name[:-1] in _ORDERED:
        ordered = _ORDERED[name[:-1]]
        return lambda a, b: ordered(a, b) | nan(a, b)
    raise code.unknown("comparison")


@opcode("setp")
def _setp(code):
    code.count(3, 4)
    name, *words = code.only(*_ORDERED, *_UNSIGNED, *(f"{x}u" for x in _ORDERED), "nan", "num", *_COMBINED, "ftz")
    if code.type.kind == "bfloat":
        test = _comparison(code, name)

        def compare(a, b):
            return test(bfloat16_to_float32(a), bfloat16_to_float32(b))
    else:
        compare = _comparison(code, name)
    ftz = "ftz" in words
    combine = [_COMBINED[x] for x in words if x in _COMBINED]
    if len(combine) != len(code.operands) - 3 or (ftz and code.type.name != "f32"):
        raise code.unknown("modifier")
    target = code.operands[0]
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, None)
    if second is not None and code.type.name in ("f16", "bf16"):
        raise code.unknown("result")
    read_a, read_b = code.read(1), code.read(2)
    write = code.write(first, PREDICATE)
    write_second = None if second is None else code.write(second, PREDICATE)
    read_c = code.read(3, PREDICATE) if combine else None

    def execute(run, active):
        a, b = read_a(run, active), read_b(run, active)
        if ftz:
            a, b = flush(a), flush(b)
        result = compare(a, b)
        inverse = ~result
        if combine:
            c = read_c(run, active)
            result, inverse = combine[0](result, c), combine[0](inverse, c)
        write(run, active, result)
        if write_second:
            write_second(run, active, inverse)

    return execute
