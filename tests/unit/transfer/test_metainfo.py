"""Torrents built from digests, and torrents read from strangers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from hali.hashing.files import hash_file
from hali.model.digests import FileDigests
from hali.model.errors import ProtocolError, UsageError
from hali.model.units import PIECE
from hali.transfer import metainfo
from hali.transfer.metainfo import GENERATION, build, parse

SMOLLM2_SIZE = 98_362_432


def by_libtorrent(path: Path, piece: int = PIECE, flags: int = 0) -> dict[bytes, Any]:
    """What libtorrent's own tool makes of the file, reading it."""
    creator = lt.create_torrent(lt.list_files(str(path)), piece, flags)
    lt.set_piece_hashes(creator, str(path.parent))
    made: Any = creator.generate()
    return made


def sparse(path: Path, size: int) -> Path:
    """A file of `size` bytes with something in the first, middle and last of them, and nothing else on disk."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in {0, size // 2, size - 1}:
            file.seek(offset)
            file.write(hashlib.sha256(str(offset).encode()).digest()[: size - offset])
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    "size", [1, 16383, 16384, 16385, 1_000_000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 12345, SMOLLM2_SIZE]
)
def test_the_torrent_is_the_one_libtorrent_makes_of_the_same_file(tmp_path: Path, size: int) -> None:
    path = sparse(tmp_path / "model.gguf", size)

    ours: Any = lt.bdecode(build(hash_file(path), path.name))
    theirs = by_libtorrent(path)

    assert ours[b"info"] == theirs[b"info"]
    assert ours[b"piece layers"] == theirs.get(b"piece layers", {})


def test_infohashes_are_those_libtorrent_computes(tmp_path: Path) -> None:
    path = sparse(tmp_path / "model.gguf", 2 * PIECE + 5)
    raw = build(hash_file(path), path.name)

    theirs = lt.torrent_info(by_libtorrent(path)).info_hashes()

    assert parse(raw).infohashes.v1 == str(theirs.v1)
    assert parse(raw).infohashes.v2 == str(theirs.v2)


def digests_of(length: int = PIECE + 1) -> FileDigests:
    pieces = -(-length // PIECE)
    layer = bytes(range(32)) * pieces if pieces > 1 else b""
    root = merkle_root(layer) if layer else bytes(32)
    return FileDigests(length, bytes(32), bytes(32), b"\x01" * 20 * pieces, root, layer)


def merkle_root(layer: bytes) -> bytes:
    """BEP 52: the layer padded with the roots of empty pieces up to a power of two, hashed in pairs."""
    pad = bytes(32)
    for _ in range((PIECE // 16384).bit_length() - 1):
        pad = hashlib.sha256(pad + pad).digest()
    nodes = [layer[i : i + 32] for i in range(0, len(layer), 32)]
    while len(nodes) & (len(nodes) - 1):
        nodes.append(pad)
    while len(nodes) > 1:
        nodes = [hashlib.sha256(nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes), 2)]
    return nodes[0]


def test_the_same_digests_and_name_give_the_same_bytes() -> None:
    assert build(digests_of(), "a.gguf") == build(digests_of(), "a.gguf")


def test_web_seeds_do_not_change_the_infohash() -> None:
    plain = parse(build(digests_of(), "a.gguf"))
    decorated = parse(build(digests_of(), "a.gguf", webseeds=["https://example.org/a.gguf"]))

    assert decorated.infohashes == plain.infohashes
    assert decorated.webseeds == ("https://example.org/a.gguf",)


def test_the_torrent_names_its_generation_and_nothing_of_the_machine() -> None:
    torrent: Any = lt.bdecode(build(digests_of(), "a.gguf"))

    assert torrent[b"created by"] == GENERATION.encode() == b"hali/gen1"
    assert set(torrent) == {b"created by", b"info", b"piece layers"}  # no date, no tracker


def test_parse_gives_back_what_was_built() -> None:
    digests = digests_of(3 * PIECE)

    parsed = parse(build(digests, "models é.gguf"))

    assert (parsed.name, parsed.length, parsed.piece_length, parsed.pieces) == ("models é.gguf", 3 * PIECE, PIECE, 3)
    assert (parsed.sha1_pieces, parsed.v2_root, parsed.v2_layer) == (
        digests.sha1_pieces,
        digests.v2_root,
        digests.v2_layer,
    )
    assert parsed.is_single_file


def test_an_empty_file_has_no_torrent() -> None:
    with pytest.raises(UsageError, match="empty file"):
        build(FileDigests(0, bytes(32), bytes(32), b"", bytes(32), b""), "a.gguf")


def test_digests_that_do_not_fit_the_length_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="piece hashes"):
        build(FileDigests(PIECE + 1, bytes(32), bytes(32), bytes(20), bytes(32), bytes(64)), "a.gguf")


UNSAFE = [
    "", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", "a\x7fb", "CON", "con.gguf", "Nul.tar.gz", "com1", "LPT9.x",
    "a\u202efugg", "a\u2028b", "x" * 256, "é" * 128, "a.", "a ", "c:x",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_is_no_safe_file_name_is_refused_in_both_directions(name: str) -> None:
    with pytest.raises(UsageError):
        build(digests_of(), name)
    with pytest.raises(ProtocolError):
        parse(renamed(name.encode()))


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse(renamed(b"a\xff.gguf"))


def renamed(name: bytes) -> bytes:
    """A well-formed hybrid torrent under another name."""
    torrent: Any = lt.bdecode(build(digests_of(), "a.gguf"))
    info = torrent[b"info"]
    info[b"file tree"] = {name: info[b"file tree"][b"a.gguf"]}
    info[b"name"] = name
    return bytes(lt.bencode(torrent))


@pytest.mark.parametrize("name", ["model.gguf", ".hidden", "名前.gguf", "a b.gguf", "console.gguf", "x" * 255, "a..b"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert parse(build(digests_of(), name)).name == name


@pytest.mark.parametrize("flags", [lt.create_torrent.v1_only, lt.create_torrent.v2_only, 0])
@pytest.mark.parametrize("piece", [16384, 262144])
def test_foreign_torrents_of_every_kind_are_understood(tmp_path: Path, flags: int, piece: int) -> None:
    path = sparse(tmp_path / "model.gguf", 1_000_000)

    parsed = parse(bytes(lt.bencode(by_libtorrent(path, piece, flags))))

    assert (parsed.name, parsed.length, parsed.piece_length) == ("model.gguf", 1_000_000, piece)
    assert parsed.pieces == -(-1_000_000 // piece)
    assert (parsed.infohashes.v1 is None) == (flags == lt.create_torrent.v2_only)
    assert (parsed.infohashes.v2 is None) == (flags == lt.create_torrent.v1_only)
    assert bool(parsed.sha1_pieces) == (parsed.infohashes.v1 is not None)
    assert (parsed.v2_root is None) == (parsed.infohashes.v2 is None)


@pytest.mark.parametrize("flags", [lt.create_torrent.v1_only, lt.create_torrent.v2_only, 0])
def test_a_torrent_of_several_files_is_marked_as_such(tmp_path: Path, flags: int) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name, size in (("a.gguf", 20_000), ("b.gguf", 40_000)):
        sparse(folder / name, size)

    parsed = parse(bytes(lt.bencode(by_libtorrent(folder, 16384, flags))))

    assert not parsed.is_single_file
    assert sorted((f.path[-1], f.length) for f in parsed.files) == [("a.gguf", 20_000), ("b.gguf", 40_000)]


def test_a_torrent_without_piece_layers_is_taken_as_magnets_give_it() -> None:
    whole: Any = lt.bdecode(build(digests_of(), "a.gguf"))
    bare = metainfo.of_info(bytes(lt.bencode(whole[b"info"])))

    assert parse(bare).infohashes == parse(build(digests_of(), "a.gguf")).infohashes
    assert parse(bare).v2_layer == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"d", b"de", b"i1e", b"le", b"not bencoding", b"d4:infodee", b"d4:info5:aaaaae", b"99999999999999999999999:a", b"5:ab",
        b"d4:infod6:lengthi-1e4:name1:a12:piece lengthi16384e6:pieces20:" + bytes(20) + b"ee",
        b"d4:infod6:lengthi99999999999999999999e4:name1:a12:piece lengthi16384e6:pieces20:" + bytes(20) + b"ee",
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces40:" + bytes(40) + b"ee",
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi0e6:pieces20:" + bytes(20) + b"ee",
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:piecesi3eee",
    ],
)  # fmt: skip
def test_broken_torrents_are_one_clear_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(raw)


@pytest.mark.parametrize("attributes", [5, [b"p"], {b"p": 1}])
def test_attributes_of_a_wrong_type_make_no_file_padding(attributes: Any) -> None:
    file = {b"attr": attributes, b"length": 5, b"path": [b"a.gguf"]}
    info = {b"files": [file], b"name": b"models", b"piece length": 16384, b"pieces": bytes(20)}

    parsed = parse(metainfo.of_info(bytes(lt.bencode(info))))

    assert [(f.path, f.length) for f in parsed.files] == [(("a.gguf",), 5)]


def test_deep_nesting_is_refused_before_anything_recurses() -> None:
    with pytest.raises(ProtocolError, match="deeper"):
        parse(b"d4:info" + b"l" * 1_000_000)


def test_a_flood_of_values_is_refused() -> None:
    with pytest.raises(ProtocolError, match="values"):
        parse(b"l" + b"0:" * 1_000_000 + b"e")


def test_a_torrent_beyond_the_size_limit_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="larger"):
        parse(b"d" + bytes(metainfo.MAX_BYTES))


def test_too_many_pieces_are_refused() -> None:
    pieces = metainfo.MAX_PIECES + 1
    info = (
        b"d6:lengthi%de4:name1:a12:piece lengthi16384e6:pieces%d:" % (pieces * 16384, pieces * 20)
        + bytes(20 * pieces)
        + b"e"
    )
    with pytest.raises(ProtocolError, match="pieces"):
        parse(metainfo.of_info(info))
