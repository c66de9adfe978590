"""Ctrl-C during a call that runs for long: it ends after the step at hand, and Python raises KeyboardInterrupt.

Python's handler of a signal runs when the call has returned, which is after all steps. What happens at once is that a
byte is written to the socket of `signal.set_wakeup_fd`. A thread waits at its other end, and cancels the call.
"""

import contextlib
import os
import select
import signal
import socket
import threading
from typing import Any

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.loop.interruption import Interruption

# Ops with effects that leave whole steps: the update of all variables, and the allocation of a trace.
_WHOLE = frozenset({"Fusemin>FusedStep", "Empty"})


def leaves_whole_steps(step, loop) -> bool:
    """Whether a loop that is cancelled, which it is between two ops, has taken whole steps: where one op does all that
    lasts.

    Args:
      step: a VariableStep.
      loop: the concrete function of the loop on it.
    """
    if not step.is_one_op or any(t.dtype in (tf.variant, tf.resource) for t in loop.outputs):
        return False
    return _WHOLE.issuperset(graphs.effects(loop.graph.get_operations()))


class _Listener:
    """The thread, of one process."""

    def __init__(self):
        self.process = os.getpid()
        self._there, self._here = socket.socketpair()
        for end in (self._there, self._here):
            end.setblocking(False)
        self._lock = threading.Lock()
        self._cancellation: Any = None
        # Who waited for signals before, such as an event loop; it is to hear of them too.
        self._before = -1
        threading.Thread(target=self._listen, name="fusemin-sigint", daemon=True).start()

    def _listen(self) -> None:
        while True:
            select.select([self._here], [], [])
            with self._lock:
                numbers = self._received()
                if self._cancellation is None:
                    continue
                if signal.SIGINT in numbers:
                    self._cancellation.start_cancel()
                if numbers and self._before != -1:
                    # As Python does: if it is full there is something to wake up for already; if it is closed, nobody.
                    with contextlib.suppress(OSError):
                        os.write(self._before, numbers)

    def _received(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return self._here.recv(1024)
        except BlockingIOError:
            return b""

    def call(self, function, tensors):
        """See `call_interruptibly`."""
        with self._lock:
            # Of signals that came after the call before.
            self._received()
            self._cancellation = _compat.new_cancellation()
            before = signal.set_wakeup_fd(self._there.fileno(), warn_on_full_buffer=False)
            self._before = -1 if before == self._there.fileno() else before
        try:
            # KeyboardInterrupt itself would come while TensorFlow makes its error, which cannot bear it.
            with Interruption() as interruption:
                returned = _compat.call_cancelable(function, tensors, self._cancellation)
        except tf.errors.CancelledError:
            if self._cancellation.is_cancelled:
                raise KeyboardInterrupt from None
            raise
        finally:
            signal.set_wakeup_fd(self._before)
            with self._lock:
                self._cancellation = None
        if interruption.requested:
            raise KeyboardInterrupt
        return returned


_listener: _Listener | None = None


def call_interruptibly(function, tensors: list[tf.Tensor]):
    """Calls a concrete function, eagerly and where no tape records, and where `python_interrupts()`.

    Raises:
      KeyboardInterrupt: Ctrl-C came.
    """
    global _listener
    # A fork has no threads of its parent's.
    if _listener is None or _listener.process != os.getpid():
        _listener = _Listener()
    return _listener.call(function, tensors)
