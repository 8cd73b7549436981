"""Content, and torrents of it made by libtorrent's own tool, for tests of transfers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import blake3
import libtorrent as lt

from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.session import Fetch, FetchEvent, Progress, SessionOptions, TorrentSession, running

KINDS = {"v1": lt.create_torrent.v1_only, "hybrid": 0, "v2": lt.create_torrent.v2_only}  # flags of libtorrent
LOCAL = SessionOptions(addresses=("127.0.0.1",), lsd=False)


class Sample(NamedTuple):
    """A file, its content and the torrent of it."""

    path: Path
    content: bytes
    metainfo: Metainfo


def content(length: int, key: str = "hali") -> bytes:
    """Bytes that look random and are the same in every run."""
    return blake3.blake3(key.encode()).digest(length=length)


def make(folder: Path, length: int, piece: int, flags: int = 0, name: str = "model.gguf") -> Sample:
    """Write a file into `folder` and make its torrent."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    data = content(length)
    path.write_bytes(data)
    return Sample(path, data, parse(torrent_of(path, piece, flags)))


def torrent_of(path: Path, piece: int, flags: int = 0) -> bytes:
    """What libtorrent makes of a file or folder, bencoded."""
    creator = lt.create_torrent(lt.list_files(str(path)), piece, flags)
    lt.set_piece_hashes(creator, str(path.parent))
    return bytes(lt.bencode(creator.generate()))


Pair = tuple[TorrentSession, TorrentSession]


@asynccontextmanager
async def two_sessions(seeder: SessionOptions = LOCAL, leecher: SessionOptions = LOCAL) -> AsyncIterator[Pair]:
    """Two sessions of one machine."""
    async with running(seeder) as one, running(leecher) as other:
        yield one, other


def local(session: TorrentSession) -> list[tuple[str, int]]:
    """Where peers of this machine find it."""
    return [("127.0.0.1", session.port)]


async def events_of(fetch: Fetch) -> list[FetchEvent]:
    """All events to the last but the progress."""
    return [event async for event in fetch.events() if not isinstance(event, Progress)]


def piece_in_file(path: Path, metainfo: Metainfo, index: int) -> bytes:
    """What a reader gets for piece `index` right now."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, metainfo.piece_length, index * metainfo.piece_length)
    finally:
        os.close(fd)


def piece_of(sample: Sample, index: int) -> bytes:
    """What it has to be."""
    size = sample.metainfo.piece_length
    return sample.content[index * size : (index + 1) * size]


def info_of(raw: bytes) -> Any:
    """The info dictionary of a torrent."""
    torrent: Any = lt.bdecode(raw)
    return torrent[b"info"]


def magnet_of(torrent: Metainfo, *peers: str) -> str:
    """As other clients write it."""
    hashes = torrent.infohashes
    topics = [f"xt=urn:btih:{hashes.v1}"] if hashes.v1 else []
    topics += [f"xt=urn:btmh:1220{hashes.v2}"] if hashes.v2 else []
    return "magnet:?" + "&".join([*topics, f"dn={quote(torrent.name)}", *(f"x.pe={peer}" for peer in peers)])
