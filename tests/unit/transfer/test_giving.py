"""Pieces given to libtorrent, which is replaced by what it may do with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from hali.transfer import giving
from hali.transfer.giving import MAX_REFUSALS, WRITTEN, Giver

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0


class Torrent:
    """Does `then` when it gets a piece, and has blocks of piece 0 in `states`."""

    def __init__(self, then: Callable[[], None] = lambda: None, states: tuple[int, ...] = ()) -> None:
        self.taken = 0
        self._then, self._states = then, states

    def add_piece(self, index: int, data: bytes, flags: Any) -> None:
        self.taken += 1
        anyio.from_thread.run_sync(self._then)

    def get_download_queue(self) -> list[dict[str, Any]]:
        return [{"piece_index": 0, "blocks": [{"state": state} for state in self._states]}] if self._states else []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "FULL_S", 0.01)
    monkeypatch.setattr(giving, "AGAIN_S", 0.02)
    monkeypatch.setattr(giving, "REFUSED_S", 0.0)


class Desk:
    """A giver with the torrents that it gets one after the other: each restart brings the next."""

    def __init__(self) -> None:
        self.torrents: list[Torrent] = []
        self.right: set[int] = set()
        self.restarts = 0
        self.giver = Giver(self._current, self._restart)

    async def _current(self) -> Torrent:
        return self.torrents[self.restarts]

    def _restart(self) -> None:
        self.restarts += 1

    def take(self) -> None:
        self.right.add(0)
        self.giver.taken(0)

    async def give(self) -> bool:
        with anyio.fail_after(DEADLINE_S):
            await self.giver.give(0, b"piece", lambda: 0 in self.right)
        return 0 in self.right


async def test_a_piece_that_is_held_in_full_and_never_checked_takes_a_new_start() -> None:
    desk = Desk()
    desk.torrents = [Torrent(states=(WRITTEN, WRITTEN)), Torrent(desk.take)]
    assert await desk.give()
    assert desk.restarts == 1 and desk.torrents[0].taken == 1


@pytest.mark.parametrize("states", [(), (WRITTEN, WRITTEN - 1)], ids=["forgotten", "being written"])
async def test_a_piece_of_which_nothing_is_heard_is_given_again(states: tuple[int, ...]) -> None:
    desk = Desk()
    torrent = Torrent(states=states)
    torrent._then = lambda: desk.take() if torrent.taken == 3 else None
    desk.torrents = [torrent]
    assert await desk.give()
    assert desk.restarts == 0 and torrent.taken == 3


async def test_a_piece_is_wrong_when_it_was_refused_often_and_not_when_it_was_refused_once() -> None:
    desk = Desk()
    refusing = Torrent(lambda: desk.giver.refused(0))
    desk.torrents = [refusing]
    assert not await desk.give()
    assert refusing.taken == MAX_REFUSALS

    desk = Desk()
    late = Torrent()
    late._then = lambda: desk.take() if late.taken == 2 else desk.giver.refused(0)
    desk.torrents = [late]
    assert await desk.give()
