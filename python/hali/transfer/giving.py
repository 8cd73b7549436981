"""Pieces from elsewhere, handed to libtorrent again and again until it has said what it makes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import libtorrent as lt

AGAIN_S = 10.0  # for libtorrent to write and check a piece of 16 MiB, on a slow card too
FULL_S = 2.0  # … and to check one that is all written; after that it has forgotten to
MAX_REFUSALS = 8  # of a right piece, while blocks of peers are on their way
REFUSED_S = 0.25  # after each; these arrive meanwhile
FREE, WRITTEN = 0, 3  # block_info::none and ::finished of libtorrent's torrent_handle.hpp


class Giver:
    """For one fetch. `torrent` waits for the torrent while it is being replaced, and is None at the end; `restart` replaces it."""

    def __init__(self, torrent: Callable[[], Awaitable[Any]], restart: Callable[[], None]) -> None:
        self._torrent, self._restart = torrent, restart
        self._given: dict[int, anyio.Event] = {}  # of which nothing is heard yet
        self._refused: set[int] = set()

    def __contains__(self, index: int) -> bool:
        return index in self._given

    async def give(self, index: int, whole: bytes, is_over: Callable[[], bool]) -> None:
        """Until `is_over()`, or so many refusals that the piece must be wrong.

        What peers had sent of the piece before may be checked in its place, or come after it, and libtorrent forgets a piece
        that it has just found wrong: so it is given again. One that libtorrent holds in full and never checks, as happens when
        the liars that sent it are thrown out, is not written to again: then the torrent is added anew.
        """
        refusals = 0
        while not is_over() and refusals < MAX_REFUSALS:
            answered = self._given[index] = anyio.Event()
            handle = await self._torrent()
            if handle is None:
                return
            with contextlib.suppress(RuntimeError):  # replaced just now: the new one is given it again
                await anyio.to_thread.run_sync(handle.add_piece, index, whole, lt.add_piece_flags_t.overwrite_existing)
            with anyio.move_on_after(FULL_S):
                await answered.wait()
            if not answered.is_set() and await is_full(handle, index):
                self._restart()
                await anyio.sleep(REFUSED_S)
                continue
            with anyio.move_on_after(AGAIN_S - FULL_S):
                await answered.wait()
            if index in self._refused:
                self._refused.discard(index)
                refusals += 1
                await anyio.sleep(REFUSED_S)

    def taken(self, index: int) -> None:
        """The piece is right."""
        if (event := self._given.pop(index, None)) is not None:
            event.set()

    def refused(self, index: int) -> None:
        """It was wrong."""
        self._refused.add(index)
        self.taken(index)

    def forget(self) -> None:
        """No answer will come: the torrent is gone, and a new one knows nothing of what the old one was given."""
        for index in list(self._given):
            self.taken(index)


async def is_full(handle: Any, index: int) -> bool:
    """Whether libtorrent has written all blocks of a piece, and not decided about it."""
    pieces = [piece for piece in await queue_of(handle) if piece["piece_index"] == index]
    return bool(pieces) and all(block["state"] == WRITTEN for block in pieces[0]["blocks"])


async def queue_of(handle: Any) -> list[dict[str, Any]]:
    """The pieces of which libtorrent has some blocks, as it tells them; none of a torrent that was just removed."""
    try:
        queue: list[dict[str, Any]] = await anyio.to_thread.run_sync(handle.get_download_queue)
    except RuntimeError:
        return []
    return queue
