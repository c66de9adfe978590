"""Floating-point arithmetic and comparison."""

from __future__ import annotations

from tests.support.cuda import exact_floats
from tests.support.cuda.exact_floats import FORMATS
from tests.support.cuda.ptx_snippets import Snippet

from .values import crossed, drawn_floats, float_edges, joined


def _values(kind, inputs):
    """All combinations of edges, and drawn numbers."""

    def values():
        edges = float_edges(kind)
        # Of three operands fewer edges, and of the drawn ones half with a sum that nearly cancels.
        edges = edges if inputs < 3 else [*edges[::2], FORMATS[kind].nan, FORMATS[kind].sign_bit]
        drawn = [drawn_floats(kind, 600, seed) for seed in range(inputs)]
        if inputs == 3:
            form = FORMATS[kind]
            drawn[2][1::2] = [
                exact_floats.multiply(form, a, b) ^ form.sign_bit
                for a, b in zip(drawn[0][1::2], drawn[1][1::2], strict=True)
            ]
        return joined(crossed(*[edges] * inputs), drawn)

    return values


def _row(instruction, kind, inputs, operation, ftz=False, sat=False):
    """An instruction whose result is a float of the type of its operands."""
    form = FORMATS[kind]

    def reference(*operands):
        if ftz:
            operands = [form.flush(x) for x in operands]
        result = operation(form, *operands)
        if ftz:
            result = form.flush(result)
        return exact_floats.saturate(form, result) if sat else result

    operands = ", ".join(["%d", "%a", "%b", "%c"][: inputs + 1])
    return Snippet(
        instruction,
        f"{instruction} {operands};",
        (kind,) * inputs,
        (kind,),
        _values(kind, inputs),
        reference,
        # Which NaN a GPU gives is documented for float32 and float16.
        form.is_nan if kind == "f64" else lambda bits: False,
    )


def _negate(form, a):
    return a ^ form.sign_bit


def _absolute(form, a):
    return a & ~form.sign_bit


def _copy_sign(form, a, b):
    return (a & form.sign_bit) | (b & ~form.sign_bit)


_BINARY = {"add": exact_floats.add, "sub": exact_floats.subtract, "mul": exact_floats.multiply}
_EXTREME = {"min": exact_floats.smaller, "max": exact_floats.larger}

_ARITHMETIC = [
    *(
        _row(f"{op}{mods}.{kind}", kind, 2, f)
        for op, f in _BINARY.items()
        for mods in ("", ".rn")
        for kind in ("f32", "f64")
    ),
    *(_row(f"{op}.ftz.f32", "f32", 2, f, ftz=True) for op, f in _BINARY.items()),
    *(_row(f"{op}.sat.f32", "f32", 2, f, sat=True) for op, f in _BINARY.items()),
    *(_row(f"{op}.f16", "f16", 2, f) for op, f in _BINARY.items()),
    *(_row(f"fma.rn.{kind}", kind, 3, exact_floats.fma) for kind in ("f16", "f32", "f64")),
    _row("fma.rn.ftz.f32", "f32", 3, exact_floats.fma, ftz=True),
    _row("fma.rn.sat.f32", "f32", 3, exact_floats.fma, sat=True),
    *(_row(f"mad.rn.{kind}", kind, 3, exact_floats.fma) for kind in ("f32", "f64")),
    *(_row(f"div.rn.{kind}", kind, 2, exact_floats.divide) for kind in ("f32", "f64")),
    _row("div.rn.ftz.f32", "f32", 2, exact_floats.divide, ftz=True),
    *(_row(f"rcp.rn.{kind}", kind, 1, exact_floats.reciprocal) for kind in ("f32", "f64")),
    _row("rcp.rn.ftz.f32", "f32", 1, exact_floats.reciprocal, ftz=True),
    *(_row(f"sqrt.rn.{kind}", kind, 1, exact_floats.square_root) for kind in ("f32", "f64")),
    _row("sqrt.rn.ftz.f32", "f32", 1, exact_floats.square_root, ftz=True),
    *(_row(f"{op}.{kind}", kind, 2, f) for op, f in _EXTREME.items() for kind in ("f16", "f32", "f64")),
    *(_row(f"{op}.ftz.f32", "f32", 2, f, ftz=True) for op, f in _EXTREME.items()),
    *(_row(f"{op}.NaN.f32", "f32", 2, exact_floats.or_nan(f)) for op, f in _EXTREME.items()),
    *(_row(f"neg.{kind}", kind, 1, _negate) for kind in ("f16", "f32", "f64")),
    *(_row(f"abs.{kind}", kind, 1, _absolute) for kind in ("f16", "f32", "f64")),
    _row("neg.ftz.f32", "f32", 1, _negate, ftz=True),
    _row("abs.ftz.f32", "f32", 1, _absolute, ftz=True),
    *(_row(f"copysign.{kind}", kind, 2, _copy_sign) for kind in ("f32", "f64")),
]


def _is_finite(form, a):
    return not form.is_nan(a) and not form.is_infinite(a)


_TESTS = {
    "finite": _is_finite,
    "infinite": lambda form, a: form.is_infinite(a),
    "number": lambda form, a: not form.is_nan(a),
    "notanumber": lambda form, a: form.is_nan(a),
    "normal": lambda form, a: _is_finite(form, a) and a & ~form.sign_bit >= form.smallest_normal,
    "subnormal": lambda form, a: 0 < a & ~form.sign_bit < form.smallest_normal,
}
_PROPERTIES = [
    Snippet(
        f"testp.{test}.{kind}",
        f"testp.{test}.{kind} %d, %a;",
        (kind,),
        ("pred",),
        _values(kind, 1),
        lambda a, form=FORMATS[kind], holds=holds: int(holds(form, a)),
    )
    for test, holds in _TESTS.items()
    for kind in ("f32", "f64")
]

COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _compare(form, name, a, b):
    """Ordered comparisons are false of NaN, those with u true; zeros are equal."""
    either_nan = form.is_nan(a) or form.is_nan(b)
    if name in ("nan", "num"):
        return either_nan == (name == "nan")
    if either_nan:
        return name not in COMPARISONS
    a, b = (exact_floats.order(form, x if x != form.sign_bit else 0) for x in (a, b))
    return COMPARISONS[name.removesuffix("u") if name not in COMPARISONS else name](a, b)


def _compared(name, kind):
    """Of halves there is no second result, the opposite of the first."""
    form, both = FORMATS[kind], kind in ("f32", "f64")

    def reference(a, b):
        holds = _compare(form, name, a, b)
        return (int(holds), int(not holds)) if both else int(holds)

    lines = f"setp.{name}.{kind} {'%d|%e' if both else '%d'}, %a, %b;"
    outputs = ("pred", "pred") if both else ("pred",)
    return Snippet(f"setp.{name}.{kind}", lines, (kind, kind), outputs, _values(kind, 2), reference)


_COMPARED = [
    _compared(name, kind)
    for name in [*COMPARISONS, *(f"{x}u" for x in COMPARISONS), "nan", "num"]
    for kind in ("f16", "bf16", "f32", "f64")
]
_COMPARED.append(
    Snippet(
        "setp.lt.ftz.f32",
        "setp.lt.ftz.f32 %d, %a, %b;",
        ("f32", "f32"),
        ("pred",),
        _values("f32", 2),
        lambda a, b, form=FORMATS["f32"]: int(_compare(form, "lt", form.flush(a), form.flush(b))),
    )
)


def _gross_reciprocal(a):
    """Of the upper 32 bits the reciprocal, of which the upper 32 bits."""
    form = FORMATS["f64"]
    a = form.flush(a) >> 32 << 32
    exact = exact_floats.reciprocal(form, a)
    if form.is_nan(exact) or form.is_infinite(exact) or form.fraction(exact) == 0:
        return exact
    return form.flush((exact + (1 << 31)) >> 32 << 32)


_APPROXIMATE = [
    Snippet(
        "rcp.approx.ftz.f64",
        "rcp.approx.ftz.f64 %d, %a;",
        ("f64",),
        ("f64",),
        _values("f64", 1),
        _gross_reciprocal,
        FORMATS["f64"].is_nan,
    )
]

FLOATS = [*_ARITHMETIC, *_PROPERTIES, *_COMPARED, *_APPROXIMATE]
