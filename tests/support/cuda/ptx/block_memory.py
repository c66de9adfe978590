"""Shared memory of blocks and local memory of threads: checked for bounds, first use and races."""

from __future__ import annotations

import numpy as np

from .errors import Misaligned, OutOfBounds, Race, Uninitialised

_SEVERAL = -2


def _raise(error, bad):
    error.first = int(np.argmax(bad))
    raise error


class OwnMemory:
    """`size` bytes for each owner, a block or a thread."""

    def __init__(self, name, size, owners):
        self.name = name
        self._limit = size
        self.size = -(-size // 16) * 16
        self.bytes = np.zeros(self.size * owners, np.uint8)
        self.written = np.zeros(self.bytes.size, np.bool_)

    def locate(self, address, size, owner):
        """Where the bytes at `address` of each owner begin in `bytes`."""
        if (bad := (address & (size - 1)) != 0).any():
            _raise(Misaligned(f"{size}-byte access at {self.name} address {int(address[np.argmax(bad)])}"), bad)
        if (bad := (address < 0) | (address + size > self._limit)).any():
            at = int(address[np.argmax(bad)])
            _raise(OutOfBounds(f"{size}-byte access at {self.name} address {at} of {self._limit}"), bad)
        return address + owner * self.size

    def load(self, place, size, count):
        """`count` arrays of elements of `size` bytes."""
        rows = self.written.reshape(-1, size * count)[place // (size * count)]
        if (bad := ~rows.all(axis=1)).any():
            _raise(Uninitialised(f"{self.name} memory is read before it is written"), bad)
        view = self.bytes.view(f"u{size}")
        return [view[place // size + j] for j in range(count)]

    def store(self, place, values):
        """Stores a list of arrays of unsigned integers, one after another."""
        size = values[0].dtype.itemsize
        view = self.bytes.view(values[0].dtype)
        for j, value in enumerate(values):
            view[place // size + j] = value
        width = size * len(values)
        self.written.reshape(-1, width)[place // width] = True


class SharedMemory(OwnMemory):
    """With the last thread that wrote and read each byte, and when: two threads may touch one byte only with a barrier
    between, of the block or, for two of one warp, of the warp. Two that only read may always."""

    def __init__(self, size, blocks):
        super().__init__("shared", size, blocks)
        self._writer, self._reader, self._reader_warp = (np.full(self.bytes.size, -1, np.int32) for _ in range(3))
        # The barriers of the block and of the warp that came before that write or read.
        self._write_time, self._read_time = (np.zeros((self.bytes.size, 2), np.int32) for _ in range(2))
        self.block_time = 0

    def note(self, place, size, threads, warps, warp_times, stores):
        """Notes accesses of `size` bytes. Raises: Race."""
        bytes_ = (place[:, None] + np.arange(size)).reshape(-1)
        thread, warp, time = (np.repeat(x, size) for x in (threads, warps, warp_times))
        clash = self._writer_clashes(bytes_, thread, warp, time)
        if stores:
            clash |= self._readers_clash(bytes_, thread, warp, time)
            self._writer[bytes_] = thread
            self._write_time[bytes_, 0], self._write_time[bytes_, 1] = self.block_time, time
            clash |= self._writer[bytes_] != thread
        else:
            self._note_reads(bytes_, thread, warp, time)
        if clash.any():
            error = Race("shared memory is touched by two threads without a barrier between")
            _raise(error, clash.reshape(-1, size).any(axis=1))

    def note_atomics(self, place, size, threads, warps, warp_times):
        """Atomic accesses are in order with each other, but not with the plain stores and loads of other threads."""
        bytes_ = (place[:, None] + np.arange(size)).reshape(-1)
        thread, warp, time = (np.repeat(x, size) for x in (threads, warps, warp_times))
        clash = self._writer_clashes(bytes_, thread, warp, time) | self._readers_clash(bytes_, thread, warp, time)
        if clash.any():
            error = Race("an atomic operation and a plain access of another thread without a barrier between")
            _raise(error, clash.reshape(-1, size).any(axis=1))

    def set_warps(self, warp_of):
        """The warp of each thread."""
        self._warp_of = warp_of

    def _writer_clashes(self, bytes_, thread, warp, time):
        """A writer of another warp, or of this one since its last barrier."""
        writer = self._writer[bytes_]
        clash = (writer >= 0) & (writer != thread) & (self._write_time[bytes_, 0] == self.block_time)
        return clash & ((self._warp_of[writer] != warp) | (self._write_time[bytes_, 1] == time))

    def _readers_clash(self, bytes_, thread, warp, time):
        reader, reader_warp = self._reader[bytes_], self._reader_warp[bytes_]
        clash = (reader != -1) & (reader != thread) & (self._read_time[bytes_, 0] == self.block_time)
        return clash & ((reader_warp != warp) | (self._read_time[bytes_, 1] == time))

    def _note_reads(self, bytes_, thread, warp, time):
        fresh = self._read_time[bytes_, 0] != self.block_time
        fresh |= (self._reader_warp[bytes_] == warp) & (self._read_time[bytes_, 1] != time)
        reader = np.where(fresh, -1, self._reader[bytes_])
        reader_warp = np.where(fresh, -1, self._reader_warp[bytes_])
        self._reader[bytes_] = np.where((reader == -1) | (reader == thread), thread, _SEVERAL)
        self._reader_warp[bytes_] = np.where((reader_warp == -1) | (reader_warp == warp), warp, _SEVERAL)
        self._read_time[bytes_, 0], self._read_time[bytes_, 1] = self.block_time, time
        # Several readers in this one instruction.
        self._reader[bytes_[self._reader[bytes_] != thread]] = _SEVERAL
        self._reader_warp[bytes_[self._reader_warp[bytes_] != warp]] = _SEVERAL
