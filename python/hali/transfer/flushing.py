"""From "the hash is right" to "the bytes can be read": libtorrent checks pieces in memory and writes them when it likes.

Measured with libtorrent 2.1.1: without a flush, 16 of 48 pieces read at once from the file were wrong. A flush is answered
behind all writes that were queued before it, so what was finished before it was asked for can be read after its answer.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

FLUSH_TIMEOUT_S = 5.0  # a flush takes under 1 s on a busy disk; closing must not wait for a dead one


class Flusher:
    """Collects finished pieces, flushes for all that wait, one flush at a time, and reports each when it can be read.

    libtorrent also flushes when a torrent finishes or is paused, and answers alike. Such an answer may be taken for ours without
    harm: flushes run in order, and at that moment no piece is finished whose writes were queued behind it.
    """

    def __init__(self, readable: Callable[[int], None]) -> None:
        self._readable = readable
        self._flush: Callable[[], None] | None = None
        self._waiting: list[int] = []
        self._asked: list[int] | None = None
        self._answers_left = 0
        self._drained = anyio.Event()

    def start(self, flush: Callable[[], None]) -> None:
        """Use `flush` from now on (the torrent is new)."""
        self._flush, self._asked = flush, None
        self._ask()

    def finished(self, index: int) -> bool:
        """Piece `index` is right; False if that was known."""
        if index in self._waiting or index in (self._asked or ()):
            return False
        self._waiting.append(index)
        self._ask()
        return True

    def _ask(self) -> None:
        if self._asked is None and self._waiting and self._flush is not None:
            self._asked, self._waiting = self._waiting, []
            self._flush()

    def answered(self) -> None:
        """A flush is through."""
        done, self._asked = self._asked or [], None
        self._answers_left -= 1
        if self._flush is None and self._answers_left <= 0:  # drained: no write was queued behind the last flush
            done, self._waiting = done + self._waiting, []
        for index in done:
            self._readable(index)
        if self._answers_left <= 0:
            self._drained.set()
        self._ask()

    async def drain(self) -> bool:
        """Flush what there is and wait until nothing is written any more; False when that took too long."""
        if self._flush is None:
            return True
        flush, self._flush = self._flush, None
        self._drained = anyio.Event()
        self._answers_left = 1 if self._asked is None else 2
        flush()
        with anyio.move_on_after(FLUSH_TIMEOUT_S) as deadline:
            await self._drained.wait()
        return not deadline.cancelled_caught

    def give_up(self) -> None:
        """No answer will come any more."""
        self._flush = None
        self._drained.set()
