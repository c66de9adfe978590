"""A thread for the files of a run: they are written while the next segment runs."""

import collections
import concurrent.futures
from collections.abc import Callable

# So many pieces of work may wait for the one at hand. Each may hold the rows of a segment, which are then in memory.
MOST_WAITING = 1


class Background:
    """Does what it is given in a thread of its own, one after the other, in the order given.

    Once something has failed nothing more is done: what is written later relies on what was written before.
    """

    def __init__(self):
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "fusemin-files")
        self._waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        self._has_failed = False

    def do(self, function: Callable, *arguments) -> None:
        """Calls a function later. Waits where too much is to be done already.

        Raises:
          Whatever a function that was given before has raised.
        """
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._call, function, arguments))

    def _call(self, function, arguments) -> None:
        if self._has_failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._has_failed = True
            raise

    def wait(self) -> None:
        """Returns once all is done.

        Raises:
          Whatever a function has raised.
        """
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """As `wait`; the thread ends."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
