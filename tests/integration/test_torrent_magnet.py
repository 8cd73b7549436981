"""A fetch by magnet keeps the seed that told it the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.model.ids import InfoHashes
from hali.model.units import MIB
from hali.transfer.guard import Guard
from hali.transfer.magnet import Magnet
from hali.transfer.session import FetchFailed, Finished, MetadataReceived, PieceDone
from tests.fakes.torrents import make, two_sessions

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0


async def test_the_seed_of_a_magnet_stays_connected_until_pieces_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libtorrent hangs up on a seed that is asked for nothing, and dials it again after a second."""
    gone: list[str] = []
    left = Guard.left

    def noted(guard: Guard, host: str, *rest: Any, **more: Any) -> None:
        gone.append(host)
        left(guard, host, *rest, **more)

    monkeypatch.setattr(Guard, "left", noted)
    sample = make(tmp_path / "seed", 8 * MIB, MIB)
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        leecher.set_rates(upload=0, download=4 * MIB)  # the end, when both part, is far away
        peers = [("127.0.0.1", seeder.port)]
        async with leecher.fetch(Magnet(sample.metainfo.infohashes), tmp_path, peers=peers) as fetch:
            with anyio.fail_after(DEADLINE_S):
                async for event in fetch.events():
                    if isinstance(event, MetadataReceived):
                        fetch.leave_out(())  # the owner has looked around for other sources
                    if isinstance(event, PieceDone):
                        assert not gone
                        return
    pytest.fail("no piece came")


async def test_of_two_hashes_of_one_torrent_fetched_at_once_the_first_goes_on(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 2 * MIB, MIB)
    hashes = sample.metainfo.infohashes
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        peers = [("127.0.0.1", seeder.port)]
        with anyio.fail_after(DEADLINE_S):
            async with leecher.fetch(Magnet(InfoHashes(v1=hashes.v1)), tmp_path / "first") as first:
                async with leecher.fetch(Magnet(InfoHashes(v2=hashes.v2)), tmp_path / "second") as second:
                    first.add_peers(peers)
                    second.add_peers(peers)
                    (*_, end) = [event async for event in second.events()]
                    assert isinstance(end, FetchFailed) and end.code == "duplicate"
                (*_, end) = [event async for event in first.events()]
                assert isinstance(end, Finished)
    assert (tmp_path / "first" / "model.gguf").read_bytes() == sample.content
