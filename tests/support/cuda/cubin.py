"""What a cubin says of its kernels: registers a thread, and bytes of stack, where spilled registers would go.

A cubin is an ELF file; the section .nv.info holds attributes (format, attribute, size, then symbol and value).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_SYMBOLS, _FUNCTION = 2, 2
_SIZED, _REGISTERS, _FRAME, _MIN_STACK = 0x04, 0x2F, 0x11, 0x12


class Resources(NamedTuple):
    registers: int
    stack: int


def resources(cubin: bytes) -> dict[str, Resources]:
    """The resources of each kernel of a cubin, by name."""
    if cubin[:5] != b"\x7fELF\x02":
        raise ValueError("not a 64-bit ELF file")
    (at,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names_at = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, at + i * size) for i in range(count)]

    def text(section, offset):
        start = headers[section][4] + offset
        return cubin[start : cubin.index(b"\0", start)].decode()

    sections = {text(names_at, header[0]): header for header in headers}
    symbols = []
    header = next(h for h in headers if h[1] == _SYMBOLS)
    for at in range(header[4], header[4] + header[5], 24):
        name, info, *_ = struct.unpack_from("<IBBHQQ", cubin, at)
        symbols.append((text(header[6], name), info & 15 == _FUNCTION))

    found: dict[str, dict[int, int]] = {}
    at, end = sections[".nv.info"][4], sections[".nv.info"][4] + sections[".nv.info"][5]
    while at < end:
        kind, attribute, length = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if kind != _SIZED:
            continue
        if attribute in (_REGISTERS, _FRAME, _MIN_STACK):
            symbol, value = struct.unpack_from("<II", cubin, at)
            found.setdefault(symbols[symbol][0], {})[attribute] = value
        at += length
    kernels = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
    return {name: Resources(found[name][_REGISTERS], found[name][_FRAME]) for name in kernels}
