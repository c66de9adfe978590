"""Threads of a launch: which of them run an instruction, and what their registers hold."""

from __future__ import annotations

import numpy as np

from .errors import Uninitialised


class Active:
    """Threads that run together: their numbers in the grid, ascending."""

    __slots__ = ("all", "ids", "index", "size")

    def __init__(self, ids, total):
        self.ids = ids
        self.size = ids.size
        self.all = ids.size == total
        # A slice reads and writes registers without gathering.
        self.index = slice(None) if self.all else ids


class Registers:
    """The registers of all threads.

    One whose threads hold the same value is an array of one element. What all threads compute alike, such as the
    bias corrections of a step, is so computed once.
    """

    def __init__(self, count, threads):
        self._threads = threads
        self._values: list[np.ndarray | None] = [None] * count
        # True, or for which threads it was written.
        self._defined: list[bool | np.ndarray] = [False] * count
        # Whether the array is nobody else's, so that a part of it can be written in place.
        self._owned = [False] * count

    def read(self, index, dtype, active):
        """An array of one element or of one for each active thread. The caller must not write to it."""
        defined = self._defined[index]
        if defined is not True and (defined is False or not defined[active.index].all()):
            error = Uninitialised("a register is read before it is written")
            error.first = 0 if defined is False else int(np.argmin(defined[active.index]))
            raise error
        value = self._values[index]
        if value.size != 1:
            if active.all:
                self._owned[index] = False
            else:
                value = value[active.index]
        return value if value.dtype == dtype else value.view(dtype)

    def write(self, index, value, active):
        """`value` has one element or one for each active thread; its dtype has the register's width."""
        if active.all:
            self._values[index], self._defined[index], self._owned[index] = value, True, False
            return
        old = self._values[index]
        if old is None:
            old = np.zeros(self._threads, value.dtype)
        elif old.size != self._threads:
            old = np.full(self._threads, old[0])
        elif not self._owned[index]:
            old = old.copy()
        self._values[index], self._owned[index] = old, True
        (old if old.dtype == value.dtype else old.view(value.dtype))[active.index] = value
        defined = self._defined[index]
        if defined is not True:
            if defined is False:
                defined = self._defined[index] = np.zeros(self._threads, np.bool_)
            defined[active.index] = True

    def copy(self, source, target, active):
        """Copies one register to another, undefined where it is undefined."""
        defined = self._defined[source]
        if defined is True:
            value = self._values[source]
            self.write(target, self.read(source, value.dtype, active), active)
        else:
            ids = active.ids[defined[active.index]] if defined is not False else active.ids[:0]
            self.forget(target, active)
            if ids.size:
                part = Active(ids, self._threads)
                self.write(target, self.read(source, self._values[source].dtype, part), part)

    def forget(self, index, active):
        """Makes a register undefined for these threads."""
        if active.all or self._defined[index] is False:
            self._defined[index] = False
        else:
            if self._defined[index] is True:
                self._defined[index] = np.ones(self._threads, np.bool_)
            self._defined[index][active.index] = False
