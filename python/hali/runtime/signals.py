"""Waiting for a signal beside other things. Only in the main thread, as Python wants it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def woken_by(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[socket.socket]:
    """A socket that becomes readable with these signals; one that came before the wait is not missed.

    Not an Event: a handler runs between two steps of the wait, where it would wait for a lock that the wait holds.
    """
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = {number: signal.signal(number, handler) for number in numbers}
        old = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(old)
            for number, action in before.items():
                signal.signal(number, action)


@contextmanager
def closing_at_the_end() -> Iterator[None]:
    """In this block SIGTERM raises SystemExit, instead of ending the process at once: what is open is closed."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as shells report it
