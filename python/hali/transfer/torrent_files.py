"""The files that an info dictionary names, whichever of its two forms it has. Pure; the dictionary comes from a stranger."""

from __future__ import annotations

from typing import Any

import msgspec

from hali.model.errors import ProtocolError
from hali.model.piecemap import PieceMap
from hali.model.units import piece_count


class TorrentFile(msgspec.Struct, frozen=True):
    """One file of a torrent: path components as the torrent writes them (not validated for multi-file torrents), length."""

    path: tuple[str, ...]
    length: int
    root: bytes | None = None  # `pieces root` of BEP 52; None in a v1 torrent
    layer: bytes = b""  # 32 B per piece; empty for one piece, or when the torrent came as a magnet and lacks it


class Files(msgspec.Struct, frozen=True):
    """All files of a torrent; see `Metainfo` for the rest."""

    files: tuple[TorrentFile, ...]
    single: bool = False
    aligned: bool = True
    tail: int = 0


def files_of(info: dict[bytes, Any], name: str, piece_length: int) -> Files:
    """What `info` names; ProtocolError when that cannot be."""
    if isinstance(info.get(b"length"), int):
        return Files((TorrentFile((name,), info[b"length"], _root(info, info[b"name"])),), single=True)
    in_tree = tuple(_walk(info[b"file tree"], ())) if b"file tree" in info else ()
    if not isinstance(info.get(b"files"), list):
        if not in_tree:
            raise ProtocolError("torrent without files")
        return Files(in_tree, single=len(in_tree) == 1 and in_tree[0].path == (name,))
    listed = _listed(info[b"files"], piece_length)
    return msgspec.structs.replace(listed, files=in_tree) if in_tree else listed


def _listed(files: list[Any], piece_length: int) -> Files:
    """The files of a v1 or hybrid torrent, without the padding (BEP 47: "p")."""
    found, at, aligned, tail = [], 0, True, 0
    for file in files:
        length = _length(file.get(b"length"))
        attributes = file.get(b"attr")
        is_padding = isinstance(attributes, bytes) and b"p" in attributes
        if not is_padding:
            aligned = aligned and (at % piece_length == 0 or length == 0)
            found.append(TorrentFile(_path(file.get(b"path")), length))
        at, tail = at + length, length if is_padding else 0
    whole = PieceMap([file.length for file in found], piece_length)
    # Padding of more than the rest of a piece would be pieces of nothing but zeros, which none of our maps has.
    return Files(tuple(found), aligned=aligned and piece_count(at, piece_length) == whole.count, tail=tail)


def _walk(tree: object, above: tuple[str, ...]) -> list[TorrentFile]:
    if not isinstance(tree, dict):
        raise ProtocolError("torrent without files")
    found = []
    for key, below in tree.items():
        if key == b"" and above:
            entry = below if isinstance(below, dict) else {}
            found.append(TorrentFile(above, _length(entry.get(b"length")), _digest(entry.get(b"pieces root"))))
        else:
            found += _walk(below, (*above, key.decode(errors="replace")))
    return found


def _path(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(part, bytes) for part in value):
        raise ProtocolError("torrent with a file without a path")
    return tuple(part.decode(errors="replace") for part in value)


def _length(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ProtocolError("torrent with a file of no or negative length")
    return value


def _root(info: dict[bytes, Any], name: bytes) -> bytes | None:
    try:
        return _digest(info[b"file tree"][name][b""][b"pieces root"])
    except (KeyError, TypeError):
        return None


def _digest(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and len(value) == 32 else None


def with_layer(torrent: dict[bytes, Any], file: TorrentFile) -> TorrentFile:
    """`file` with its piece layer, if the torrent has it."""
    layers = torrent.get(b"piece layers")
    found = layers.get(file.root) if isinstance(layers, dict) and file.root is not None else None
    return msgspec.structs.replace(file, layer=found) if isinstance(found, bytes) else file
