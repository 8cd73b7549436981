"""What the session tells libtorrent on behalf of several fetches; libtorrent itself is replaced by a record of what it was told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import libtorrent as lt
import pytest

from hali.model.errors import Failed
from hali.model.ids import InfoHashes
from hali.model.units import BLOCK, MIB
from hali.transfer import alerts
from hali.transfer.auditing import MOST
from hali.transfer.events import PieceDone, StartedOver
from hali.transfer.fetching import Fetch
from hali.transfer.guard import RETURN_S
from hali.transfer.magnet import Magnet
from hali.transfer.options import ALERTS, ALERTS_WITH_BLOCKS
from hali.transfer.rescue import Bars
from hali.transfer.session import TorrentSession
from tests.fakes.torrents import LOCAL, make

pytestmark = pytest.mark.anyio

ASIDE = "10.0.0.1"


class Told:
    """In place of a libtorrent session. It takes the torrent called `slow` once that event is set, and refuses any other."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.filter = lt.ip_filter()
        self.slow = threading.Event()

    def apply_settings(self, changes: dict[str, Any]) -> None:
        self.settings |= changes

    def set_ip_filter(self, wanted: lt.ip_filter) -> None:
        self.filter = wanted

    def bars(self, host: str) -> bool:
        return bool(self.filter.access(host))

    def add_torrent(self, wanted: lt.add_torrent_params) -> str:
        if wanted.name != "slow":
            raise RuntimeError("no such torrent")
        assert self.slow.wait(30)
        return "slow"


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def session(told: Any) -> TorrentSession:
    made = TorrentSession(LOCAL)
    made._lt = told
    return made


def fetch(session: TorrentSession, folder: Path, digit: str = "1", *hosts: str) -> Fetch:
    return session.fetch(Magnet(InfoHashes(digit * 40)), folder, peers=[(host, 6881) for host in hosts])


async def test_who_is_put_aside_is_let_in_while_a_second_fetch_runs(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    one, other = fetch(session, tmp_path), fetch(session, tmp_path, "2")
    session.enter(one)
    session.blame(one, Bars(aside=frozenset({ASIDE})))
    assert told.bars(ASIDE)

    session.enter(other)
    assert not told.bars(ASIDE)

    session.leave(other)
    assert told.bars(ASIDE)


NODE = b"n" * 20
OTHER = "10.0.0.2"


class Meeting:
    """A fetch that is told of connections."""

    def __init__(self, told: Told, session: TorrentSession, folder: Path, *trusted: str) -> None:
        sample = make(folder, 3 * MIB, MIB)
        self._told, self.fetch = told, session.fetch(sample.metainfo, folder, trusted_peers=trusted)
        session.enter(self.fetch)

    def come(self, host: str, port: int = 6881) -> None:
        self.fetch._on_alert(alerts.PeerConnected(host, port))

    def go(self, host: str, peer_id: bytes = NODE) -> None:
        self.fetch._on_alert(alerts.PeerGone(host, False, peer_id))

    def flap(self, *, peer_id: bytes = NODE) -> None:
        """Two connections end each other: the second's address is known by its end, the first is left while it is back."""
        for host in (ASIDE, OTHER):
            self.come(host)
        self.go(OTHER, peer_id)
        assert not self.aside  # nobody knows yet whose the other connection is
        self.come(OTHER)
        self.go(ASIDE, peer_id)

    def later(self, seconds: float) -> None:
        self.fetch._guard.tick(anyio.current_time() + seconds)

    @property
    def aside(self) -> set[str]:
        return {host for host in (ASIDE, OTHER) if self._told.bars(host)}


async def test_of_two_addresses_of_one_node_the_one_left_is_put_aside_until_it_stays_away_from_the_other(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    one = Meeting(told, session, tmp_path, ASIDE, OTHER, "10.0.0.3")
    one.flap()
    assert one.aside == {ASIDE}

    one.go(OTHER)
    one.later(RETURN_S / 2)
    assert one.aside == {ASIDE}
    one.come(OTHER)
    one.go("10.0.0.3", b"x" * 20)
    one.later(2 * RETURN_S)
    assert one.aside == {ASIDE}

    one.go(OTHER)
    one.later(2 * RETURN_S)
    assert not one.aside


async def test_an_address_where_somebody_else_is_connected_is_not_put_aside(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    one = Meeting(told, session, tmp_path, ASIDE, OTHER)
    one.come(ASIDE, 6882)
    one.flap()
    assert not one.aside


async def test_who_has_not_said_who_he_is_is_at_no_second_address(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    one = Meeting(told, session, tmp_path, ASIDE, OTHER)
    one.flap(peer_id=bytes(20))
    assert not one.aside


@pytest.mark.parametrize("trusted", [(), (ASIDE,), (OTHER,)])
async def test_a_stranger_by_the_name_of_another_takes_nobodys_place(
    told: Told, session: TorrentSession, tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    one = Meeting(told, session, tmp_path, *trusted)
    one.flap()
    assert not one.aside


async def test_of_pieces_that_libtorrent_throws_away_only_those_are_fetched_again_that_were_written_over(
    session: TorrentSession, tmp_path: Path
) -> None:
    sample = make(tmp_path, 3 * MIB, MIB)
    with sample.path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"of a liar")
    one = session.fetch(sample.metainfo, tmp_path, have={0, 1, 2}, trusted_peers=[ASIDE])
    for index in range(3):
        one._guard.sent(index, ASIDE, MIB // BLOCK, 0.0)
        one._on_alert(alerts.HashFailed(index))
    await one._recheck()

    assert one._done == {0, 2}
    told_again = {event.index for event in one._outbox if isinstance(event, PieceDone)}
    assert told_again == {0, 2}  # no event of a wrong piece: nothing was wrong …
    assert {type(event) for event in one._outbox} == {StartedOver, PieceDone}
    assert one._guard.evidence.trusted == {ASIDE}  # … so that it is nobody's fault

    sample.path.unlink()
    one._on_alert(alerts.HashFailed(0))
    await one._recheck()
    assert one._done == {2}


async def test_a_fetch_that_cannot_start_leaves_no_bars_and_no_block_alerts_behind(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    refused = fetch(session, tmp_path, "1", "10.0.0.2", "10.0.0.3")
    session.blame(refused, Bars(guilty=frozenset({ASIDE})))
    assert told.bars(ASIDE) and told.settings["alert_mask"] == ALERTS_WITH_BLOCKS

    with pytest.raises(Failed):
        await refused.__aenter__()

    assert not told.bars(ASIDE)
    assert told.settings["alert_mask"] == ALERTS


async def test_a_torrent_that_cannot_be_added_takes_no_alert_from_one_that_is_just_being_added(
    told: Told, session: TorrentSession
) -> None:
    wanted, refused, heard = lt.add_torrent_params(), lt.add_torrent_params(), list[alerts.Alert]()
    wanted.name = "slow"
    handle: Any = "slow"
    early = alerts.StateChanged("seeding")
    async with anyio.create_task_group() as group:
        group.start_soon(session.add, wanted, heard.append)
        await anyio.wait_all_tasks_blocked()
        session._to_torrent(handle, early)
        with pytest.raises(Failed):
            await session.add(refused, heard.append)
        told.slow.set()

    assert heard == [early]


async def test_pieces_left_out_before_the_metadata_came_keep_the_connections_after_it(
    told: Told, session: TorrentSession, tmp_path: Path
) -> None:
    running = fetch(session, tmp_path)
    running.leave_out([0])

    running._begin()
    assert told.settings["close_redundant_connections"] is False

    running.take_back([0])
    assert told.settings["close_redundant_connections"] is False  # before anything was asked for
    running._take(alerts.Snapshot("downloading", False, None, 0.0, 0, 1, 1, 0, 0, 1, 0, None))
    assert told.settings["close_redundant_connections"] is True


async def test_a_peer_that_dials_in_again_and_again_takes_no_more_memory(session: TorrentSession) -> None:
    fetch = session.fetch(Magnet(InfoHashes(v1="0" * 40)), Path("/nowhere"), peers=[("10.0.0.1", 6881)])
    for port in range(10_000, 10_000 + 2 * MOST):
        fetch._on_alert(alerts.PeerConnected("10.0.0.2", port))
        fetch._on_alert(alerts.PeerGone("10.0.0.2", caught=False))
    assert len(fetch._peers) == MOST and next(iter(fetch._peers)) == ("10.0.0.1", 6881)
