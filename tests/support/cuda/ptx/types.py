"""The fundamental types of PTX and how NumPy holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSIGNED = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.uint32), 64: np.dtype(np.uint64)}
SIGNED = {8: np.dtype(np.int8), 16: np.dtype(np.int16), 32: np.dtype(np.int32), 64: np.dtype(np.int64)}
FLOAT = {16: np.dtype(np.float16), 32: np.dtype(np.float32), 64: np.dtype(np.float64)}


@dataclass(frozen=True)
class Type:
    """`kind` is one of unsigned, signed, bits, float, bfloat and predicate. bfloat16 is held as its bits."""

    name: str
    kind: str
    bits: int
    dtype: np.dtype

    @property
    def size(self):
        """In bytes."""
        return self.bits // 8

    @property
    def is_integer(self):
        return self.kind in ("unsigned", "signed", "bits")

    @property
    def is_signed(self):
        return self.kind == "signed"


PREDICATE = Type("pred", "predicate", 1, np.dtype(np.bool_))
TYPES = {
    **{f"u{n}": Type(f"u{n}", "unsigned", n, dtype) for n, dtype in UNSIGNED.items()},
    **{f"b{n}": Type(f"b{n}", "bits", n, dtype) for n, dtype in UNSIGNED.items()},
    **{f"s{n}": Type(f"s{n}", "signed", n, dtype) for n, dtype in SIGNED.items()},
    **{f"f{n}": Type(f"f{n}", "float", n, dtype) for n, dtype in FLOAT.items()},
    "bf16": Type("bf16", "bfloat", 16, UNSIGNED[16]),
    "pred": PREDICATE,
}


def unsigned(bits):
    """The type of that many bits with no sign."""
    return TYPES[f"u{bits}"]
