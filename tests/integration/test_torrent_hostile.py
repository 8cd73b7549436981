"""Peers that serve wrong bytes: the fetch ends right, they are shut out, and honest peers are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hali.model.units import KIB, MIB, PIECE
from hali.transfer.session import FetchFailed, Finished, PeerBanned, PieceFailed, TorrentSession
from tests.fakes.corrupt_peer import CorruptPeer
from tests.fakes.torrents import Sample, events_of, make, two_sessions

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0  # all of these end in a few seconds; stalls are 3 s each


def attackers(sample: Sample, count: int) -> list[CorruptPeer]:
    infohash = sample.metainfo.infohashes.v1 or ""
    length = sample.metainfo.piece_length
    return [CorruptPeer(infohash, sample.content, length, address=f"127.0.66.{i + 1}") for i in range(count)]


@asynccontextmanager
async def attacking(session: TorrentSession, peers: list[CorruptPeer]) -> AsyncIterator[None]:
    """The attackers dial `session` for the length of the block, and have arrived before a fetch begins to find honest peers."""
    async with anyio.create_task_group() as group:
        for peer in peers:
            group.start_soon(peer.attack, "127.0.0.1", session.port)
        yield
        group.cancel_scope.cancel()


@pytest.mark.parametrize("piece", [256 * KIB, PIECE], ids=["256 KiB", "16 MiB"])
async def test_with_a_corrupt_and_an_honest_peer_the_fetch_ends_right_and_the_corrupt_one_is_banned(
    tmp_path: Path, piece: int
) -> None:
    sample = make(tmp_path / "seed", 40 * MIB, piece)
    bad = attackers(sample, 1)
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        honest = [("127.0.0.1", seeder.port)]
        async with attacking(leecher, bad), leecher.fetch(sample.metainfo, tmp_path) as fetch:
            await until(lambda: bad[0].served > 0)  # the attacker is in before there is anybody else
            fetch.add_peers(honest)
            with anyio.fail_after(DEADLINE_S):
                events = await events_of(fetch)

    assert events[-1] == Finished()
    assert (tmp_path / "model.gguf").read_bytes() == sample.content
    assert PeerBanned(bad[0].address) in events
    assert any(isinstance(event, PieceFailed) for event in events)


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)], ids=["nobody trusted", "honest peer trusted"])
async def test_nine_of_ten_peers_corrupt_do_not_stop_the_fetch(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    """libtorrent alone finishes 1 of 18 of these (security.md, first fact)."""
    sample = make(tmp_path / "seed", 24 * MIB, MIB)
    bad = attackers(sample, 9)
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        honest = [("127.0.0.1", seeder.port)]
        async with attacking(leecher, bad), leecher.fetch(sample.metainfo, tmp_path, trusted_peers=trusted) as fetch:
            await until(lambda: all(peer.connections for peer in bad))
            fetch.add_peers(honest)
            with anyio.fail_after(DEADLINE_S):
                events = await events_of(fetch)

    assert events[-1] == Finished()
    assert (tmp_path / "model.gguf").read_bytes() == sample.content
    banned = {event.address for event in events if isinstance(event, PeerBanned)}
    assert banned <= {peer.address for peer in bad} | ({"127.0.0.1"} if not trusted else set())


async def test_with_only_corrupt_peers_the_fetch_fails_with_that_reason(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 4 * MIB, MIB)
    bad = attackers(sample, 2)
    async with (
        two_sessions() as (_, leecher),
        attacking(leecher, bad),
        leecher.fetch(sample.metainfo, tmp_path) as fetch,
    ):
        with anyio.fail_after(DEADLINE_S):
            event = (await events_of(fetch))[-1]

    assert isinstance(event, FetchFailed) and event.code == "hostile"


async def test_an_attacker_of_one_fetch_may_still_be_served(tmp_path: Path) -> None:
    """Bars are for fetching: they must not cut a seed off from an address that others may share."""
    sample = make(tmp_path / "seed", 4 * MIB, MIB)
    wanted = make(tmp_path / "wanted", 4 * MIB + 1, MIB, name="other.gguf")
    bad = attackers(sample, 1)
    async with two_sessions() as (friend, leecher):
        await leecher.seed(wanted.metainfo.raw, wanted.path.parent)
        async with attacking(leecher, bad), leecher.fetch(sample.metainfo, tmp_path) as fetch:
            async for event in fetch.events():
                if event == PeerBanned(bad[0].address):
                    break
            leecher.blame(fetch, frozenset({"127.0.0.1"}))  # as if the friend's address had been proven guilty
            with anyio.fail_after(DEADLINE_S):
                async with friend.fetch(wanted.metainfo, tmp_path, peers=[("127.0.0.1", leecher.port)]) as served:
                    assert (await events_of(served))[-1] == Finished()


async def until(condition: Callable[[], bool]) -> None:
    """Poll `condition` with a deadline."""
    with anyio.fail_after(DEADLINE_S):
        while not condition():
            await anyio.sleep(0.01)
