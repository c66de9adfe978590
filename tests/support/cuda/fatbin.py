"""What is in a fat binary of the build: PTX and cubins, decompressed.

The layout is nvFatbin 12.9's, which NVIDIA does not document: a header of 16 bytes (magic, version, its own size, the
size of what follows), then entries, each with a header that has at byte 0 the kind (1 PTX, 2 a cubin), at 4 its own
size, at 8 the size of its payload with padding, at 16 that without, at 28 the architecture, at 40 flags, at 56 the size
when decompressed.
"""

from __future__ import annotations

import functools
import struct

import zstandard

_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ZSTD = 0x8000


def size_at(address_of_head: bytes) -> int:
    """The size of a fat binary, by its first 16 bytes."""
    magic, _, head, size = struct.unpack("<IHHQ", address_of_head)
    if magic != _MAGIC:
        raise ValueError(f"not a fat binary: it begins with {address_of_head[:4].hex()}")
    return head + size


@functools.cache
def unpack(image: bytes) -> dict[str, bytes]:
    """The PTX, under "ptx", without its closing zero, and the cubins, under "sm_80" and so on."""
    if size_at(image[:16]) != len(image):
        raise ValueError(f"a fat binary of {size_at(image[:16])} bytes in {len(image)}")
    found, at = {}, 16
    while at < len(image):
        kind, _, head, padded = struct.unpack_from("<HHIQ", image, at)
        size, architecture, flags, whole = (
            struct.unpack_from(form, image, at + offset)[0]
            for form, offset in (("I", 16), ("I", 28), ("Q", 40), ("Q", 56))
        )
        if not flags & _ZSTD:
            raise ValueError(
                "an image is not compressed by zstd: these tests are of builds with FUSEMIN_CUDA_COMPRESSION=size"
            )
        payload = zstandard.ZstdDecompressor().decompress(image[at + head : at + head + size])
        if len(payload) != whole:
            raise ValueError(f"an image of {len(payload)} bytes where {whole} are said")
        if kind == _PTX:
            found["ptx"] = payload.removesuffix(b"\0")
        elif kind == _CUBIN:
            found[f"sm_{architecture}"] = payload
        else:
            raise ValueError(f"an image of unknown kind {kind}")
        at += head + padded
    return found
