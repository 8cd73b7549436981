"""A model of several files gets into the store whole or not at all, wherever a crash falls."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import msgspec
import pytest

from hali.model.names import ModelId, derive
from hali.store import placing
from hali.store.models import METADATA, Metadata, ModelStore, Record, StoredFile
from hali.wire.manifest import identity

NAMES = ["M-7B-Q4_0-00001-of-00003.gguf", "M-7B-Q4_0-00002-of-00003.gguf", "M-7B-Q4_0-00003-of-00003.gguf"]
KEY = "ab" * 32


class Crash(BaseException):
    """The end of the process, which no handler sees."""


def metadata(names: list[str] = NAMES) -> Metadata:
    parts = [StoredFile(name, len(name), hashlib.sha256(name.encode()).hexdigest(), "00" * 32, 0) for name in names]
    return Metadata(
        model_id=str(model_id()),
        sha256=identity([part.ref for part in parts]),
        blake3="00" * 32,
        infohash_v1="11" * 20,
        infohash_v2="22" * 32,
        files=names,
        size=sum(part.size for part in parts),
        downloaded_at="2026-01-01T00:00:00Z",
        mtime_ns=0,
        parts=parts,
    )


def model_id() -> ModelId:
    return derive(NAMES[0])


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """With three finished files in a folder of `.incoming`."""
    made = ModelStore(tmp_path / "models")
    for name in NAMES:
        (made.incoming(KEY) / name).write_text(name)
    return made


def place(store: ModelStore, meta: Metadata | None = None) -> Record:
    return store.place(store.incoming(KEY) / NAMES[0], model_id(), meta or metadata())


def assert_whole(store: ModelStore) -> None:
    (record,) = store.records()
    assert record.meta.files == NAMES and not record.changed_on_disk()
    assert [(record.directory / name).read_text() for name in NAMES] == NAMES
    assert sorted(os.listdir(record.directory)) == sorted([*NAMES, METADATA])


def test_all_files_are_placed_and_each_has_its_time(store: ModelStore) -> None:
    record = place(store)
    assert_whole(store)
    assert os.listdir(store.incoming(KEY)) == []
    assert [part.mtime_ns for part in record.meta.parts] == [
        (record.directory / name).stat().st_mtime_ns for name in NAMES
    ]
    (record.directory / NAMES[2]).write_text("changed")
    assert record.changed_on_disk()


@pytest.mark.parametrize("step", range(5))
def test_a_crash_at_any_step_is_finished_by_the_next_start(
    step: int, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renames: the note, three files, the metadata."""
    real, left = os.replace, [step]

    def crashing(source: Path, target: Path) -> None:
        if left[0] == 0:
            raise Crash
        left[0] -= 1
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crashing)
        with pytest.raises(Crash):
            place(store)
    assert store.records() == []

    after = ModelStore(store.root)
    after.recover()
    if step == 0:  # nothing was written down yet, so nothing had moved
        assert after.records() == [] and set(NAMES) <= set(os.listdir(store.incoming(KEY)))
        place(after)
    assert_whole(after)
    after.recover()
    assert_whole(after)


def test_a_disk_that_fails_in_between_has_all_files_back_where_they_were(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target).name == METADATA:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        place(store)
    assert sorted(os.listdir(store.incoming(KEY))) == NAMES
    assert store.records() == []


def test_a_file_that_is_in_neither_place_makes_no_model(store: ModelStore) -> None:
    note(store, "../../m/7b-base/q4_0", metadata())
    (store.incoming(KEY) / NAMES[1]).unlink()
    store.recover()
    assert store.records() == [] and not (store.incoming(KEY) / placing.NOTE).exists()
    with pytest.raises(FileNotFoundError):
        place(store)
    assert (store.incoming(KEY) / NAMES[0]).exists()


def note(store: ModelStore, directory: str, meta: Metadata) -> None:
    target = store.incoming(KEY) / directory
    target.mkdir(parents=True, exist_ok=True)
    (store.incoming(KEY) / placing.NOTE).write_bytes(msgspec.json.encode(placing.Intent(directory, meta)))


@pytest.mark.parametrize("directory", ["../../../outside", "/tmp/outside-of-the-store", "../../../../../tmp"])
def test_a_note_that_leads_anywhere_else_moves_nothing(directory: str, store: ModelStore, tmp_path: Path) -> None:
    note(store, directory, metadata())
    store.recover()
    assert set(NAMES) <= set(os.listdir(store.incoming(KEY)))
    note(store, "../../m/7b-base/q4_0", msgspec.structs.replace(metadata(), files=["../x", *NAMES[1:]]))
    store.recover()
    (store.incoming(KEY) / placing.NOTE).write_text("not json")
    store.recover()
    assert set(NAMES) <= set(os.listdir(store.incoming(KEY)))
    assert store.records() == []


def test_metadata_whose_files_are_not_those_of_its_sha256_is_not_believed(store: ModelStore) -> None:
    record = place(store)
    good = json.loads((record.directory / METADATA).read_text())
    for damage in (
        {"parts": good["parts"][:2]},
        {"parts": []},
        {"sha256": "cd" * 32},
        {"files": NAMES[::-1]},
        {"size": 1},
    ):
        (record.directory / METADATA).write_text(json.dumps(good | damage))
        assert store.records() == [], damage


def test_removing_a_model_removes_all_its_files(store: ModelStore) -> None:
    store.remove(place(store))
    assert not (store.root / "m").exists()
