"""Integer arithmetic and comparison, on Python's integers."""

from __future__ import annotations

from tests.support.cuda.ptx_snippets import Snippet

from .floats import COMPARISONS
from .values import crossed, drawn_integers, integer_edges, joined

INTEGER_TYPES = [f"{sign}{bits}" for bits in (16, 32, 64) for sign in "us"]


def bits_of(kind):
    """The width of a type."""
    return int(kind.lstrip("usbf"))


def number(kind, bits):
    """The integer that bits stand for."""
    width = bits_of(kind)
    return bits - (1 << width) if kind[0] == "s" and bits >> (width - 1) else bits


def wrapped(kind, value):
    """The bits of an integer, of which those that are too high are lost."""
    return value % (1 << bits_of(kind))


def values_of(*kinds, nonzero=None):
    """All combinations of edges, and drawn numbers; the input `nonzero` is never 0."""

    def values():
        edges = [integer_edges(bits_of(kind)) for kind in kinds]
        if len(kinds) > 2:
            edges = [column[::2] for column in edges]
        columns = joined(crossed(*edges), [drawn_integers(bits_of(kind), 400, i) for i, kind in enumerate(kinds)])
        if nonzero is not None:
            columns[nonzero] = [x or 1 for x in columns[nonzero]]
        return columns

    return values


def _row(instruction, inputs, output, operation, nonzero=None):
    """`operation` is of Python integers."""
    operands = ", ".join(["%d", "%a", "%b", "%c"][: len(inputs) + 1])
    return Snippet(
        instruction,
        f"{instruction} {operands};",
        inputs,
        (output,),
        values_of(*inputs, nonzero=nonzero),
        lambda *bits: wrapped(output, operation(*(number(k, x) for k, x in zip(inputs, bits, strict=True)))),
    )


def _truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "min": min,
    "max": max,
    "mul.lo": lambda a, b: a * b,
}
_DIVISION = {"div": _truncated, "rem": lambda a, b: a - _truncated(a, b) * b}
_ALU = [
    *(_row(f"{op}.{kind}", (kind,) * 2, kind, f) for op, f in _BINARY.items() for kind in INTEGER_TYPES),
    *(_row(f"{op}.{kind}", (kind,) * 2, kind, f, nonzero=1) for op, f in _DIVISION.items() for kind in INTEGER_TYPES),
    *(_row(f"neg.{kind}", (kind,), kind, lambda a: -a) for kind in ("s16", "s32", "s64")),
    *(_row(f"abs.{kind}", (kind,), kind, abs) for kind in ("s16", "s32", "s64")),
]


def _wide(kind):
    return f"{kind[0]}{2 * bits_of(kind)}"


_PRODUCTS = [
    *(
        _row(f"mul.hi.{kind}", (kind,) * 2, kind, lambda a, b, kind=kind: a * b >> bits_of(kind))
        for kind in INTEGER_TYPES
    ),
    *(_row(f"mul.wide.{kind}", (kind,) * 2, _wide(kind), lambda a, b: a * b) for kind in INTEGER_TYPES[:4]),
    *(_row(f"mad.lo.{kind}", (kind,) * 3, kind, lambda a, b, c: a * b + c) for kind in INTEGER_TYPES),
    *(
        _row(f"mad.hi.{kind}", (kind,) * 3, kind, lambda a, b, c, kind=kind: (a * b >> bits_of(kind)) + c)
        for kind in INTEGER_TYPES
    ),
    *(
        _row(f"mad.wide.{kind}", (kind, kind, _wide(kind)), _wide(kind), lambda a, b, c: a * b + c)
        for kind in INTEGER_TYPES[:4]
    ),
]

_UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


def _compare(kind, name, a, b):
    holds = COMPARISONS[_UNSIGNED_NAMES.get(name, name)](number(kind, a), number(kind, b))
    return int(holds), int(not holds)


def _comparison_types(name):
    if name in _UNSIGNED_NAMES:
        return ["u16", "u32", "u64"]
    return INTEGER_TYPES + (["b16", "b32", "b64"] if name in ("eq", "ne") else [])


_COMPARED = [
    Snippet(
        f"setp.{name}.{kind}",
        f"setp.{name}.{kind} %d|%e, %a, %b;",
        (kind, kind),
        ("pred", "pred"),
        values_of(kind, kind),
        lambda a, b, kind=kind, name=name: _compare(kind, name, a, b),
    )
    for name in [*COMPARISONS, *_UNSIGNED_NAMES]
    for kind in _comparison_types(name)
]
_COMBINE = {"and": lambda x, c: x & c, "or": lambda x, c: x | c, "xor": lambda x, c: x ^ c}
_COMBINED = [
    Snippet(
        f"setp.lt.{op}.s32 with {name}",
        f"setp.lt.{op}.s32 %d|%e, %a, %b, {name};",
        ("s32", "s32", "pred"),
        ("pred", "pred"),
        lambda: joined(crossed(integer_edges(32), integer_edges(32), [0, 1])),
        lambda a, b, c, f=f, invert=invert: (
            f(int(number("s32", a) < number("s32", b)), c ^ invert),
            f(int(number("s32", a) >= number("s32", b)), c ^ invert),
        ),
    )
    for op, f in _COMBINE.items()
    for name, invert in (("%c", 0), ("!%c", 1))
]

# A constant has the type of the instruction.
_CONSTANTS = {"s32": "-8388608", "u32": "0xFFFFFFFF", "s64": "-9223372036854775808", "u16": "7U"}
_WITH_CONSTANTS = [
    Snippet(
        f"add.{kind} with {constant}",
        f"add.{kind} %d, %a, {constant};",
        (kind,),
        (kind,),
        values_of(kind),
        lambda a, kind=kind, constant=constant: wrapped(kind, a + int(constant.rstrip("U"), 0)),
    )
    for kind, constant in _CONSTANTS.items()
]

INTEGERS = [*_ALU, *_PRODUCTS, *_COMPARED, *_COMBINED, *_WITH_CONSTANTS]
