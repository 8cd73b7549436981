"""Nodes that hold some pieces of a torrent, between real libtorrent sessions on the loopback interface."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import libtorrent as lt
import pytest

from hali.model.errors import Refused, VerificationFailed
from hali.model.units import MIB, PIECE
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import Metainfo, of_info
from hali.transfer.session import FetchFailed, Finished, PieceDone, PieceFailed, TorrentSession, running
from tests.fakes.torrents import LOCAL, Sample, events_of, info_of, make, piece_of

pytestmark = pytest.mark.anyio

LENGTH = 72 * MIB  # five pieces, the last one short
PATIENCE = 30.0


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A file of five pieces and its torrent."""
    return make(tmp_path / "whole", LENGTH, PIECE)


def partial_copy(folder: Path, sample: Sample, have: set[int]) -> Path:
    """A folder with the file as a partial pull leaves it: full length, the pieces of `have`, holes elsewhere."""
    folder.mkdir()
    with (folder / "model.gguf").open("wb") as file:
        file.truncate(LENGTH)
        for index in have:
            file.seek(index * PIECE)
            file.write(piece_of(sample, index))
    return folder


async def holder(stack: AsyncExitStack, folder: Path, sample: Sample, have: set[int], raw: bytes) -> TorrentSession:
    session = await stack.enter_async_context(running(LOCAL))
    assert await session.seed_part(raw, partial_copy(folder, sample, have), have) == sample.metainfo.infohashes
    return session


def without_layers(metainfo: Metainfo) -> bytes:
    """As a node knows a torrent that it got by magnet."""
    return of_info(bytes(lt.bencode(info_of(metainfo.raw))))


@pytest.mark.parametrize("by", ["metainfo", "magnet"])
@pytest.mark.parametrize("layers", [True, False], ids=["piece layers known", "piece layers unknown"])
async def test_two_halves_make_a_whole(tmp_path: Path, sample: Sample, by: str, layers: bool) -> None:
    raw = sample.metainfo.raw if layers else without_layers(sample.metainfo)
    async with AsyncExitStack() as stack:
        one = await holder(stack, tmp_path / "one", sample, {0, 1, 3}, raw)
        other = await holder(stack, tmp_path / "other", sample, {1, 2, 4}, raw)
        leecher = await stack.enter_async_context(running(LOCAL))
        source = sample.metainfo if by == "metainfo" else Magnet(sample.metainfo.infohashes)
        peers = [("127.0.0.1", session.port) for session in (one, other)]
        with anyio.fail_after(PATIENCE):
            async with leecher.fetch(source, tmp_path / "new", peers=peers) as fetch:
                events = await events_of(fetch)
        assert isinstance(events[-1], Finished)
        assert {event.index for event in events if isinstance(event, PieceDone)} == set(range(5))
        assert (tmp_path / "new" / "model.gguf").read_bytes() == sample.content
        assert (await one.totals()).downloaded == 0 and (await other.totals()).downloaded == 0


async def test_a_part_serves_its_pieces_and_no_hole_and_its_file_stays_as_it_is(tmp_path: Path, sample: Sample) -> None:
    async with AsyncExitStack() as stack:
        one = await holder(stack, tmp_path / "one", sample, {0, 3}, sample.metainfo.raw)
        (status,) = await one.status()
        assert status.state == "seeding"
        leecher = await stack.enter_async_context(running(LOCAL))
        peers = [("127.0.0.1", one.port)]
        async with leecher.fetch(sample.metainfo, tmp_path / "new", peers=peers, patience_s=4.0) as fetch:
            events = await events_of(fetch)
        assert isinstance(events[-1], FetchFailed)
        assert {event.index for event in events if isinstance(event, PieceDone)} == {0, 3}
        assert not any(isinstance(event, PieceFailed) for event in events), "a hole was sent as a piece"
    expected = partial_copy(tmp_path / "expected", sample, {0, 3})
    assert (tmp_path / "one" / "model.gguf").read_bytes() == (expected / "model.gguf").read_bytes()


async def test_a_part_that_grew_replaces_itself_and_a_whole_file_replaces_the_part(
    tmp_path: Path, sample: Sample
) -> None:
    async with AsyncExitStack() as stack:
        one = await holder(stack, tmp_path / "one", sample, {0}, sample.metainfo.raw)
        folder = partial_copy(tmp_path / "more", sample, {0, 1})
        await one.seed_part(sample.metainfo.raw, folder, {0, 1})
        (status,) = await one.status()
        assert status.progress == pytest.approx(1.0), "of what is wanted"
        await one.seed(sample.metainfo.raw, sample.path.parent)
        assert len(await one.status()) == 1
        with pytest.raises(Refused):
            await one.seed_part(sample.metainfo.raw, folder, {0, 1})


async def test_a_part_whose_file_lost_its_length_is_not_served(tmp_path: Path, sample: Sample) -> None:
    folder = partial_copy(tmp_path / "one", sample, {0})
    with (folder / "model.gguf").open("r+b") as file:
        file.truncate(PIECE)
    async with running(LOCAL) as session:
        with pytest.raises(VerificationFailed):
            await session.seed_part(sample.metainfo.raw, folder, {0})
        assert await session.status() == []
