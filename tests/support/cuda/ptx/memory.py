"""Global memory: regions of the process's own memory, by their real addresses, so that a kernel gets real pointers.

Every access is checked against the regions before a byte of it is touched.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

from .errors import Misaligned, OutOfBounds

# Unregistered bytes on both sides of a buffer of `Memory.put`, and the boundary that it begins at.
_GUARD = 256
# The views of the address space begin here: NumPy takes a null pointer for none.
_FIRST = 4096
_LAST = 1 << 47


@dataclass(frozen=True, order=True)
class Region:
    """`size` bytes from `address` that a kernel may use, of which those in [first, last) are there, at `shift` bytes
    from the address that the kernel knows them by."""

    address: int
    size: int
    first: int
    last: int
    shift: int
    writable: bool
    name: str


class _AddressSpace:
    """The address space of the process as NumPy arrays. Indexing one touches no memory but the indexed elements."""

    def __init__(self):
        self.__array_interface__ = {
            "version": 3,
            "shape": (_LAST - _FIRST,),
            "typestr": "|u1",
            "data": (_FIRST, False),
        }


_BYTES = np.asarray(_AddressSpace())
_VIEWS = {size: _BYTES.view(f"u{size}") for size in (1, 2, 4, 8)}


class Memory:
    """The memory that kernels may use.

    Of its own, `put` and `allocate`, or of others, `add` and `add_array`, who must keep it alive until `remove`.

    >>> memory = Memory()
    >>> address = memory.put(np.arange(3, dtype=np.float32))
    >>> memory.get(address, np.float32, 3)
    array([0., 1., 2.], dtype=float32)
    """

    def __init__(self):
        self._regions: list[Region] = []
        self._buffers: dict[int, np.ndarray] = {}
        self._tables = None

    @property
    def regions(self):
        """All regions, by address."""
        return tuple(self._regions)

    def put(self, array, offset=0, writable=True, name=""):
        """Copies an array to `offset` bytes past a 256-byte boundary; returns its address."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer = np.zeros(raw.size + offset + 3 * _GUARD, np.uint8)
        start = -(-(buffer.ctypes.data + _GUARD) // _GUARD) * _GUARD + offset
        at = start - buffer.ctypes.data
        buffer[at : at + raw.size] = raw
        self.add(start, raw.size, writable=writable, name=name)
        self._buffers[start] = buffer
        return start

    def allocate(self, size, offset=0, name=""):
        """`size` bytes of 0xFF, a NaN in every type; returns their address."""
        return self.put(np.full(size, 0xFF, np.uint8), offset, name=name)

    def get(self, address, dtype, count):
        """A copy of `count` elements at an address, wherever they are registered."""
        dtype = np.dtype(dtype)
        if count == 0:
            return np.empty(0, dtype)
        addresses = address + np.arange(count * dtype.itemsize, dtype=np.int64)
        real, _ = self.locate(addresses, 1, False)
        return _BYTES[real - _FIRST].view(dtype)

    def add(self, address, size, writable=True, name=""):
        """Registers `size` bytes of the process at `address`. Nothing happens if they are registered already.

        Raises: ValueError if they overlap another region.
        """
        self._insert(Region(address, size, address, address + size, 0, writable, name))

    def add_array(self, array, writable=True, name=""):
        """Registers the memory of a contiguous array, without a copy; returns its address."""
        if not array.flags.c_contiguous:
            raise ValueError("the array is not contiguous")
        self.add(array.ctypes.data, array.nbytes, writable, name)
        return array.ctypes.data

    def add_window(self, base, claimed_size, window_offset, array, writable=True, name=""):
        """Registers `claimed_size` bytes at `base` of which only those of `array`, from `window_offset` on, are there.
        So a kernel sees tensors larger than the machine's memory.

        `base` is any address that is not taken; nothing is there but the window.
        """
        if not array.flags.c_contiguous:
            raise ValueError("the array is not contiguous")
        first = base + window_offset
        if window_offset < 0 or window_offset + array.nbytes > claimed_size:
            raise ValueError("the window is not inside the claimed memory")
        shift = array.ctypes.data - first
        self._insert(Region(base, claimed_size, first, first + array.nbytes, shift, writable, name))
        self._buffers[base] = array

    def remove(self, address):
        """Forgets the region that begins at `address`."""
        kept = [region for region in self._regions if region.address != address]
        if len(kept) == len(self._regions):
            raise KeyError(f"no region begins at {address:#x}")
        self._regions, self._tables = kept, None
        self._buffers.pop(address, None)

    def _insert(self, region):
        if region.address < _FIRST or region.address + region.size > _LAST:
            raise ValueError(f"[{region.address:#x}, +{region.size}) is not in the address space")
        at = bisect_right(self._regions, region)
        if at and self._regions[at - 1] == region:
            return
        for other in self._regions[max(at - 1, 0) : at + 1]:
            if other.address < region.address + region.size and region.address < other.address + other.size:
                raise ValueError(f"{_describe(region)} overlaps {_describe(other)}")
        if region.size:
            insort(self._regions, region)
            self._tables = None

    def tables(self):
        """Columns of the regions for vectorised look-up."""
        if self._tables is None:
            columns = [[r.first, r.last, r.shift] for r in self._regions if r.last > r.first]
            first, last, shift = np.array(columns, np.int64).reshape(-1, 3).T.copy()
            writable = np.array([r.writable for r in self._regions if r.last > r.first], np.bool_)
            # Where the bytes of a region begin if those of all regions stand in a row, each at a 16-byte boundary of
            # the address, for what is kept beside each byte.
            sizes = -(-(last - first // 16 * 16) // 16) * 16
            begin = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            self._tables = first, last, shift, writable, begin[:-1] - first // 16 * 16, int(begin[-1])
        return self._tables

    def locate(self, address, size, store):
        """The real addresses of accesses of `size` bytes, and the places of their bytes in a row of all.

        Raises: Misaligned, OutOfBounds, with the attribute `first` that says which of the accesses.
        """
        if size > 1 and (bad := (address & (size - 1)) != 0).any():
            raise _at(Misaligned(f"{size}-byte access at {_shown(address, bad)}"), bad)
        first, last, shift, writable, place, _ = self.tables()
        if not first.size:
            raise _at(OutOfBounds("no memory is registered"), np.ones(address.size, np.bool_))
        low = np.searchsorted(first, address.min(), "right") - 1
        if low >= 0 and address.max() + size <= last[low]:
            if store and not writable[low]:
                raise _at(OutOfBounds(self._explain(address[:1], size, store)), np.ones(1, np.bool_))
            return address + shift[low], address + place[low]
        region = np.searchsorted(first, address, "right") - 1
        bad = (region < 0) | (address + size > last[region])
        if store:
            bad |= ~writable[region]
        if bad.any():
            raise _at(OutOfBounds(self._explain(address[bad], size, store)), bad)
        return address + shift[region], address + place[region]

    def _explain(self, addresses, size, store):
        address = int(addresses[0])
        what = f"{size}-byte {'store' if store else 'load'} at {address:#x}"
        at = bisect_right(self._regions, address, key=lambda r: r.address) - 1
        if at < 0:
            return f"{what}: before all regions"
        region = self._regions[at]
        where = f"{address - region.address} bytes after the start of {_describe(region)}"
        if address + size > region.address + region.size:
            return f"{what}: outside, {where}"
        if address < region.first or address + size > region.last:
            return f"{what}: outside of the window, {where}"
        return f"{what}: read-only, {where}"


def load(real, size):
    """Elements of `size` bytes at real addresses that `locate` gave, as unsigned integers."""
    return _VIEWS[size].take((real - _FIRST) // size if size > 1 else real - _FIRST)


def store(real, values):
    """Writes unsigned integers to real addresses that `locate` gave."""
    size = values.dtype.itemsize
    _VIEWS[size][(real - _FIRST) // size] = values


def _describe(region):
    return f"{region.name or 'the region'} [{region.address:#x}, +{region.size})"


def _shown(address, bad):
    return f"{int(address[np.argmax(bad)]):#x}"


def _at(error, bad):
    error.first = int(np.argmax(bad))
    return error
