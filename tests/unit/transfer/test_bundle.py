"""Torrents of several files: ours against libtorrent's, and which of strangers' are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from hali.model.errors import ProtocolError, Refused, UsageError
from hali.model.units import MIB, PIECE
from hali.transfer import bundle, metainfo
from hali.transfer.bundle import names_of
from hali.transfer.metainfo import GENERATION, parse
from tests.fakes.bundles import member, torrent_by_hali, torrent_by_libtorrent, write

LENGTHS = {
    "b-00001-of-00002.gguf": PIECE + 40_000,
    "b-00002-of-00002.gguf": 5,
    "Z.bin": 2 * PIECE,
    "mmproj.gguf": 3 * MIB + 1,
}
V1, V2 = lt.create_torrent.v1_only, lt.create_torrent.v2_only


def test_the_torrent_is_the_one_libtorrent_makes_of_the_same_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "Model", LENGTHS)
    raw = torrent_by_hali(folder)
    ours: Any = lt.bdecode(raw)
    theirs = torrent_by_libtorrent(folder)
    assert ours[b"info"] == theirs[b"info"]
    assert ours[b"piece layers"] == theirs[b"piece layers"]
    hashes = lt.torrent_info(theirs).info_hashes()
    assert parse(raw).infohashes.v1 == str(hashes.v1) and parse(raw).infohashes.v2 == str(hashes.v2)


def test_parse_tells_the_files_apart_and_knows_that_each_begins_a_piece(tmp_path: Path) -> None:
    parsed = parse(torrent_by_hali(write(tmp_path / "Model", LENGTHS)))
    assert names_of(parsed) == ["Z.bin", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "mmproj.gguf"]
    assert [file.length for file in parsed.files] == [2 * PIECE, PIECE + 40_000, 5, 3 * MIB + 1]
    assert (parsed.is_single_file, parsed.is_aligned, parsed.lacks_layers) == (False, True, False)
    assert parsed.pieces == parsed.map.count == 6
    assert [len(file.layer) for file in parsed.files] == [64, 64, 0, 0]
    assert parsed.name == "Model"
    assert lt.bdecode(parsed.raw)[b"created by"] == GENERATION.encode()  # type: ignore[index]
    bare = parse(metainfo.of_info(bytes(lt.bencode(lt.bdecode(parsed.raw)[b"info"]))))  # type: ignore[index]
    assert bare.lacks_layers and bare.infohashes == parsed.infohashes


def test_the_order_in_which_the_files_are_given_does_not_matter(tmp_path: Path) -> None:
    members = [member(path) for path in write(tmp_path / "Model", {"a": 5, "B": 6, "é": 7}).iterdir()]
    assert bundle.build(members, "M") == bundle.build(members[::-1], "M")


def test_the_builder_refuses_names_no_file_can_have_and_names_that_are_there_twice(tmp_path: Path) -> None:
    one = member(write(tmp_path / "Model", {"a": 5}) / "a")
    for members, name in (([one, one], "M"), ([one], "M"), ([one, bundle.Member("../b", *_rest(one))], "M")):
        with pytest.raises(UsageError):
            bundle.build(members, name)
    with pytest.raises(UsageError):
        bundle.build([one, bundle.Member("b", *_rest(one))], "a/b")


def _rest(one: bundle.Member) -> tuple[Any, bytes]:
    return one.digests, one.padded


@pytest.mark.parametrize(("flags", "piece"), [(V2, MIB), (0, MIB), (0, PIECE), (V2, PIECE)])
def test_v2_and_hybrid_torrents_of_strangers_are_taken_whatever_their_pieces(
    flags: int, piece: int, tmp_path: Path
) -> None:
    folder = write(tmp_path / "Model", {"a": 20_000, "b": 2 * MIB, "c": MIB + 7})
    parsed = parse(bytes(lt.bencode(torrent_by_libtorrent(folder, piece, flags))))
    assert parsed.is_aligned and names_of(parsed) == ["a", "b", "c"]
    assert parsed.map.count == parsed.pieces


def test_a_v1_torrent_whose_pieces_cross_files_is_refused_and_one_with_padding_is_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "Model", {"a": 20_000, "b": 30_000})
    with pytest.raises(Refused, match="cross"):
        names_of(parse(bytes(lt.bencode(torrent_by_libtorrent(folder, 16384, V1)))))
    padded = V1 | lt.create_torrent.canonical_files
    assert names_of(parse(bytes(lt.bencode(torrent_by_libtorrent(folder, 16384, padded))))) == ["a", "b"]


def renamed(tmp_path: Path, names: list[bytes]) -> bytes:
    """A torrent of two files under other names."""
    torrent: Any = lt.bdecode(torrent_by_hali(write(tmp_path / "Model", {"a": 5, "b": 6})))
    info = torrent[b"info"]
    roots = [info[b"file tree"][name] for name in (b"a", b"b")]
    info[b"file tree"] = dict(zip(names, roots, strict=True))
    info[b"files"][0][b"path"], info[b"files"][2][b"path"] = [[name] for name in names]
    return bytes(lt.bencode(torrent))


@pytest.mark.parametrize("name", [b"..", b"x/y", b"con", b"a\x00b", b".", b"b."])
def test_a_name_that_leaves_the_folder_is_refused(name: bytes, tmp_path: Path) -> None:
    with pytest.raises((ProtocolError, Refused)):
        names_of(parse(renamed(tmp_path, [name, b"zz"])))


def test_two_names_that_are_one_on_some_systems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="one name"):
        names_of(parse(renamed(tmp_path, [b"MODEL", b"model"])))


def test_folders_in_the_torrent_and_empty_files_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "Model" / "sub", {"a": 5}).parent
    write(folder, {"b": 6})
    with pytest.raises(Refused, match="folders"):
        names_of(parse(bytes(lt.bencode(torrent_by_libtorrent(folder)))))
    (folder / "sub" / "a").unlink()
    write(folder, {"c": 0})
    with pytest.raises(Refused, match="empty"):
        names_of(parse(bytes(lt.bencode(torrent_by_libtorrent(folder)))))
