"""Writes bep52.txt: digests of files of telling lengths, computed by libtorrent, hashlib and blake3, not by hali.

Run `python tests/vectors/hashing/make_bep52.py`. The files are prefixes of one BLAKE3 output stream, so that no bytes
need to be stored. Columns: length, sha256, blake3, SHA-1 pieces, v2 pieces root, v2 piece layer; `-` stands for
nothing (an empty file has no root, a file of at most one piece no layer).
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt

BLOCK, PIECE = 1 << 14, 1 << 24
SEED = b"hali hashing vectors"
LENGTHS = [
    *(0, 1, 55, 56, 63, 64, 65),
    *(BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, 5 * BLOCK + 7),
    *(PIECE - BLOCK, PIECE - 1, PIECE, PIECE + 1, PIECE + BLOCK),
    *(2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, 3 * PIECE - BLOCK - 1, 3 * PIECE),
    *(4 * PIECE, 4 * PIECE + 63, 5 * PIECE - 12345),
]


def torrent_fields(folder: Path, name: str, length: int) -> tuple[bytes, bytes, bytes]:
    """SHA-1 pieces, pieces root and piece layer in the hybrid torrent that libtorrent makes of a file."""
    if length == 0:  # libtorrent refuses a torrent without bytes; BEP 52 gives an empty file no root
        return b"", b"", b""
    torrent = lt.create_torrent([lt.create_file_entry(name, length)], PIECE)
    lt.set_piece_hashes(torrent, str(folder))
    made: dict[bytes, Any] = torrent.generate()
    root = made[b"info"][b"file tree"][name.encode()][b""][b"pieces root"]
    return made[b"info"][b"pieces"], root, made[b"piece layers"].get(root, b"")


def main() -> None:
    """Write the table next to this file."""
    data = blake3.blake3(SEED).digest(length=max(LENGTHS))
    lines = ["# written by make_bep52.py; length sha256 blake3 sha1_pieces v2_root v2_layer"]
    with tempfile.TemporaryDirectory() as name:
        for length in LENGTHS:
            part = data[:length]
            Path(name, "file").write_bytes(part)
            digests = hashlib.sha256(part).digest(), blake3.blake3(part).digest()
            fields = [*digests, *torrent_fields(Path(name), "file", length)]
            lines.append(" ".join([str(length), *(field.hex() or "-" for field in fields)]))
    Path(__file__).with_name("bep52.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
