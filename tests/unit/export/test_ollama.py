"""Export to Ollama: what it reads there, again and again, and what is left alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import msgspec
import pytest

from hali.export.chat_formats import recognise
from hali.export.folder import Folder
from hali.export.go_template import PLAIN, go_template
from hali.export.model import projector_of
from hali.export.ollama import derive_name, export, human_number, models_folder, parse_name
from hali.model.errors import NoSpace, Refused, UsageError
from tests.fakes.ollama_reader import listed
from tests.unit.export.stored import CHATML, PROJECTOR, TALKING, bundle, stored, tree
from tests.unit.wire.gguf_files import pair


def test_ollama_lists_the_model_with_everything_it_wants_to_know(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    done = export(model, Folder(tmp_path / "o"), derive_name(model))
    (found,) = listed(tmp_path / "o").values()
    assert (found.name, done.name) == ("tiny:1m-chat-q4_k_m",) * 2
    assert {
        k: found.config[k] for k in ("model_format", "model_family", "model_families", "model_type", "file_type")
    } == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "0",
        "file_type": "Q4_K_M",
    }
    assert list(found.layers) == ["model", "template", "params", "license"]
    chatml = recognise(CHATML)
    assert chatml is not None and found.layers["template"] == go_template(chatml).encode()
    assert json.loads(found.layers["params"]) == {"stop": ["<|im_start|>", "<|im_end|>"]}  # type: ignore[arg-type]
    assert found.layers["license"] == b"mit"


def test_the_weights_are_shared_with_the_store_and_not_copied(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    done = export(model, Folder(tmp_path / "o"), derive_name(model))
    assert done.how in ("link", "reflink")
    if done.how == "link":
        assert os.path.samefile(done.path, model.file)


def test_a_second_export_changes_nothing_and_says_so(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    first = export(model, Folder(tmp_path / "o"), derive_name(model))
    before = tree(tmp_path / "o")
    second = export(model, Folder(tmp_path / "o"), derive_name(model))
    assert (first.changed, second.changed, second.how) == (True, False, "kept")
    assert tree(tmp_path / "o") == before


def test_an_updated_model_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old = stored(tmp_path / "store")
    export(old, Folder(tmp_path / "o"), derive_name(old))
    new = stored(tmp_path / "store", pairs=[*TALKING, pair("general.version", 8, "2")])
    assert export(new, Folder(tmp_path / "o"), derive_name(new)).changed
    (found,) = listed(tmp_path / "o").values()
    assert isinstance(path := found.layers["model"], Path) and path.name == f"sha256-{new.sha256}"


def test_what_was_removed_by_hand_is_put_there_again(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    done = export(model, Folder(tmp_path / "o"), derive_name(model))
    Path(done.path).unlink()
    assert export(model, Folder(tmp_path / "o"), derive_name(model)).how in ("link", "reflink")
    assert listed(tmp_path / "o")


def test_a_blob_of_the_right_size_and_wrong_bytes_is_replaced_and_a_right_copy_is_kept(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    blob = tmp_path / "o" / "blobs" / f"sha256-{model.sha256}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(model.size))
    assert export(model, Folder(tmp_path / "o"), derive_name(model)).how in ("link", "reflink")
    assert blob.read_bytes() == model.file.read_bytes()
    blob.unlink()
    blob.write_bytes(model.file.read_bytes())
    assert export(model, Folder(tmp_path / "o"), derive_name(model)).how == "kept"


def test_a_vision_part_goes_along(tmp_path: Path) -> None:
    model = stored(tmp_path / "store", hf_repo="o/tiny")
    eyes = stored(tmp_path / "store", "mmproj-Tiny-F16.gguf", PROJECTOR, hf_repo="o/tiny")
    other = stored(tmp_path / "store", "mmproj-Other-F16.gguf", PROJECTOR, hf_repo="o/other")
    assert projector_of(model, [model, eyes, other]) == eyes
    export(model, Folder(tmp_path / "o"), derive_name(model), eyes)
    (found,) = listed(tmp_path / "o").values()
    assert isinstance(path := found.layers["projector"], Path) and path.read_bytes() == eyes.file.read_bytes()
    assert found.config["model_families"] == ["llama", "clip"]
    with pytest.raises(Refused, match="vision or audio part"):
        export(eyes, Folder(tmp_path / "o"), derive_name(eyes))
    with pytest.raises(Refused, match="no vision or audio part"):
        export(model, Folder(tmp_path / "o"), derive_name(model), model)


def test_a_model_that_was_pulled_with_its_projector_goes_with_it_and_a_split_one_not_at_all(tmp_path: Path) -> None:
    weights = stored(tmp_path / "store", hf_repo="o/tiny")
    eyes = stored(tmp_path / "store", "mmproj-Tiny-F16.gguf", PROJECTOR, hf_repo="o/tiny")
    whole = bundle(weights, eyes)
    for changed in (True, False):
        done = export(whole, Folder(tmp_path / "o"), derive_name(whole), projector_of(whole, [whole]))
        assert (done.changed, done.sha256) == (changed, whole.sha256)
    (found,) = listed(tmp_path / "o").values()
    assert Path(done.path).read_bytes() == weights.file.read_bytes()
    assert isinstance(path := found.layers["projector"], Path) and path.read_bytes() == eyes.file.read_bytes()
    split = bundle(*(stored(tmp_path / "store", f"Tiny-1M-{n:05}-of-00002.gguf") for n in (1, 2)), eyes)
    with pytest.raises(Refused, match="lies in 3 files"):
        export(split, Folder(tmp_path / "o"), derive_name(split), projector_of(split, [split]))


def test_an_unknown_chat_format_gets_a_plain_template_and_is_said(tmp_path: Path) -> None:
    model = stored(tmp_path / "store", pairs=[*TALKING[:-2], pair("tokenizer.chat_template", 8, "{{ messages }}")])
    done = export(model, Folder(tmp_path / "o"), derive_name(model))
    (found,) = listed(tmp_path / "o").values()
    assert (found.layers["template"], done.template) == (PLAIN.encode(), "plain")
    assert "params" not in found.layers and "chat template" in done.notes[0]
    silent = stored(tmp_path / "store", "Base-1M.Q8_0.gguf", TALKING[:-2])
    assert export(silent, Folder(tmp_path / "o"), derive_name(silent)).notes == ()


def test_ollamas_own_model_of_that_name_is_left_alone(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    for manifests in ("manifests", "manifests-v2"):
        root = tmp_path / manifests
        theirs = root / manifests / "registry.ollama.ai/library/tiny/1m-chat-q4_k_m"
        theirs.parent.mkdir(parents=True)
        theirs.write_text('{"schemaVersion":2}')
        before = tree(root)
        with pytest.raises(Refused, match="of its own"):
            export(model, Folder(root), derive_name(model))
        assert tree(root) == before
        assert export(model, Folder(root), parse_name("mine:1")).name == "mine:1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "damaged"}, "damaged"),
        ({"state": "unverified"}, "unverified"),
        ({"state": "partial"}, "partial: some of its layers"),
        ({"state": "hashing"}, "being verified"),
        ({"files": ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]}, "2 files"),
    ],
)
def test_what_is_not_one_whole_file_is_refused(change: dict[str, object], why: str, tmp_path: Path) -> None:
    model = msgspec.structs.replace(stored(tmp_path / "store"), **change)
    with pytest.raises(Refused, match=why):
        export(model, Folder(tmp_path / "o"), derive_name(model))
    assert not (tmp_path / "o").exists()


def test_one_part_of_a_split_and_a_file_that_is_no_gguf_are_refused(tmp_path: Path) -> None:
    part = stored(tmp_path / "store", pairs=[*TALKING, pair("split.count", 2, 3)])
    with pytest.raises(Refused, match="one of 3 parts"):
        export(part, Folder(tmp_path / "o"), derive_name(part))
    part.file.write_bytes(b"no header here, of the length that it takes")
    with pytest.raises(Refused, match="not a GGUF file"):
        export(part, Folder(tmp_path / "o"), derive_name(part))


def test_nothing_is_listed_when_the_disk_fills_up_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored(tmp_path / "store")
    written = iter(range(1000))

    def full(fd: int) -> None:
        if next(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="disk full while writing"):
        export(model, Folder(tmp_path / "o"), derive_name(model))
    assert listed(tmp_path / "o") == {}
    for path in (tmp_path / "o" / "blobs").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.removeprefix("sha256-")


@pytest.mark.parametrize("text", ["", "a/b", "../x", ".x", "a:b:c", "a b", "x" * 81, "-a", "a:"])
def test_names_that_ollama_would_not_take_are_refused(text: str) -> None:
    if text == "a:":
        assert str(parse_name(text)) == "a:latest"
        return
    with pytest.raises(UsageError):
        parse_name(text)


def test_derived_names_are_valid_whatever_the_id(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    for model_id in ("a+b:7b:it+x:q4_0", f"{'n' * 80}:{'9' * 80}:{'v' * 80}:q4_0", "x:unknown:y:unknown"):
        named = derive_name(msgspec.structs.replace(model, model_id=model_id))
        assert parse_name(str(named)) == named
    assert str(derive_name(model, distinct=True)) == f"tiny:1m-chat-q4_k_m-{model.sha256[:8]}"


def test_parameters_are_counted_as_ollama_counts_them() -> None:
    counts = {134_515_008: "134.52M", 8_000_000_000: "8B", 3_212_749_888: "3.2B", 22_000_000: "22M", 950: "950"}
    assert {count: human_number(count) for count in counts} == counts


def test_the_folder_is_the_one_that_ollama_uses(tmp_path: Path) -> None:
    assert models_folder({}, tmp_path) == tmp_path / ".ollama/models"
    assert models_folder({"OLLAMA_MODELS": ' "/srv/o" '}, tmp_path) == Path("/srv/o")
