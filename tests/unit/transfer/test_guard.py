"""What a fetch concludes from who is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hali.model.units import MIB
from hali.transfer.guard import Guard
from tests.fakes.torrents import make


def guard(*liars: str) -> Guard:
    """Where each of these has sent a bad piece, and is gone."""
    nobody: Any = None  # neither a session nor a fetch is asked for that
    it = Guard(nobody, nobody, (), patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b"")
    for piece, liar in enumerate(liars):
        it.evidence.arrived(liar)
        it.evidence.sent(piece, liar, 1)
        it.evidence.failed(piece, 1)
        it.evidence.left(liar)
    return it


def test_with_nobody_but_liars_a_fetch_is_alone_and_with_an_honest_peer_that_may_come_back_it_is_not() -> None:
    it = guard("10.0.0.1", "10.0.0.2")
    assert it.alone
    it.evidence.audited("10.0.0.3", True)  # was asked by ourselves, and has no connection yet
    assert not it.alone


class Heard:
    """In place of a session, and of a torrent in it."""

    peer_id = b"m" * 20

    def __init__(self) -> None:
        self.priorities: dict[int, int] = {}

    def blame(self, *_: Any) -> None:
        pass

    def hold(self, *_: Any) -> None:
        pass

    def prioritize_pieces(self, changes: list[tuple[int, int]]) -> None:
        self.priorities |= dict(changes)


def test_strangers_that_came_before_the_metadata_are_asked_for_one_piece_only(tmp_path: Path) -> None:
    heard: Any = Heard()
    it = Guard(heard, heard, (), patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b"")
    it.attach(heard, 0.0)
    for i in range(5):
        it.arrived((f"10.0.0.{i}", 1), 0.0)  # of a port that nobody dials
    it.begin(make(tmp_path, 4 * MIB, MIB).metainfo, set(), 1.0)
    assert sorted(heard.priorities.values()) == [0, 0, 0, 4]


@pytest.mark.parametrize(("host", "strangers"), [("127.0.0.1", {1}), ("203.0.113.9", {1, 2})])
def test_a_connection_to_ourselves_leaves_everything_open_from_the_second_on(
    tmp_path: Path, host: str, strangers: set[int]
) -> None:
    """Not one to somebody elsewhere who calls himself by our id: nothing would be watched while he lies."""
    heard: Any = Heard()
    friend = "10.0.0.1"
    it = Guard(
        heard, heard, (friend,), patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b""
    )
    it.attach(heard, 0.0)
    it.begin(make(tmp_path, 4 * MIB, MIB).metainfo, set(), 0.0)
    it.arrived((friend, 1), 0.0)
    for time in (1, 2):
        it.arrived((host, 1), 1.0)
        assert it.window is not None and it.window.is_limited is (time in strangers)
        it.left(host, False, 1.0, peer_id=Heard.peer_id)
        assert not it.window.is_limited


def test_who_was_there_and_honest_when_the_torrent_was_removed_is_waited_for_without_strangers(tmp_path: Path) -> None:
    heard: Any = Heard()
    it = Guard(
        heard, heard, ("10.0.0.9",), patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b""
    )
    it.attach(heard, 0.0)
    it.begin(make(tmp_path, 4 * MIB, MIB).metainfo, set(), 0.0)
    it.evidence.failed(0, 64)
    it.arrived(("10.0.0.1", 1), 0.0)
    for now, honest_is_there in ((100.0, False), (200.0, True)):
        if honest_is_there:
            it.arrived(("10.0.0.9", 1), now)
        it.detach()
        it.attach(heard, now)
        assert ("10.0.0.1" in it.defence.bars(now).aside) == honest_is_there
