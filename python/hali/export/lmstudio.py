"""LM Studio's model folder: `publisher/model/file.gguf`."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hali.config.paths import absolute
from hali.export.folder import Folder, How
from hali.export.model import Export, StoredModel, halves, header_of
from hali.hashing import hash_file
from hali.model.errors import Refused

PUBLISHER = "hali"  # of a model that did not come from a repository
NOTE = "hali.json"  # which files of a model's folder hali put there: an update may replace those and no others


class Noted(msgspec.Struct, frozen=True):
    """A file as hali left it."""

    sha256: str
    size: int
    mtime_ns: int


def models_folder(env: Mapping[str, str], home: Path) -> Path:
    """`LMSTUDIO_MODELS_DIR`, else the folder chosen in LM Studio's settings, else its default."""
    if configured := env.get("LMSTUDIO_MODELS_DIR", "").strip():
        return absolute(configured)
    base = _program_folder(home)
    try:
        chosen = json.loads((base / "settings.json").read_bytes()).get("downloadsFolder")
    except (OSError, ValueError, AttributeError):  # never started, or a version that keeps it elsewhere
        chosen = None
    return Path(chosen) if isinstance(chosen, str) and Path(chosen).is_absolute() else base / "models"


def _program_folder(home: Path) -> Path:
    """Older versions used the folder of caches, and newer ones stay there when they find it."""
    try:
        pointed = Path((home / ".lmstudio-home-pointer").read_text().strip())
    except (OSError, ValueError):
        pointed = Path()
    older = home / ".cache" / "lm-studio"
    if pointed.is_absolute():
        return pointed
    return older if older.is_dir() else home / ".lmstudio"


def place_of(model: StoredModel, *, distinct: bool = False) -> tuple[str, str]:
    """Publisher and model: those of the repository, else ours; `distinct` adds the hash, for files that would share one place."""
    owner, slash, repo = (model.hf_repo or "").partition("/")
    end = f"-{model.sha256[:8]}" if distinct else ""
    if slash and owner and repo:
        return owner, f"{repo}{end}"
    base, size, variant, _ = model.model_id.split(":")
    return PUBLISHER, f"{base}-{size}-{variant}{end}"


def shared_places(models: Sequence[StoredModel]) -> set[tuple[str, ...]]:
    """Publisher, model and file of those that several want: revisions of one repository, or files of one id."""
    wanted = Counter((*place_of(model), model.file.name) for model in models)
    return {place for place, count in wanted.items() if count > 1}


def export(
    model: StoredModel, folder: Folder, projector: StoredModel | None = None, *, distinct: bool = False
) -> Export:
    """Put the model's file, and its vision or audio part, into LM Studio's folder; Refused when another file of that name is there."""
    files = [halves(model)[0], *([projector] if projector is not None else [])]
    for file in files:
        header_of(file)
    publisher, name = place_of(model, distinct=distinct)
    notes = _notes(folder, publisher, name)
    hows = [_bring(folder, (publisher, name, file.file.name), file, notes) for file in files]
    folder.write(msgspec.json.encode({"files": notes}), publisher, name, NOTE)
    path = folder.root / publisher / name / model.file.name
    changed = any(how != "kept" for how in hows)
    return Export("lmstudio", model.model_id, model.sha256, f"{publisher}/{name}", str(path), hows[0], changed)


def _bring(folder: Folder, where: tuple[str, str, str], model: StoredModel, notes: dict[str, Noted]) -> How:
    """One file to its place, and a note of it to `notes`."""
    there = _there(folder, where, model, notes.get(where[2]))
    how = "kept" if there else folder.bring(model.file, *where)
    now = folder.stat(*where)
    assert now is not None
    notes[where[2]] = Noted(model.sha256, now.st_size, now.st_mtime_ns)
    return how


def _notes(folder: Folder, publisher: str, name: str) -> dict[str, Noted]:
    try:
        found = msgspec.json.decode(folder.read(publisher, name, NOTE) or b"{}", type=dict[str, dict[str, Noted]])
    except msgspec.MsgspecError:  # somebody else's file of that name: then nothing here is ours
        return {}
    return found.get("files", {})


def _there(folder: Folder, where: tuple[str, str, str], model: StoredModel, note: Noted | None) -> bool:
    """True when the very file is there, False when it may be put there; Refused when another one is."""
    old = folder.stat(*where)
    if old is None:
        return False
    mine = model.file.stat()
    if (old.st_dev, old.st_ino) == (mine.st_dev, mine.st_ino):
        return True
    if note is not None and (old.st_size, old.st_mtime_ns) == (note.size, note.mtime_ns):
        return note.sha256 == model.sha256
    path = folder.root.joinpath(*where)
    if stat.S_ISREG(old.st_mode) and old.st_size == model.size and hash_file(path).sha256.hex() == model.sha256:
        return True
    raise Refused(f"{path} is another file, and not one that hali put there", hint="move it away and export again")
