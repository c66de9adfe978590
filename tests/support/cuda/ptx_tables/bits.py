"""Operations on bits, and moves between registers."""

from __future__ import annotations

from tests.support.cuda.ptx_snippets import Snippet

from .integers import bits_of, number, values_of, wrapped
from .values import crossed, drawn_integers, integer_edges, joined

_WIDTHS = ("b16", "b32", "b64")


def _row(instruction, lines, inputs, outputs, reference, values=None):
    return Snippet(instruction, lines, inputs, outputs, values or values_of(*inputs), reference)


_LOGIC = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b}
_LOGICAL = [
    *(
        _row(f"{op}.{kind}", f"{op}.{kind} %d, %a, %b;", (kind,) * 2, (kind,), f)
        for op, f in _LOGIC.items()
        for kind in _WIDTHS
    ),
    *(
        _row(f"{op}.pred", f"{op}.pred %d, %a, %b;", ("pred",) * 2, ("pred",), f, lambda: crossed([0, 1], [0, 1]))
        for op, f in _LOGIC.items()
    ),
    *(
        _row(f"not.{kind}", f"not.{kind} %d, %a;", (kind,), (kind,), lambda a, kind=kind: wrapped(kind, ~a))
        for kind in _WIDTHS
    ),
    _row("not.pred", "not.pred %d, %a;", ("pred",), ("pred",), lambda a: 1 - a, lambda: [[0, 1]]),
]


def _shift_values(bits):
    counts = [0, 1, bits // 2, bits - 1, bits, bits + 1, 255, 256, 257, 2**31, 2**32 - 1]
    return lambda: crossed(integer_edges(bits), counts)


_SHIFTS = [
    *(
        _row(
            f"shl.{kind}",
            f"shl.{kind} %d, %a, %b;",
            (kind, "u32"),
            (kind,),
            lambda a, n, kind=kind: wrapped(kind, a << min(n, 64)),
            _shift_values(bits_of(kind)),
        )
        for kind in _WIDTHS
    ),
    *(
        _row(
            f"shr.{kind}",
            f"shr.{kind} %d, %a, %b;",
            (kind, "u32"),
            (kind,),
            lambda a, n, kind=kind: wrapped(kind, number(kind, a) >> min(n, 64)),
            _shift_values(bits_of(kind)),
        )
        for sign in "bus"
        for kind in (f"{sign}16", f"{sign}32", f"{sign}64")
    ),
]


def _funnel(direction, mode, low, high, count):
    count = count % 32 if mode == "wrap" else min(count, 32)
    both = high << 32 | low
    return (both << count >> 32 if direction == "l" else both >> count) % 2**32


_FUNNEL_SHIFTS = [
    _row(
        f"shf.{direction}.{mode}.b32",
        f"shf.{direction}.{mode}.b32 %d, %a, %b, %c;",
        ("b32", "b32", "u32"),
        ("b32",),
        lambda a, b, n, direction=direction, mode=mode: _funnel(direction, mode, a, b, n),
        lambda: crossed(integer_edges(32), integer_edges(32), [0, 1, 31, 32, 33, 63, 2**32 - 1]),
    )
    for direction in "lr"
    for mode in ("wrap", "clamp")
]


def _lop3(table, a, b, c):
    return sum((table >> ((a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)) & 1) << bit for bit in range(32))


_LOP3 = [
    _row(
        f"lop3.b32 {table:#x}",
        f"lop3.b32 %d, %a, %b, %c, {table:#x};",
        ("b32",) * 3,
        ("b32",),
        lambda a, b, c, table=table: _lop3(table, a, b, c),
        lambda: [drawn_integers(32, 150, seed) for seed in range(3)],
    )
    for table in (0, 0x01, 0x80, 0xE8, 0x96, 0xF8, 0xFF)
]


def _extract(kind, a, start, length):
    """As the PTX manual writes it."""
    width, start, length = bits_of(kind), start % 256, length % 256
    sign = 0 if kind[0] == "u" or length == 0 else a >> min(start + length - 1, width - 1) & 1
    result = 0
    for i in range(width):
        inside = i < length and start + i < width
        result |= (a >> (start + i) & 1 if inside else sign) << i
    return result


def _insert(kind, field, into, start, length):
    """As the PTX manual writes it."""
    start, length = start % 256, length % 256
    for i in range(length):
        if start + i < bits_of(kind):
            into = into & ~(1 << start + i) | (field >> i & 1) << start + i
    return into


def _field_values(bits, inputs):
    counts = [0, 1, 7, bits // 2, bits - 1, bits, bits + 1, 255, 256 + 3]
    edges = integer_edges(bits)[::3]
    return lambda: crossed(*[edges] * inputs, counts, counts)


_FIELDS = [
    *(
        _row(
            f"bfe.{kind}",
            f"bfe.{kind} %d, %a, %b, %c;",
            (kind, "u32", "u32"),
            (kind,),
            lambda a, start, length, kind=kind: _extract(kind, a, start, length),
            _field_values(bits_of(kind), 1),
        )
        for kind in ("u32", "s32", "u64", "s64")
    ),
    *(
        _row(
            f"bfi.{kind}",
            f"bfi.{kind} %d, %a, %b, %c, %s;",
            (kind, kind, "u32", "u32"),
            (kind,),
            lambda f, a, start, length, kind=kind: _insert(kind, f, a, start, length),
            _field_values(bits_of(kind), 2),
        )
        for kind in ("b32", "b64")
    ),
]
_COUNTS = [
    _row(
        f"{op}.{kind}",
        f"{op}.{kind} %d, %a;",
        (kind,),
        (result or kind,),
        lambda a, kind=kind, f=f: f(a, bits_of(kind)),
    )
    for op, result, f in (
        ("clz", "u32", lambda a, bits: bits - a.bit_length()),
        ("popc", "u32", lambda a, bits: a.bit_count()),
        ("brev", None, lambda a, bits: int(f"{a:0{bits}b}"[::-1], 2)),
    )
    for kind in ("b32", "b64")
]


def _permute(a, b, selector):
    source = (b << 32 | a).to_bytes(8, "little")
    chosen = []
    for j in range(4):
        choice = selector >> 4 * j & 15
        byte = source[choice & 7]
        chosen.append((255 if byte >> 7 else 0) if choice & 8 else byte)
    return int.from_bytes(bytes(chosen), "little")


_PERMUTED = _row(
    "prmt.b32",
    "prmt.b32 %d, %a, %b, %c;",
    ("b32",) * 3,
    ("b32",),
    _permute,
    lambda: joined(
        [drawn_integers(32, 300, 1), drawn_integers(32, 300, 2), drawn_integers(32, 300, 3)],
        crossed([0x80FF7F01], [0x12F48081], [0x3210, 0x7654, 0x0123, 0x89AB, 0xFEDC, 0xFFFF3340]),
    ),
)
_SELECTED = [
    _row(
        f"selp.{kind}",
        f"selp.{kind} %d, %a, %b, %c;",
        (kind, kind, "pred"),
        (kind,),
        lambda a, b, c: a if c else b,
        lambda kind=kind: crossed(integer_edges(bits_of(kind)), integer_edges(bits_of(kind)), [0, 1]),
    )
    for kind in ("b16", "u32", "s32", "f32", "b64", "s64", "f64")
]
_MOVED = [
    *(
        _row(f"mov.{kind}", f"mov.{kind} %d, %a;", (kind,), (kind,), lambda a: a)
        for kind in ("b16", "u16", "b32", "u32", "f32", "b64", "u64", "f64")
    ),
    _row("mov.pred", "mov.pred %d, %a;", ("pred",), ("pred",), lambda a: a, lambda: [[0, 1]]),
    _row("mov.b32 of a float", "mov.b32 %d, %a;", ("f32",), ("b32",), lambda a: a, values_of("b32")),
    _row("mov.f32 of a constant", "mov.f32 %d, 0fBF800001;", ("b32",), ("f32",), lambda a: 0xBF800001),
    _row("mov.f64 of a constant", "mov.f64 %d, 0dC00921FB54442D18;", ("b32",), ("f64",), lambda a: 0xC00921FB54442D18),
    _row("mov.b64 packs", "mov.b64 %d, {%a, %b};", ("b32",) * 2, ("b64",), lambda a, b: b << 32 | a),
    _row("mov.b64 packs a double", "mov.b64 %d, {%a, %b};", ("b32",) * 2, ("f64",), lambda a, b: b << 32 | a),
    _row("mov.b32 packs", "mov.b32 %d, {%a, %b};", ("b16",) * 2, ("b32",), lambda a, b: b << 16 | a),
    _row("mov.b64 unpacks", "mov.b64 {%d, %e}, %a;", ("b64",), ("b32",) * 2, lambda a: (a % 2**32, a >> 32)),
    _row("mov.b32 unpacks", "mov.b32 {%d, %e}, %a;", ("b32",), ("b16",) * 2, lambda a: (a % 2**16, a >> 16)),
    _row("mov.b64 unpacks one half", "mov.b64 {_, %d}, %a;", ("b64",), ("b32",), lambda a: a >> 32),
    _row(
        "mov.b64 packs four",
        "mov.b64 %d, {%a, %b, %c, %s};",
        ("b16",) * 4,
        ("b64",),
        lambda a, b, c, d: a | b << 16 | c << 32 | d << 48,
        lambda: [drawn_integers(16, 200, seed) for seed in range(4)],
    ),
]

BITS = [*_LOGICAL, *_SHIFTS, *_FUNNEL_SHIFTS, *_LOP3, *_FIELDS, *_COUNTS, _PERMUTED, *_SELECTED, *_MOVED]
