"""Torrents of several files between real libtorrent sessions on the loopback interface."""

from __future__ import annotations

from pathlib import Path

import anyio
import libtorrent as lt
import pytest

from hali.model.units import MIB, PIECE
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.session import Fetch, FetchFailed, Finished, MetadataReceived, PieceDone
from tests.fakes import plain_client
from tests.fakes.bundles import torrent_by_hali, torrent_by_libtorrent, write
from tests.fakes.torrents import events_of, two_sessions

pytestmark = pytest.mark.anyio
LENGTHS = {"M-00001-of-00002.gguf": PIECE + 5 * MIB, "M-00002-of-00002.gguf": 3 * MIB + 1, "mmproj.gguf": 70_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "seed" / "M", LENGTHS)


def assert_same(one: Path, other: Path) -> None:
    """The same files, and no others: padding is never written."""
    assert sorted(path.name for path in one.iterdir()) == sorted(LENGTHS)
    for name in LENGTHS:
        assert (one / name).read_bytes() == (other / name).read_bytes()


async def test_what_hali_builds_is_seeded_unread_and_fetched_side_by_side_without_padding(
    folder: Path, tmp_path: Path
) -> None:
    metainfo = parse(torrent_by_hali(folder))
    out = tmp_path / "out"
    out.mkdir()
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(metainfo.raw, folder)
        async with leecher.fetch(metainfo, out, peers=[("127.0.0.1", seeder.port)]) as fetch:
            events = await events_of(fetch)
    assert sorted(e.index for e in events if isinstance(e, PieceDone)) == [0, 1, 2, 3]
    assert_same(out, folder)


async def test_pieces_that_are_there_are_not_fetched_again_in_any_of_the_files(folder: Path, tmp_path: Path) -> None:
    metainfo = parse(torrent_by_hali(folder))
    out = write(tmp_path / "out", {})
    for name in list(LENGTHS)[:2]:
        (out / name).write_bytes((folder / name).read_bytes())
    with plain_client.seeder(metainfo.raw, folder.parent) as theirs:
        peers = [("127.0.0.1", int(theirs.peer.rpartition(":")[2]))]
        async with two_sessions() as (_, leecher), leecher.fetch(metainfo, out, peers=peers, have=[0, 1, 2]) as fetch:
            events = await events_of(fetch)
        assert {piece for piece, _ in theirs.served()} == {3}
    assert [e.index for e in events if isinstance(e, PieceDone)] == [3]
    assert_same(out, folder)


@pytest.mark.parametrize("flags", [None, lt.create_torrent.v2_only])
async def test_pieces_given_from_elsewhere_are_written_to_their_files(
    flags: int | None, folder: Path, tmp_path: Path
) -> None:
    metainfo = parse(bytes(lt.bencode(torrent_by_libtorrent(folder, PIECE, flags))))
    out = write(tmp_path / "out", {})
    async with two_sessions() as (_, leecher), leecher.fetch(metainfo, out) as fetch:
        with anyio.fail_after(30):
            for index in reversed(range(metainfo.pieces)):
                assert await fetch.give(index, piece(metainfo, folder, index))
            events = await events_of(fetch)
    assert isinstance(events[-1], Finished)
    assert_same(out, folder)


def piece(metainfo: Metainfo, folder: Path, index: int) -> bytes:
    file, local = metainfo.map.locate(index)
    return (folder / metainfo.files[file].path[0]).read_bytes()[local * PIECE : (local + 1) * PIECE]


async def test_a_wrong_piece_at_the_end_of_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    metainfo = parse(torrent_by_hali(folder))
    wrong = bytearray(piece(metainfo, folder, 1))
    wrong[-1] ^= 1
    async with two_sessions() as (_, leecher), leecher.fetch(metainfo, write(tmp_path / "out", {})) as fetch:
        with anyio.fail_after(30):
            assert not await fetch.give(1, bytes(wrong))


async def test_a_plain_client_fetches_what_hali_seeds_by_magnet(folder: Path, tmp_path: Path) -> None:
    metainfo = parse(torrent_by_hali(folder))
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(metainfo.raw, folder)
        async with leecher.fetch(Magnet(metainfo.infohashes), tmp_path, peers=[("127.0.0.1", seeder.port)]) as fetch:
            event = await first(fetch)
        assert isinstance(event, MetadataReceived) and parse(event.metainfo).infohashes == metainfo.infohashes
        done = await anyio.to_thread.run_sync(fetch_plainly, metainfo, tmp_path, seeder.port)
    assert done
    assert_same(tmp_path / "plain" / "M", folder)


async def first(fetch: Fetch) -> object:
    return next(e for e in await _until(fetch) if isinstance(e, MetadataReceived | FetchFailed))


async def _until(fetch: Fetch) -> list[object]:
    found: list[object] = []
    async for event in fetch.events():
        found.append(event)
        if isinstance(event, MetadataReceived):
            break
    return found


def fetch_plainly(metainfo: Metainfo, tmp_path: Path, port: int) -> bool:
    magnet = f"magnet:?xt=urn:btih:{metainfo.infohashes.v1}"
    (tmp_path / "plain").mkdir()
    return plain_client.fetch(magnet, str(tmp_path / "plain"), f"127.0.0.1:{port}")
