"""What is answered from the store, and what only looks as if it were there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.hashing import hash_file
from hali.model.ids import InfoHashes
from hali.model.names import derive
from hali.share.library import Library
from hali.share.resolve import Plan, Resolver
from hali.share.targets import parse_target
from hali.store.models import Metadata, ModelStore, StoredFile
from hali.transfer.hub import Hub
from hali.transfer.magnet import Magnet

REPO = "o/Sub-GGUF"
SHA256 = hash_file(Path(__file__)).sha256.hex()


async def no_metainfo(url: str) -> bytes:
    raise AssertionError(url)


class Alone:
    alone = True


def resolver(tmp_path: Path, file: str, inside: str | None) -> Resolver:
    """Over a store with one file of REPO."""
    source = tmp_path / file
    source.write_bytes(Path(__file__).read_bytes())
    size = source.stat().st_size
    parts = [StoredFile(file, size, SHA256, "0" * 64, 0, inside)] if inside else []
    meta = Metadata(
        model_id=str(derive(inside or file)),
        sha256=SHA256,
        blake3="0" * 64,
        infohash_v1="1" * 40,
        infohash_v2="2" * 64,
        files=[file],
        size=size,
        downloaded_at="2026-01-01T00:00:00Z",
        mtime_ns=0,
        hf_repo=REPO,
        hf_revision="c" * 40,
        parts=parts,
    )
    store = ModelStore(tmp_path / "models")
    store.place(source, derive(inside or file), meta)
    library = Library(store, tmp_path / "torrents", lambda records: None)
    library.scan()
    return Resolver(library, Alone(), Hub("http://127.0.0.1:9"), fetch_metainfo=no_metainfo)


@pytest.mark.parametrize(
    ("asked", "inside", "is_here"),
    [
        (f"{REPO}/Q8_0/model.gguf", "Q8_0/model.gguf", True),
        (f"{REPO}/Q4_0/model.gguf", "Q8_0/model.gguf", False),
        (f"{REPO}/model.gguf", "Q8_0/model.gguf", False),  # there may be several: the hub will tell
        (f"{REPO}/model.gguf", None, True),
        (f"{REPO}/Q8_0/model.gguf", None, False),
        (f"hali://model/{REPO}?file=Q4_0/model.gguf", "Q8_0/model.gguf", False),
    ],
)
def test_a_file_of_a_repository_is_here_only_by_its_path_in_it(
    asked: str, inside: str | None, is_here: bool, tmp_path: Path
) -> None:
    found = resolver(tmp_path, "model.gguf", inside).stored(parse_target(asked))
    assert (found is not None) is is_here


@pytest.mark.parametrize(
    ("revision", "is_here"), [("c" * 40, True), ("C" * 7, True), ("c" * 6, False), ("c", False), ("cccccccd", False)]
)
def test_a_short_tag_is_not_taken_for_the_commit_that_is_here(revision: str, is_here: bool, tmp_path: Path) -> None:
    found = resolver(tmp_path, "model-Q8_0.gguf", None).stored(parse_target(f"{REPO}@{revision}:Q8_0"))
    assert (found is not None) is is_here


def test_what_has_come_by_its_sha256_meanwhile_is_found_although_it_was_taken_for_an_infohash(
    tmp_path: Path,
) -> None:
    found = resolver(tmp_path, "model.gguf", None)
    plan = Plan(SHA256, SHA256, Magnet(InfoHashes(v2=SHA256)))  # as for any 64 hex digits that nobody knows
    entry = found.stored_by(plan)
    assert entry is not None and entry.record.meta.sha256 == SHA256
