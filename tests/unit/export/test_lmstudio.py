"""Export to LM Studio: publisher, model, file, and nobody else's file touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hali.cli import export as command
from hali.cli.main import main
from hali.export.folder import Folder
from hali.export.lmstudio import export, models_folder
from hali.export.model import StoredModel, projector_of
from hali.model.errors import Refused, UsageError
from tests.unit.export.stored import PROJECTOR, TALKING, bundle, stored, tree
from tests.unit.wire.gguf_files import pair


def test_a_model_of_a_repository_lies_where_lm_studio_would_have_put_it(tmp_path: Path) -> None:
    model = stored(tmp_path / "store", hf_repo="bartowski/Tiny-GGUF")
    done = export(model, Folder(tmp_path / "l"))
    assert done.path == str(tmp_path / "l/bartowski/Tiny-GGUF" / model.file.name)
    assert Path(done.path).read_bytes() == model.file.read_bytes()
    assert done.how in ("link", "reflink") and done.changed


def test_a_vision_part_lies_beside_its_model(tmp_path: Path) -> None:
    model = stored(tmp_path / "store", hf_repo="o/r")
    eyes = stored(tmp_path / "store", "mmproj-Tiny-F16.gguf", PROJECTOR, hf_repo="o/r")
    assert export(model, Folder(tmp_path / "l"), eyes).changed
    assert (tmp_path / "l/o/r/mmproj-Tiny-F16.gguf").read_bytes() == eyes.file.read_bytes()
    assert not export(model, Folder(tmp_path / "l"), eyes).changed
    (tmp_path / "l/o/r/mmproj-Tiny-F16.gguf").unlink()
    again = export(model, Folder(tmp_path / "l"), eyes)
    assert (again.changed, again.how) == (True, "kept")


def test_a_model_that_was_pulled_with_its_projector_lies_beside_it(tmp_path: Path) -> None:
    weights = stored(tmp_path / "store", hf_repo="o/r")
    eyes = stored(tmp_path / "store", "mmproj-Tiny-F16.gguf", PROJECTOR, hf_repo="o/r")
    whole = bundle(weights, eyes)
    for changed in (True, False):
        done = export(whole, Folder(tmp_path / "l"), projector_of(whole, [whole]))
        assert (done.changed, done.sha256) == (changed, whole.sha256)
    for one in (weights, eyes):
        assert (tmp_path / "l/o/r" / one.file.name).read_bytes() == one.file.read_bytes()


def versions(folder: Path, **fields: str) -> list[StoredModel]:
    """Two files of one name and id."""
    return [
        stored(folder / number, pairs=[*TALKING, pair("general.version", 8, number)], **fields) for number in ("1", "2")
    ]


@pytest.mark.parametrize("fields", [{"hf_repo": "o/r"}, {}], ids=["revisions", "one id"])
def test_files_that_would_share_a_place_get_one_each_and_keep_it(
    fields: dict[str, str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = versions(tmp_path, **fields)
    monkeypatch.setattr(command, "_stored", lambda: models)
    for told in ("linked", "is there already"):
        with pytest.raises(SystemExit) as caught:
            main(["export", "lmstudio", "--all", "--dir", str(tmp_path / "l")])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert [told in line for line in shown.splitlines()] == [True, True]
        assert all(f"-{model.sha256[:8]}" in shown for model in models)
    there = {path.read_bytes() for path in (tmp_path / "l").rglob("*.gguf")}
    assert there == {model.file.read_bytes() for model in models}


def test_one_that_was_imported_has_the_publisher_hali(tmp_path: Path) -> None:
    done = export(stored(tmp_path / "store"), Folder(tmp_path / "l"))
    assert done.name == "hali/tiny-1m-chat"


def test_a_second_export_changes_nothing(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    export(model, Folder(tmp_path / "l"))
    before = tree(tmp_path / "l")
    assert not export(model, Folder(tmp_path / "l")).changed
    assert tree(tmp_path / "l") == before


@pytest.mark.parametrize("copied", [False, True])
def test_an_update_of_the_same_size_replaces_what_hali_had_put_there(
    copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if copied:
        monkeypatch.setattr("hali.export.folder._bring_new", copy_only)
    old = stored(tmp_path / "store", pairs=[*TALKING, pair("general.version", 8, "1")])
    export(old, Folder(tmp_path / "l"))
    new = stored(tmp_path / "store", pairs=[*TALKING, pair("general.version", 8, "2")])
    assert new.size == old.size
    done = export(new, Folder(tmp_path / "l"))
    assert done.changed and Path(done.path).read_bytes() == new.file.read_bytes()
    assert not export(new, Folder(tmp_path / "l")).changed


def copy_only(source: Path, parent: int, name: str) -> str:
    from hali.export.folder import _copy_new

    _copy_new(source, parent, name)
    return "copy"


def test_a_file_of_somebody_else_is_left_alone_unless_it_is_the_same(tmp_path: Path) -> None:
    model = stored(tmp_path / "store", hf_repo="o/r")
    theirs = tmp_path / "l/o/r" / model.file.name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"x" * model.size)
    with pytest.raises(Refused, match="another file"):
        export(model, Folder(tmp_path / "l"))
    assert theirs.read_bytes() == b"x" * model.size
    theirs.write_bytes(model.file.read_bytes())
    inode = theirs.stat().st_ino
    assert not export(model, Folder(tmp_path / "l")).changed
    assert theirs.stat().st_ino == inode


@pytest.mark.parametrize("repo", ["../evil", "o/..", "o/a/b", "o/.hidden", "o/a\nb"])
def test_a_repository_that_would_lead_elsewhere_is_refused(repo: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        export(stored(tmp_path / "store", hf_repo=repo), Folder(tmp_path / "l"))
    assert tree(tmp_path / "l") == {} and not (tmp_path / "evil").exists()


def test_the_folder_is_the_one_that_lm_studio_uses(tmp_path: Path) -> None:
    assert models_folder({}, tmp_path) == tmp_path / ".lmstudio/models"
    (tmp_path / ".cache/lm-studio").mkdir(parents=True)
    assert models_folder({}, tmp_path) == tmp_path / ".cache/lm-studio/models"
    (tmp_path / "moved").mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path}/moved\n")
    assert models_folder({}, tmp_path) == tmp_path / "moved/models"
    (tmp_path / "moved/settings.json").write_text('{"downloadsFolder": "/big/models"}')
    assert models_folder({}, tmp_path) == Path("/big/models")
    (tmp_path / "moved/settings.json").write_text("[broken")
    assert models_folder({}, tmp_path) == tmp_path / "moved/models"
    assert models_folder({"LMSTUDIO_MODELS_DIR": "/srv/l"}, tmp_path) == Path("/srv/l")


def test_the_model_file_of_the_store_is_never_written_to(tmp_path: Path) -> None:
    model = stored(tmp_path / "store")
    before = os.stat(model.file)
    for _ in range(2):
        export(model, Folder(tmp_path / "l"))
    assert os.stat(model.file).st_mtime_ns == before.st_mtime_ns
