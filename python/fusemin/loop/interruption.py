"""Ctrl-C, as a wish that is noted."""

import signal
import threading


def python_interrupts() -> bool:
    """Whether SIGINT raises KeyboardInterrupt here: only in the main thread, and with no handler of the user's own."""
    # Only the main thread may set a handler, and gets the signals.
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Interruption:
    """While it is entered the first SIGINT is noted, and the next one is Python's again.

    Where Python would not raise KeyboardInterrupt, in a thread that is not the main one or with a handler of the user's
    own, nothing is changed.

    Attributes:
      requested: whether SIGINT came.
    """

    def __init__(self):
        self.requested = False
        self._replaces = False

    def __enter__(self) -> "Interruption":
        self._replaces = python_interrupts()
        if self._replaces:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number, frame) -> None:
        del number, frame
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error) -> None:
        if self._replaces:
            signal.signal(signal.SIGINT, signal.default_int_handler)
