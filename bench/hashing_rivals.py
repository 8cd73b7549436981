"""Other ways to the digests of a file, each with its best setting known to us."""

from __future__ import annotations

import hashlib
import mmap
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt
import torf

from hali.model.units import BLOCK, PIECE

READ = 1 << 20  # bytes; from 64 KiB to 16 MiB tried, the fastest for hashlib


def sha1_by_read(path: Path) -> bytes:
    """hashlib's SHA-1 of each piece, read into one buffer."""
    buffer, digests = bytearray(READ), []
    with path.open("rb", buffering=0) as file:
        for start in range(0, path.stat().st_size, PIECE):
            piece = hashlib.sha1(usedforsecurity=False)
            for _ in range(start, start + PIECE, READ):
                count = file.readinto(buffer)
                piece.update(buffer if count == READ else memoryview(buffer)[:count])
            digests.append(piece.digest())
    return b"".join(digests)


def sha1_by_mmap(path: Path) -> bytes:
    """hashlib's SHA-1 of each piece of a mapped file: no copy, but a file cut short meanwhile ends the process."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        pieces = range(0, len(view), PIECE)
        return b"".join(hashlib.sha1(view[at : at + PIECE], usedforsecurity=False).digest() for at in pieces)


def merkle(path: Path) -> tuple[bytes, bytes]:
    """The v2 root and piece layer by hashlib; the file has several whole pieces."""
    buffer, layer = memoryview(bytearray(PIECE)), []
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            leaves = [hashlib.sha256(buffer[at : at + BLOCK]).digest() for at in range(0, PIECE, BLOCK)]
            layer.append(_root(leaves))
    padding = _root([bytes(32)] * (PIECE // BLOCK))
    count = 1 << (len(layer) - 1).bit_length()
    return _root(layer + [padding] * (count - len(layer))), b"".join(layer)


def _root(level: list[bytes]) -> bytes:
    while len(level) > 1:
        level = [hashlib.sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
    return level[0]


def whole_file(path: Path) -> tuple[bytes, bytes]:
    """SHA-256 by hashlib and BLAKE3 with all cores."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
    return sha256, blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(path).digest()


def one_after_the_other(path: Path) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """SHA-256, BLAKE3, SHA-1 pieces, v2 root and layer: four passes."""
    return *whole_file(path), sha1_by_read(path), *merkle(path)


def libtorrent_creation(path: Path, flags: Any = 0) -> dict[bytes, Any]:
    """The torrent that libtorrent makes, hybrid unless flags say otherwise; its binding hashes with one thread."""
    torrent = lt.create_torrent([lt.create_file_entry(path.name, path.stat().st_size)], PIECE, flags)
    lt.set_piece_hashes(torrent, str(path.parent))
    made: dict[bytes, Any] = torrent.generate()
    return made


def libtorrent_and_the_rest(path: Path) -> tuple[dict[bytes, Any], bytes, bytes]:
    """A hybrid torrent by libtorrent, and the two digests that it does not make."""
    return libtorrent_creation(path), *whole_file(path)


def libtorrent_check(path: Path, torrent: lt.torrent_info, threads: int) -> None:
    """A session that checks the file against its hybrid torrent with so many hashing threads."""
    quiet = dict.fromkeys(("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp"), False)
    settings = {"hashing_threads": threads, "listen_interfaces": "127.0.0.1:0", "alert_mask": lt.alert_category.status}
    session = lt.session({**settings, **quiet})
    parameters = lt.add_torrent_params()
    parameters.ti, parameters.save_path = torrent, str(path.parent)
    handle = session.add_torrent(parameters)
    while not handle.status().is_seeding:
        session.wait_for_alert(1000)
        session.pop_alerts()


def mktorrent(path: Path, threads: int) -> None:
    """mktorrent, which makes v1 torrents: a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mktorrent", "-l", "24", "-t", str(threads), "-a", "http://localhost/", "-o", f"{folder}/a.torrent"]
        subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL)


def torf_creation(path: Path, threads: int) -> bytes:
    """torf, which makes v1 torrents by hashlib in threads."""
    torrent = torf.Torrent(path, piece_size_max=PIECE)
    torrent.piece_size = PIECE
    torrent.generate(threads=threads)
    pieces: bytes = torrent.metainfo["info"]["pieces"]
    return pieces
