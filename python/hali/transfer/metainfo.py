"""`.torrent` files: built from our own digests with no second read, and parsed with limits.

Built torrents are hybrid (BEP 3 and BEP 52), 16 MiB pieces, without trackers or dates: the same bytes under the same name give
the same infohash on every machine. The rule has a name, `GENERATION`; another rule gets another name. Those of several files are
built by `bundle.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libtorrent as lt
import msgspec

from hali.model.digests import FileDigests
from hali.model.errors import ProtocolError, UsageError
from hali.model.filenames import safe_name, unsafe
from hali.model.ids import InfoHashes
from hali.model.piecemap import PieceMap
from hali.model.units import PIECE, piece_count
from hali.transfer.alerts import infohashes_of
from hali.transfer.torrent_files import TorrentFile, files_of, with_layer

GENERATION = "hali/gen1"  # written as `created by`; it is outside the info dictionary, so it never changes an infohash
MAX_BYTES = 10_000_000  # libtorrent's own limit for a .torrent; a 1 TB file in 16 MiB pieces needs 3.4 MB
MAX_PIECES = 200_000  # 50 GB in the smallest pieces in use (256 KiB); bounds what one torrent can make us allocate
MAX_DEPTH = 32  # an info dictionary needs 4 levels, deep folders some more; libtorrent itself would allow 100
MAX_TOKENS = 500_000  # some 50,000 files; a torrent of one file needs 40


class Metainfo(msgspec.Struct, frozen=True):
    """What a `.torrent` says. `raw` is the whole of it; `sha1_pieces` is empty for v2-only, the files' roots are None for v1-only."""

    raw: bytes
    name: str
    files: tuple[TorrentFile, ...]
    length: int
    piece_length: int
    infohashes: InfoHashes
    sha1_pieces: bytes = b""  # 20 B per piece
    is_single_file: bool = True
    is_aligned: bool = True  # every file begins a piece, which v1 torrents of several files do not promise
    tail: int = 0  # bytes of padding behind the last file: others have it, ours have not
    webseeds: tuple[str, ...] = ()

    @property
    def v2_root(self) -> bytes | None:
        """Of the only file."""
        return self.files[0].root if self.is_single_file else None

    @property
    def v2_layer(self) -> bytes:
        """Of the only file."""
        return self.files[0].layer if self.is_single_file else b""

    @property
    def lacks_layers(self) -> bool:
        """Whether it is a v2 torrent whose piece layers are not known (yet): nobody can seed all of it so."""
        return any(f.root is not None and not f.layer and f.length > self.piece_length for f in self.files)

    @property
    def map(self) -> PieceMap:
        """Whose pieces are whose; right only for aligned files."""
        return PieceMap([f.length for f in self.files], self.piece_length, tail=self.tail)

    @property
    def pieces(self) -> int:
        """How many pieces the torrent has; padding between several files counts."""
        if self.sha1_pieces:
            return len(self.sha1_pieces) // 20
        return sum(piece_count(f.length, self.piece_length) for f in self.files)  # v2 files start on piece borders


# ---- build


def build(digests: FileDigests, name: str, *, webseeds: Sequence[str] = ()) -> bytes:
    """The hybrid torrent of one file, bencoded; UsageError for an empty file or a name no file can have."""
    check_digests(digests)
    reason = unsafe(name)
    if reason:
        raise UsageError(f"cannot make a torrent of a file called {name[:80]!r}: {reason}")
    torrent: dict[bytes, Any] = {
        b"created by": GENERATION.encode(),
        b"info": _info(digests, name.encode()),
        # BEP 52: only files larger than a piece have a layer.
        b"piece layers": {digests.v2_root: digests.v2_layer} if digests.v2_layer else {},
    }
    if webseeds:
        torrent[b"url-list"] = [url.encode() for url in webseeds]
    return bytes(lt.bencode(torrent))


def _info(digests: FileDigests, name: bytes) -> dict[bytes, Any]:
    return {
        b"file tree": {name: {b"": {b"length": digests.length, b"pieces root": digests.v2_root}}},
        b"length": digests.length,
        b"meta version": 2,
        b"name": name,
        b"piece length": PIECE,
        b"pieces": digests.sha1_pieces,
    }


def check_digests(digests: FileDigests) -> None:
    """UsageError for an empty file, ValueError for digests that do not belong together."""
    if digests.length <= 0:
        raise UsageError("cannot make a torrent of an empty file")
    pieces = piece_count(digests.length)
    if len(digests.sha1_pieces) != 20 * pieces or len(digests.v2_root) != 32:
        raise ValueError(f"digests of a file of {digests.length} bytes need {pieces} piece hashes and a root")
    if len(digests.v2_layer) != (32 * pieces if pieces > 1 else 0):
        raise ValueError(f"a file of {pieces} pieces cannot have a piece layer of {len(digests.v2_layer)} bytes")


# ---- parse


def parse(raw: bytes) -> Metainfo:
    """Read a `.torrent` from anywhere; ProtocolError when it is damaged, too large, or its name is no safe file name."""
    if len(raw) > MAX_BYTES:
        raise ProtocolError(f"torrent of {len(raw)} bytes is larger than {MAX_BYTES}")
    _check_depth(raw)
    info_raw, infohashes, piece_length = _by_libtorrent(raw)
    torrent, info = _decoded(raw), _decoded(info_raw)
    name = safe_name(_text(info.get(b"name"), "name"))
    found = files_of(info, name, piece_length)
    length = sum(f.length for f in found.files)
    if piece_count(length, piece_length) > MAX_PIECES:
        raise ProtocolError(f"torrent {name!r} has more than {MAX_PIECES} pieces")
    return Metainfo(
        raw=raw,
        name=name,
        files=tuple(with_layer(torrent, file) for file in found.files),
        length=length,
        piece_length=piece_length,
        infohashes=infohashes,
        sha1_pieces=_sha1_pieces(info, length if found.single else None, piece_length),
        is_single_file=found.single,
        is_aligned=found.aligned,
        tail=found.tail,
        webseeds=_webseeds(torrent.get(b"url-list")),
    )


def of_info(info: bytes) -> bytes:
    """The smallest `.torrent` around the bencoded info dictionary `info`, byte for byte."""
    return b"d4:info" + info + b"e"


def _by_libtorrent(raw: bytes) -> tuple[bytes, InfoHashes, int]:
    """libtorrent's reading is the one that counts on the wire; it also refuses what contradicts itself."""
    try:
        info: Any = lt.load_torrent_buffer(raw).ti
        return bytes(info.info_section()), infohashes_of(info.info_hashes()), int(info.piece_length())
    except (RuntimeError, ValueError, TypeError, AttributeError, UnicodeDecodeError, OverflowError) as exc:
        raise ProtocolError(f"not a usable torrent: {exc}") from None


def _check_depth(raw: bytes) -> None:
    """Refuse deep nesting before anything recursive sees it. Reads the bencoding once, without building it."""
    depth, at, tokens = 0, 0, 0
    while at < len(raw):
        tokens += 1
        if tokens > MAX_TOKENS:
            raise ProtocolError(f"torrent with more than {MAX_TOKENS} values")
        byte = raw[at : at + 1]
        if byte in (b"d", b"l"):
            depth += 1
            if depth > MAX_DEPTH:
                raise ProtocolError(f"torrent nests deeper than {MAX_DEPTH} levels")
            at += 1
        elif byte == b"e":
            depth -= 1
            at += 1
        elif byte == b"i":
            at = _after(raw, b"e", at)
        else:
            colon = _after(raw, b":", at)
            digits = raw[at : colon - 1]
            if not digits.isdigit():
                raise ProtocolError("not a torrent: broken bencoding")
            at = colon + int(digits)


def _after(raw: bytes, mark: bytes, at: int) -> int:
    found = raw.find(mark, at, at + 22)  # a 64-bit number has at most 20 characters
    if found < 0:
        raise ProtocolError("not a torrent: broken bencoding")
    return found + 1


def _decoded(raw: bytes) -> dict[bytes, Any]:
    try:
        value: Any = lt.bdecode(raw)
    except (RuntimeError, ValueError) as exc:
        raise ProtocolError(f"not a usable torrent: {exc}") from None
    if not isinstance(value, dict):
        raise ProtocolError("not a torrent: not a dictionary")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, bytes):
        raise ProtocolError(f"torrent without {what}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"the {what} in the torrent is not UTF-8", code="unsafe_name") from None


def _sha1_pieces(info: dict[bytes, Any], length: int | None, piece_length: int) -> bytes:
    """Of a single file of `length` bytes, or of several."""
    pieces = info.get(b"pieces", b"")
    if not isinstance(pieces, bytes):
        raise ProtocolError("torrent with broken piece hashes")
    if length is not None and pieces and len(pieces) != 20 * piece_count(length, piece_length):
        raise ProtocolError("torrent whose number of piece hashes does not fit its length")
    return pieces


def _webseeds(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, bytes) and value else value
    if not isinstance(listed, list):
        return ()
    return tuple(url.decode(errors="replace") for url in listed if isinstance(url, bytes))
