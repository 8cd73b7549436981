"""Partial models on disk: what is read, what is not believed, and the way there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hali.model.digests import PieceDigests
from hali.model.errors import Refused
from hali.store.journal import Journal, readdress
from hali.store.models import PARTIAL, PARTIAL_METADATA, ModelStore
from hali.store.partials import PartialMeta, PartialStore

GOOD = PartialMeta(
    model_id="tiny:1b:base:q8_0",
    file="tiny.gguf",
    size=1000,
    layers=[(0, 2)],
    infohash_v1="a" * 40,
    infohash_v2="b" * 64,
    downloaded_at="2026-01-02T03:04:05Z",
    mtime_ns=1,
    sha256="c" * 32,
)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def placed(store: ModelStore, **changes: Any) -> PartialStore:
    partials = PartialStore(store)
    (store.incoming("k") / "tiny.gguf").write_bytes(b"x" * 1000)
    partials.place("k", msgspec.structs.replace(GOOD, **changes))
    return partials


def test_a_part_goes_there_and_back_and_is_removed_with_all_its_files(store: ModelStore) -> None:
    partials = placed(store)
    (record,) = partials.records()
    assert (record.meta, record.path.read_bytes()) == (GOOD, b"x" * 1000)
    assert record.on_disk > 0
    assert not (store.root / ".incoming" / "k").exists()
    folder = partials.take(record, "other")
    assert folder == store.incoming("other") and (folder / "tiny.gguf").exists()
    assert partials.records() == [] and partials.before("other") == GOOD and partials.before("nothing") is None
    partials.place("other", GOOD)
    (record,) = partials.records()
    partials.remove(record)
    assert partials.records() == [] and not record.directory.exists()


def test_a_part_gives_way_to_a_later_one_of_the_same_torrent_and_not_to_others(store: ModelStore) -> None:
    placed(store)
    placed(store, infohash_v2="d" * 64)
    partials = placed(store, layers=[(0, 3)])
    assert {(r.meta.infohash_v2[0], r.meta.layers[0]) for r in partials.records()} == {("b", (0, 3)), ("d", (0, 2))}


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "tiny"},
        {"file": "../x"},
        {"file": ""},
        {"size": 0},
        {"size": 10**30},
        {"layers": []},
        {"layers": [(2, 2)]},
        {"infohash_v1": "z" * 40},
        {"infohash_v2": "c" * 64},  # not that of its folder
        {"sha256": "c" * 16},
        {"hf_repo": "a\nb"},
    ],
    ids=str,
)
def test_metadata_that_hali_would_not_have_written_is_left_out(store: ModelStore, change: dict[str, Any]) -> None:
    partials = placed(store)
    (record,) = partials.records()
    path = record.directory / PARTIAL_METADATA
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(GOOD, **change)))
    assert partials.records() == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff" * 9, b"[" * 100_000])
def test_damaged_metadata_harms_no_other_part(store: ModelStore, text: bytes) -> None:
    placed(store)
    partials = placed(store, infohash_v2="d" * 64)
    (store.root / PARTIAL / ("b" * 64) / PARTIAL_METADATA).write_bytes(text)
    assert [record.meta.infohash_v2 for record in partials.records()] == ["d" * 64]


def test_a_journal_is_found_under_its_new_pin_only_and_keeps_its_pieces(tmp_path: Path) -> None:
    path, digests = tmp_path / "journal", PieceDigests(b"1" * 20, b"2" * 32, b"3" * 32)
    journal = Journal.open(path, 1000, name="m", sha256="e" * 64)
    journal.record_piece(0, digests, None)
    journal.close()
    readdress(path, sha256=None, tag="t")
    again = Journal.open(path, 1000, name="m", tag="t")
    again.close()
    assert again.pieces == {0: digests}
    other = Journal.open(path, 1000, name="m", sha256="e" * 64)
    other.close()
    assert other.pieces == {}
    readdress(tmp_path / "none", sha256=None, tag="t")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("at", [PARTIAL, f"{PARTIAL}/{'b' * 64}"])
def test_a_symbolic_link_leads_no_part_out_of_the_store(store: ModelStore, tmp_path: Path, at: str) -> None:
    partials = placed(store)
    moved = tmp_path / "outside"
    (store.root / at).rename(moved)
    (store.root / at).symlink_to(moved, target_is_directory=True)
    before = sorted(path.name for path in moved.rglob("*"))
    (record,) = partials.records()
    for step in (lambda: partials.remove(record), lambda: partials.take(record, "k"), lambda: placed(store)):
        with pytest.raises(Refused):
            step()
    assert sorted(path.name for path in moved.rglob("*")) == before
