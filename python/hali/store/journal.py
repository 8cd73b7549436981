"""The journal of an unfinished file: which pieces are on disk and verified, so that a restart neither fetches nor hashes them again.

A file of fixed-size records, appended after the bytes they speak of. A record counts only if its CRC is right; a torn tail is cut off.
Data written but not synced survives `kill -9` but not a power cut: the header names the boot, and records of another boot are only hints.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec

from hali.model.digests import PieceDigests
from hali.model.errors import StoreDamaged
from hali.model.sources import PieceSource, SourceKind
from hali.model.units import piece_count
from hali.runtime.processes import boot_id

MAGIC = b"HALIJ1\n"
_PIECE, _MIDSTATE, _TORRENT = b"P", b"M", b"T"
_RECORD = struct.Struct(
    "<cBHI84sI"
)  # kind, source and its LAN blocks (model/sources.py), index, body, CRC-32 of all before it
_DIGESTS = struct.Struct("<20s32s32s")


class Header(msgspec.Struct, frozen=True):
    """What the file will be. A journal with another header is of another file and is not believed."""

    length: int
    boot: str
    name: str = ""  # the file beside the journal whose bytes it speaks of
    sha256: str | None = None  # pinned, when known
    # What else must be equal: infohash of the torrent whose pieces `T` counts, or the time of an imported file.
    tag: str | None = None


class Journal:
    """Open with `open`; `record_*` are durable against kill -9 as soon as they return."""

    def __init__(self, path: Path, header: Header, same_boot: bool) -> None:
        self.path = path
        self.header = header
        self.same_boot = same_boot  # False: the machine went down since; verify what the journal says
        self.pieces: dict[int, PieceDigests] = {}
        self.torrent_pieces: set[int] = set()
        self.sources: dict[int, PieceSource] = {}  # of pieces; those of the torrent's pieces are beside them
        self.torrent_sources: dict[int, PieceSource] = {}
        self.midstate: bytes | None = None
        self._fd = -1

    @classmethod
    def open(
        cls, path: Path, length: int, *, name: str = "", sha256: str | None = None, tag: str | None = None
    ) -> Self:
        """Continue the journal at `path` if it speaks of this very file, else begin a new one."""
        wanted = Header(length, boot_id(), name, sha256, tag)
        old = _read_header(path)
        fits = old is not None and _same_file(old[0], wanted)
        journal = cls(path, wanted, same_boot=not fits or (old is not None and old[0].boot == wanted.boot))
        if fits and old is not None:
            journal._load(old[1])
            journal.header = old[0]  # with its boot: a crash before `confirm` must not make facts of hints
        journal._rewrite()
        return journal

    def _load(self, body: bytes) -> None:
        count = piece_count(self.header.length)
        for kind, source, index, data in _records(body):
            if kind == _PIECE and index < count:
                self.pieces[index] = PieceDigests(*_DIGESTS.unpack(data))
                self.sources[index] = source
            elif kind == _TORRENT:
                self.torrent_pieces.add(index)
                self.torrent_sources[index] = source
            elif kind == _MIDSTATE:
                self.midstate = data[:index]

    def _rewrite(self) -> None:
        """Start the file afresh with what is known: drops torn tails and superseded midstates."""
        temporary = self.path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as out:  # "x" opens no symbolic link that lies there
            header = msgspec.json.encode(self.header)
            out.write(MAGIC + struct.pack("<I", len(header)) + header)
            for index, digests in self.pieces.items():
                out.write(_piece_record(index, digests, self.sources.get(index, PieceSource())))
            for index in self.torrent_pieces:
                out.write(_pack(_TORRENT, index, b"", self.torrent_sources.get(index, PieceSource())))
            if self.midstate is not None:
                out.write(_pack(_MIDSTATE, len(self.midstate), self.midstate))
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, self.path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def record_piece(
        self, index: int, digests: PieceDigests, midstate: bytes | None = None, source: PieceSource | None = None
    ) -> None:
        """Piece `index` is in the file and has these digests; `midstate` is the SHA-256 state of the prefix, if it moved."""
        self.pieces[index] = digests
        # A piece that is hashed later than it came has its source on record already.
        source = self.sources[index] = source or self.sources.get(index, PieceSource())
        data = _piece_record(index, digests, source)
        if midstate is not None:
            self.midstate = midstate
            data += _pack(_MIDSTATE, len(midstate), midstate)
        os.write(self._fd, data)

    def record_midstate(self, midstate: bytes) -> None:
        """The SHA-256 state of the prefix moved on."""
        self.midstate = midstate
        os.write(self._fd, _pack(_MIDSTATE, len(midstate), midstate))

    def record_torrent_piece(self, index: int, source: PieceSource | None = None) -> None:
        """Piece `index` of the torrent (its own piece size) is in the file."""
        self.torrent_pieces.add(index)
        source = self.torrent_sources[index] = source or PieceSource()
        os.write(self._fd, _pack(_TORRENT, index, b"", source))

    def forget_piece(self, index: int) -> None:
        """The bytes of piece `index` turned out wrong."""
        self.forget_pieces([index])

    def forget_pieces(self, indices: Iterable[int], torrent_pieces: Iterable[int] | None = None) -> None:
        """These pieces (16 MiB) turned out wrong, and these of the torrent, whose pieces are the same if None."""
        indices = list(indices)
        for index in indices:
            self.pieces.pop(index, None)
            self.sources.pop(index, None)
        for index in indices if torrent_pieces is None else list(torrent_pieces):
            self.torrent_pieces.discard(index)
            self.torrent_sources.pop(index, None)
        self.close()
        self.midstate = None
        self._rewrite()

    def confirm(self, torrent_pieces: set[int]) -> None:
        """All pieces, and of the torrent's these, were read and compared since the machine came up."""
        self.header = msgspec.structs.replace(self.header, boot=boot_id())
        self.torrent_pieces = torrent_pieces
        self.close()
        self._rewrite()

    def close(self) -> None:
        """Close the file; the journal stays for the next time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def readdress(path: Path, *, sha256: str | None, tag: str | None) -> None:
    """Let the journal at `path` be found under another pin and tag, of the same file. Whoever goes on under these checks the whole."""
    if (found := _read_header(path)) is None:
        return
    old = found[0]
    journal = Journal.open(path, old.length, name=old.name, sha256=old.sha256, tag=old.tag)
    journal.close()
    journal.header = msgspec.structs.replace(journal.header, sha256=sha256, tag=tag)
    journal._rewrite()
    journal.close()


def _same_file(old: Header, new: Header) -> bool:
    return (old.length, old.name, old.sha256, old.tag) == (new.length, new.name, new.sha256, new.tag)


def _piece_record(index: int, digests: PieceDigests, source: PieceSource) -> bytes:
    return _pack(_PIECE, index, _DIGESTS.pack(digests.sha1, digests.root, digests.cv), source)


def _pack(kind: bytes, index: int, data: bytes, source: PieceSource | None = None) -> bytes:
    if len(data) > 84:
        raise StoreDamaged(f"a journal record holds 84 bytes, not {len(data)}")
    source = source or PieceSource()
    body = _RECORD.pack(kind, source.kind, min(source.lan_blocks, 0xFFFF), index, data, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def _read_header(path: Path) -> tuple[Header, bytes] | None:
    """Header and the bytes after it; None when there is no journal or its start is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + 4
    if len(data) < start or not data.startswith(MAGIC):
        return None
    (size,) = struct.unpack_from("<I", data, len(MAGIC))
    try:
        return msgspec.json.decode(data[start : start + size], type=Header), data[start + size :]
    except msgspec.MsgspecError:
        return None


def _records(body: bytes) -> list[tuple[bytes, PieceSource, int, bytes]]:
    """Records up to the first torn or damaged one."""
    found = []
    for at in range(0, len(body) - _RECORD.size + 1, _RECORD.size):
        kind, source, lan_blocks, index, data, crc = _RECORD.unpack_from(body, at)
        if zlib.crc32(body[at : at + _RECORD.size - 4]) != crc:
            break
        found.append((kind, PieceSource(_kind(source), lan_blocks), index, data))
    return found


def _kind(number: int) -> SourceKind:
    """A kind that a later version wrote is unknown to this one."""
    return SourceKind(number) if number <= max(SourceKind) else SourceKind.UNKNOWN
