"""Where the last piece of a download comes from, and a clock that starts when it is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import anyio

from hali.model.units import PIECE
from hali.transfer.events import FetchEvent, PieceDone
from hali.transfer.http import RangeSource
from hali.transfer.session import Fetch, TorrentSession

LAST = hashlib.shake_128(b"the last piece").digest(PIECE)  # a whole piece: the most that can be left to do


class Took(NamedTuple):
    """Seconds by the clock, and of the processor in all threads of this process."""

    wall: float
    cpu: float


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def took(self) -> Took:
        """So far."""
        return Took(time.perf_counter() - self._wall, time.process_time() - self._cpu)


class HeldBack(RangeSource):
    """An HTTP source that gives the last piece, the only one that is missing, when `go` is set. It asks nobody."""

    def __init__(self, index: int) -> None:
        super().__init__("http://127.0.0.1/", trusted=True)
        self._index = index
        self.reached, self.go = anyio.Event(), anyio.Event()
        self.given = Clock()  # set just before hali begins to write the piece

    async def fetch_piece(
        self,
        offset: int,
        length: int,
        into: bytearray | memoryview | None = None,
        kept: Callable[[int], None] = lambda count: None,
    ) -> memoryview:
        """As `RangeSource.fetch_piece`, for any part of the piece."""
        assert offset // PIECE == self._index and isinstance(into, memoryview)
        self.reached.set()
        await self.go.wait()
        at = offset % PIECE
        into[:length] = LAST[at : at + length]
        self.given = Clock()
        kept(length)
        return into[:length]


class NotingSession(TorrentSession):
    """The torrent session, which also notes when libtorrent has checked and written the one piece that a fetch lacked."""

    given: Clock | None = None

    def fetch(self, *args: Any, **options: Any) -> Fetch:
        """As `TorrentSession.fetch`."""
        fetch = super().fetch(*args, **options)
        events = fetch.events

        async def noting() -> AsyncIterator[FetchEvent]:
            async for event in events():
                if isinstance(event, PieceDone):
                    assert self.given is None, "one piece only is missing"
                    self.given = Clock()
                yield event

        self.given, fetch.events = None, noting  # type: ignore[method-assign]
        return fetch
