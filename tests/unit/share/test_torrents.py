"""hali's own torrents: names, web seeds, and which pieces of which file are damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hali.hashing import hash_file, padded_sha1_of
from hali.model.errors import VerificationFailed
from hali.model.units import MIB, PIECE
from hali.share.incoming_model import Arrived
from hali.share.torrents import torrent_name, torrent_of, webseeds_of, wrong_pieces
from hali.share.verifying import judge
from hali.store.models import Metadata, Record, StoredFile
from hali.transfer.bundle import address_of
from hali.transfer.hub_choice import parse_hub_name
from hali.transfer.metainfo import parse
from hali.wire.manifest import identity
from tests.fakes.bundles import write

COMMIT = "c" * 40
PARTS = ["M-Q4_0-00001-of-00002.gguf", "M-Q4_0-00002-of-00002.gguf"]


def metadata(files: list[str], folder: str = "", parts: list[StoredFile] | None = None) -> Metadata:
    parts = parts or [StoredFile(name, 5, "ab" * 32, "00" * 32, 0, f"{folder}{name}") for name in files]
    return Metadata(
        model_id="m:7b:base:q4_0",
        sha256=identity([part.ref for part in parts]),
        blake3="00" * 32,
        infohash_v1="11" * 20,
        infohash_v2="22" * 32,
        files=files,
        size=sum(part.size for part in parts),
        downloaded_at="2026-01-01T00:00:00Z",
        mtime_ns=0,
        hf_repo="o/r",
        hf_revision=COMMIT,
        parts=parts,
    )


def test_a_torrent_of_one_file_has_its_name_and_one_of_several_the_stem() -> None:
    assert torrent_name(["M-Q4_0.gguf"]) == "M-Q4_0.gguf"
    assert torrent_name(PARTS) == torrent_name(["M-Q4_0.gguf", "mmproj-F16.gguf"]) == "M-Q4_0"


@pytest.mark.parametrize("folder", ["", "Q4_0/", "a/b/"])
def test_the_web_seed_of_one_file_is_its_path_in_the_repository(folder: str) -> None:
    root = f"https://huggingface.co/o/r/resolve/{COMMIT}/"
    assert webseeds_of(metadata(["M.gguf"], folder)) == (f"{root}{folder}M.gguf",)


@pytest.mark.parametrize(
    ("folder", "base"), [("M-Q4_0/", ""), ("a/b/M-Q4_0/", "a/b/"), ("", None), ("Q4_0/", None), ("xM-Q4_0/", None)]
)
def test_several_files_have_a_web_seed_where_bep_19_leads_to_them(
    folder: str, base: str | None, tmp_path: Path
) -> None:
    root = f"https://huggingface.co/o/r/resolve/{COMMIT}/"
    seeds = webseeds_of(metadata(PARTS, folder))
    assert seeds == (() if base is None else (root + base,))
    metainfo = parse(torrent_of(arrived(write(tmp_path / "M-Q4_0", dict.fromkeys(PARTS, 5))), seeds))
    assert metainfo.name == "M-Q4_0"
    for seed in seeds:
        assert [address_of(seed, metainfo, name) for name in PARTS] == [f"{root}{folder}{name}" for name in PARTS]


@pytest.mark.parametrize("name", ["a b.gguf", "a%20b.gguf", "x#y?z.gguf", "modèle.gguf"])
def test_a_web_seed_is_a_url_that_leads_back_to_its_file(name: str) -> None:
    (seed,) = webseeds_of(metadata([name], "sub dir/"))
    assert seed.isascii() and " " not in seed
    found = parse_hub_name(seed)
    assert found is not None and (found.repo, found.revision, found.file) == ("o/r", COMMIT, f"sub dir/{name}")


def test_a_web_seed_of_one_file_may_name_the_folder_and_need_not_be_encoded(tmp_path: Path) -> None:
    files = arrived(write(tmp_path, {"M x.gguf": 5}), ["M x.gguf"])
    metainfo = parse(torrent_of(files, ()))
    for url, found in (
        ("http://h/files/", "http://h/files/M%20x.gguf"),
        ("http://h/files/M%20x.gguf", "http://h/files/M%20x.gguf"),
        ("http://h/my files/é?a=b&c", "http://h/my%20files/%C3%A9?a=b&c"),
    ):
        assert address_of(url, metainfo, "M x.gguf") == found


def test_files_of_two_folders_have_no_web_seed() -> None:
    mixed = metadata(PARTS, "M-Q4_0/")
    moved = msgspec.structs.replace(mixed.parts[1], hf_path=PARTS[1])
    assert webseeds_of(msgspec.structs.replace(mixed, parts=[mixed.parts[0], moved])) == ()


def arrived(folder: Path, names: Sequence[str] = PARTS) -> list[Arrived]:
    return [Arrived(folder / name, hash_file(folder / name), padded_sha1_of(folder / name)) for name in names]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Two files, of three pieces and of one."""
    folder = write(tmp_path / "m", {PARTS[0]: 2 * PIECE + 7, PARTS[1]: 3 * MIB})
    parts = [StoredFile(a.path.name, a.digests.length, a.digests.sha256.hex(), "00" * 32, 0) for a in arrived(folder)]
    return Record(metadata(PARTS, parts=parts), folder)


def test_what_is_wrong_is_told_by_file_and_piece(record: Record) -> None:
    torrent = torrent_of(arrived(record.directory), ())
    judge(record, [each.digests for each in arrived(record.directory)], torrent)
    for name, at in ((PARTS[0], PIECE), (PARTS[0], 2 * PIECE + 6), (PARTS[1], 5)):
        data = bytearray((record.directory / name).read_bytes())
        data[at] ^= 1
        (record.directory / name).write_bytes(data)
    found = [each.digests for each in arrived(record.directory)]
    with pytest.raises(VerificationFailed) as caught:
        judge(record, found, torrent)
    assert f"{PARTS[0]}, wrong pieces 1, 2 of 3; {PARTS[1]}, wrong piece 0 of 1" in caught.value.message
    assert [(each["file"], each["pieces"]) for each in caught.value.details["files"]] == [
        (PARTS[0], [1, 2]),
        (PARTS[1], [0]),
    ]
    with pytest.raises(VerificationFailed, match=f"is damaged: {PARTS[0]}; {PARTS[1]}: "):
        judge(record, found, None)


@pytest.mark.parametrize("size", [PIECE + 5, PIECE, 5])
def test_a_file_that_was_cut_has_wrong_pieces_from_the_cut_on(size: int, record: Record) -> None:
    promised = {file.path[-1]: file for file in parse(torrent_of(arrived(record.directory), ())).files}
    path = record.directory / PARTS[0]
    path.write_bytes(path.read_bytes()[:size])
    assert wrong_pieces(hash_file(path), promised[PARTS[0]]) == list(range(size // PIECE, 3))


def test_a_file_that_was_cut_is_told_with_the_pieces_that_it_should_have(record: Record) -> None:
    torrent = torrent_of(arrived(record.directory), ())
    path = record.directory / PARTS[0]
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(VerificationFailed, match=rf"{PARTS[0]}, wrong pieces 0, 1, 2 of 3, 5 bytes instead of"):
        judge(record, [each.digests for each in arrived(record.directory)], torrent)
