"""Who wrote which byte of global memory in one launch: two threads that write one byte are a race."""

import numpy as np

from .errors import Race


class WriteRecord:
    """Kept for words of four bytes, and for single bytes where smaller stores are made. 0 is nobody, else thread + 1;
    NumPy's zeros take no memory until they are written."""

    def __init__(self, size):
        self._words = np.zeros(-(-size // 4), np.int32)
        self._bytes = None
        self._size = size

    def note(self, place, size, threads):
        """Notes stores of `size` bytes. Raises: Race, with the attribute `first` that says which of the stores."""
        writer = (threads + 1).astype(np.int32)
        if size >= 4:
            rows, at = self._words.reshape(-1, size // 4) if size > 4 else self._words[:, None], place // size
            self._claim(rows, at, writer)
            if self._bytes is not None:
                self._refuse(self._bytes.reshape(-1, size)[at], writer)
        else:
            if self._bytes is None:
                self._bytes = np.zeros(-(-self._size // 16) * 16, np.int32)
            self._refuse(self._words[place // 4][:, None], writer)
            self._claim(self._bytes.reshape(-1, size), place // size, writer)

    def written(self, place, size):
        """Which of these loads read what this launch has written."""
        words = self._words.reshape(-1, size // 4)[place // size] if size >= 4 else self._words[place // 4][:, None]
        found = (words != 0).any(axis=1)
        if self._bytes is not None:
            found |= (self._bytes.reshape(-1, size)[place // size] != 0).any(axis=1)
        return found

    def _claim(self, rows, at, writer):
        self._refuse(rows[at], writer)
        rows[at] = writer[:, None]
        # Where one instruction stores twice to one place, the last of the threads is there now.
        if not (np.diff(at) > 0).all():
            self._refuse(rows[at], writer)

    def _refuse(self, found, writer):
        bad = ((found != 0) & (found != writer[:, None])).any(axis=1)
        if bad.any():
            first = int(np.argmax(bad))
            other = int(found[first][found[first] != 0][0]) - 1
            error = Race(f"thread number {other} of the grid wrote the same global memory in this launch")
            error.first = first
            raise error
