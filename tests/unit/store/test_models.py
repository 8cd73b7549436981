"""The store: placing, finding, damaged neighbours, removing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from hali.model.errors import AmbiguousName, NotFound, Refused
from hali.model.names import derive
from hali.store.models import METADATA, Metadata, ModelStore, Record, matching, the_one


def place(store: ModelStore, tmp_path: Path, file: str, content: bytes, sha: str) -> Record:
    source = tmp_path / file
    source.write_bytes(content)
    meta = Metadata(
        model_id=str(derive(file)),
        sha256=sha * 32,
        blake3="00" * 32,
        infohash_v1=sha * 20,
        infohash_v2=sha[::-1] * 32,
        files=[file],
        size=len(content),
        downloaded_at="2026-01-01T00:00:00Z",
        mtime_ns=0,
    )
    return store.place(source, derive(file), meta)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_placed_model_is_found_by_every_name_it_has(store: ModelStore, tmp_path: Path) -> None:
    record = place(store, tmp_path, "SmolLM2-135M-Instruct.Q4_1.gguf", b"x", "ab")
    assert record.path == store.root / "smollm2/135m-instruct/q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
    names = (
        "smollm2:135m:instruct:q4_1",
        "smollm2",
        "smollm2:q4_1",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "ab" * 32,
        "ab" * 5,
        "ba" * 32,
    )
    for name in names:
        assert the_one(store.records(), name) == record, name
    for name in ("smol", "smollm2:7b", "ab", "cd" * 32, ""):
        assert matching(store.records(), name) == [], name


def test_a_name_that_fits_two_models_is_ambiguous_and_lists_them(store: ModelStore, tmp_path: Path) -> None:
    place(store, tmp_path, "M-7B.Q4_0.gguf", b"x", "ab")
    place(store, tmp_path, "M-7B.Q8_0.gguf", b"y", "cd")
    with pytest.raises(AmbiguousName) as caught:
        the_one(store.records(), "m:7b")
    assert [choice.split()[0] for choice in caught.value.choices] == ["m:7b:base:q4_0", "m:7b:base:q8_0"]
    assert the_one(store.records(), "m:7b:base:q8_0").meta.sha256 == "cd" * 32


def test_the_very_name_of_a_file_means_that_file(store: ModelStore, tmp_path: Path) -> None:
    names = {"Case-1B-Q4_0.gguf": "ab", "case-1b-q4_0.gguf": "cd", " x-1B.gguf": "ef"}
    for name, sha in names.items():
        place(store, tmp_path, name, sha.encode(), sha)
    for name, sha in names.items():
        assert the_one(store.records(), name).meta.sha256 == sha * 32
    with pytest.raises(AmbiguousName):
        the_one(store.records(), "CASE-1b-Q4_0.gguf")


def test_a_model_is_found_by_the_repository_it_was_pulled_from(store: ModelStore, tmp_path: Path) -> None:
    for quant, sha in (("Q4_0", "ab"), ("Q8_0", "cd")):
        record = place(store, tmp_path, f"M-7B.{quant}.gguf", quant.encode(), sha)
        meta = msgspec.structs.replace(record.meta, hf_repo="Owner/M-GGUF")
        (record.directory / METADATA).write_bytes(msgspec.json.encode(meta))
    assert the_one(store.records(), "owner/m-gguf:Q8_0").meta.sha256 == "cd" * 32
    with pytest.raises(AmbiguousName):
        the_one(store.records(), "Owner/M-GGUF")
    for name in ("owner/m-gguf:q5_0", "owner/m", "m-gguf", "owner/m-gguf:"):
        with pytest.raises((NotFound, AmbiguousName)):
            the_one(store.records(), name)


def test_another_file_of_the_same_name_gets_a_folder_of_its_own(store: ModelStore, tmp_path: Path) -> None:
    first = place(store, tmp_path, "M-7B.Q4_0.gguf", b"x", "ab")
    second = place(store, tmp_path, "M-7B.Q4_0.gguf", b"y", "cd")
    assert first.path != second.path
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"x", b"y")


def test_damaged_metadata_harms_that_model_only(store: ModelStore, tmp_path: Path) -> None:
    broken = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    fine = place(store, tmp_path, "B-7B.Q4_0.gguf", b"y", "cd")
    for content in (b"", b"{", b"[]", b'{"files": ["../../x"]}', b"\xff" * 100):
        (broken.directory / METADATA).write_bytes(content)
        assert store.records() == [fine]


def test_a_folder_whose_name_is_not_utf8_harms_no_other_model(store: ModelStore, tmp_path: Path) -> None:
    moved = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    fine = place(store, tmp_path, "B-7B.Q4_0.gguf", b"y", "cd")
    (store.root / "a").rename(store.root / "a\udcff")
    assert store.records() == [fine]
    assert store.unreadable() == [store.root / "a\udcff" / moved.directory.relative_to(store.root / "a") / METADATA]


def test_a_file_beside_damaged_metadata_that_is_added_again_stays_where_it_is(
    store: ModelStore, tmp_path: Path
) -> None:
    broken = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    (broken.directory / METADATA).write_bytes(b"{")
    # Another file of that name and size is another model: the one here may be the only copy of it.
    other = place(store, tmp_path, "A-7B.Q4_0.gguf", b"y", "cd")
    assert (other.directory.name, store.unreadable()) == ("q4_0-cdcdcdcd", [broken.directory / METADATA])
    linked = tmp_path / "A-7B.Q4_0.gguf"
    linked.hardlink_to(broken.path)
    again = store.place(linked, derive(linked.name), broken.meta)
    assert (again, store.unreadable()) == (broken, [])
    assert again.path.read_bytes() == b"x"


def test_metadata_that_points_outside_its_folder_is_refused(store: ModelStore, tmp_path: Path) -> None:
    record = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    text = (record.directory / METADATA).read_text().replace("A-7B.Q4_0.gguf", "../../../../etc/passwd")
    (record.directory / METADATA).write_text(text)
    assert store.records() == []


def test_a_change_of_the_file_is_noticed_without_reading_it(store: ModelStore, tmp_path: Path) -> None:
    record = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    assert not record.changed_on_disk()
    record.path.write_bytes(b"xy")
    assert record.changed_on_disk()
    record.path.unlink()
    with pytest.raises(NotFound, match="its file is gone"):
        record.changed_on_disk()


def test_removing_a_model_leaves_no_empty_folders_and_no_neighbour_hurt(store: ModelStore, tmp_path: Path) -> None:
    first = place(store, tmp_path, "M-7B.Q4_0.gguf", b"x", "ab")
    second = place(store, tmp_path, "M-7B.Q8_0.gguf", b"y", "cd")
    store.remove(first)
    assert store.records() == [second]
    store.remove(second)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_id", "\u001b[2J"),
        ("model_id", "a:b:../c:d"),
        ("sha256", ""),
        ("infohash_v1", "../../config"),
        ("infohash_v2", "ab"),
        ("also_torrents", ["../x"]),
        ("size", 0),
        ("size", 10**30),
        ("mtime_ns", 10**30),
        ("sources", {"http": 10**30}),
        ("downloaded_at", "x"),
        ("downloaded_at", "2026-13-41T00:00:00Z"),
        ("downloaded_at", "2026-02-29T00:00:00Z"),
    ],
)
def test_metadata_that_hali_would_not_have_written_harms_that_model_only(
    store: ModelStore, tmp_path: Path, field: str, value: object
) -> None:
    broken = place(store, tmp_path, "A-7B.Q4_0.gguf", b"x", "ab")
    fine = place(store, tmp_path, "B-7B.Q4_0.gguf", b"y", "cd")
    written = json.loads((broken.directory / METADATA).read_text())
    (broken.directory / METADATA).write_text(json.dumps(written | {field: value}))
    assert store.records() == [fine]


def test_a_store_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/x")):
        with pytest.raises(Refused, match=f"models_dir {root} cannot be made or written") as caught:
            ModelStore(root).incoming("a")
        assert "hali config set models_dir" in str(caught.value.hint)
