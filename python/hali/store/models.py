"""The model store: `models/<base>/<size>-<variant>/<quant>/<file>` with `metadata.json` beside it.

The folder tree is the only truth: a damaged metadata file harms that model only, and a model moved away is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from hali.config.files import fsync_directory, write_atomically
from hali.config.paths import is_utf8
from hali.model.errors import AmbiguousName, NotFound, Refused, StoreDamaged
from hali.model.filenames import safe_name
from hali.model.ids import InfoHashes, ModelRef, is_hash_prefix
from hali.model.names import ModelId, names_part_of
from hali.model.splits import is_projector
from hali.runtime.log import get_logger
from hali.store import placing
from hali.store.metadata import METADATA as METADATA
from hali.store.metadata import Metadata as Metadata
from hali.store.metadata import StoredFile as StoredFile
from hali.store.metadata import wrong_fields

log = get_logger(__name__)

INCOMING = ".incoming"
PARTIAL = ".partial"  # see store/partials.py
PARTIAL_METADATA = "partial.json"


class Record(msgspec.Struct, frozen=True):
    """One model of the store: its metadata and where it lies."""

    meta: Metadata
    directory: Path

    @property
    def path(self) -> Path:
        """The file that is opened to run the model."""
        return self.directory / self.meta.files[0]

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent hali makes of it."""
        return InfoHashes(self.meta.infohash_v1, self.meta.infohash_v2)

    @property
    def ref(self) -> ModelRef:
        """Its identity."""
        return ModelRef(self.meta.sha256, self.meta.files[0], self.meta.size, self.meta.hf_repo, self.meta.hf_revision)

    @property
    def has_other_names(self) -> bool:
        """True when a file is linked elsewhere (an import, an export): its bytes stay while that name is there."""
        return any(_has_other_names(self.directory / name) for name in self.meta.files)

    @property
    def own_bytes(self) -> int:
        """Bytes that the disk has again without it: of files that are there, and have no other name."""
        return sum(_own_bytes(self.directory / name) for name in self.meta.files)

    @property
    def is_gone(self) -> bool:
        """True when a file is not there."""
        return not all((self.directory / name).exists() for name in self.meta.files)

    def changed_on_disk(self) -> bool:
        """True if size or time of a file differ from when it was verified; NotFound if one is gone."""
        return any(self._changed(file) for file in self.meta.each)

    def _changed(self, file: StoredFile) -> bool:
        try:
            found = (self.directory / file.name).stat()
        except FileNotFoundError:
            raise NotFound(f"{self.meta.model_id}: its file is gone from {self.directory}: {file.name}") from None
        return (found.st_size, found.st_mtime_ns) != (file.size, file.mtime_ns)


def _has_other_names(path: Path) -> bool:
    try:
        return path.stat().st_nlink > 1
    except OSError:  # gone, and nothing of it stays
        return False


def _is_same(one: Path, other: Path) -> bool:
    """True for two names of one file."""
    try:
        return one.samefile(other)
    except OSError:  # one is not there
        return False


def _own_bytes(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:  # gone
        return 0
    return found.st_size if found.st_nlink == 1 else 0


class ModelStore:
    """All models below `root`. Reading needs no daemon; only one process (the daemon, or a command without one) writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def records(self) -> list[Record]:
        """Every readable model, by name; unreadable metadata is logged and left out."""
        found = []
        for path in self._metadata_files():
            try:
                found.append(self._read(path))
            except StoreDamaged as exc:
                log.warning("store.damaged", path=str(path), error=str(exc))
        return sorted(found, key=lambda r: (r.meta.model_id, r.meta.sha256))

    def unreadable(self) -> list[Path]:
        """Metadata files that are damaged."""
        found = []
        for path in self._metadata_files():
            try:
                self._read(path)
            except StoreDamaged:
                found.append(path)
        return found

    def _metadata_files(self) -> Iterator[Path]:
        return self.root.glob(f"[!.]*/*/*/{METADATA}")

    def _read(self, path: Path) -> Record:
        try:
            meta = msgspec.json.decode(path.read_bytes(), type=Metadata)
        except (OSError, msgspec.MsgspecError, RecursionError) as exc:
            raise StoreDamaged(f"{path}: {exc}", hint="`hali add` the model file again") from None
        if not is_utf8(str(path)):
            raise StoreDamaged(f"{path}: its name is not UTF-8", hint="rename its folder")
        if wrong := wrong_fields(meta):
            raise StoreDamaged(f"{path}: {', '.join(wrong)} cannot be", hint="`hali add` the model file again")
        return Record(meta, path.parent)

    def place(self, source: Path, model_id: ModelId, meta: Metadata) -> Record:
        """Move `source`, the first of `meta.files`, and the others beside it into the store; the model is there whole or not at all.

        The same model again replaces its old record; another one of the same id gets a folder of its own.
        """
        directory = self._inside(self._directory_for(model_id, meta, source.parent))
        directory.mkdir(parents=True, exist_ok=True)
        return placing.place(source.parent, directory, meta.files, meta, partial(self._finish, directory, meta))

    def _finish(self, directory: Path, meta: Metadata) -> Record:
        """All files lie in `directory`: the metadata makes them a model."""
        fsync_directory(directory)
        meta = meta.verified_at([(directory / name).stat().st_mtime_ns for name in meta.files])
        return self.update(Record(meta, directory))

    def recover(self) -> None:
        """Finish what a crash interrupted between the files of a model. Only for the one process that writes, before all else."""
        for folder in self.root.glob(f"{INCOMING}/[!.]*"):  # what has a dot is being deleted
            if (found := placing.intended(folder, Metadata)) is None:
                continue
            try:
                self._recover(folder, found)
            except (Refused, OSError) as exc:  # it must not keep the others from being shared
                log.warning("store.not_recovered", folder=str(folder), error=str(exc))

    def _recover(self, folder: Path, found: placing.Intent[Metadata]) -> None:
        directory, meta = self._inside((folder / found.directory).resolve()), found.meta
        if wrong := wrong_fields(meta):
            raise Refused(f"{', '.join(wrong)} cannot be")
        if not placing.can_move(folder, directory, meta.files):
            placing.forget(folder)
            raise Refused("a file of the model is gone")
        directory.mkdir(parents=True, exist_ok=True)
        placing.move(folder, directory, meta.files)
        self._finish(directory, meta)
        log.info("store.recovered", model=meta.model_id, sha256=meta.sha256)
        self.discard_incoming(folder.name)

    def _directory_for(self, model_id: ModelId, meta: Metadata, source: Path) -> Path:
        plain = self.root / model_id.base / f"{model_id.size}-{model_id.variant}" / model_id.quant
        metadata = plain / METADATA
        if not metadata.exists():
            return plain
        known = self._read_sha(metadata)
        # The files beside a record that cannot be read were added again, as its error says: they stay where they are.
        if known == meta.sha256 or (known is None and all(_is_same(source / f, plain / f) for f in meta.files)):
            return plain
        return plain.with_name(f"{model_id.quant}-{meta.sha256[:8]}")

    def _read_sha(self, path: Path) -> str | None:
        try:
            return self._read(path).meta.sha256
        except StoreDamaged:
            return None

    def update(self, record: Record) -> Record:
        """Write the metadata of a placed model."""
        data = msgspec.json.format(msgspec.json.encode(record.meta), indent=2)
        write_atomically(record.directory / METADATA, data + b"\n")
        return record

    def remove(self, record: Record) -> None:
        """Delete a model: metadata first, so that a crash in between leaves no record of a file that is gone."""
        self._inside(record.directory)
        (record.directory / METADATA).unlink(missing_ok=True)
        for name in record.meta.files:
            (record.directory / name).unlink(missing_ok=True)
        for directory in (record.directory, *record.directory.parents[:2]):
            if directory == self.root or (directory.exists() and any(directory.iterdir())):
                break
            if directory.exists():  # else somebody has deleted it, with all that is in it
                directory.rmdir()

    def incoming(self, key: str) -> Path:
        """The folder of an unfinished model; made when missing."""
        directory = self._inside(self.root / INCOMING / safe_name(key))
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError) as exc:
            raise Refused(
                f"models_dir {self.root} cannot be made or written: {exc.strerror}",
                hint="`hali config set models_dir FOLDER` names another one",
            ) from None
        return directory

    def partial(self, name: str) -> Path:
        """The folder of a partial model, there or not."""
        return self._inside(self.root / PARTIAL / safe_name(name))

    def _inside(self, directory: Path) -> Path:
        """`directory`, unless a symbolic link on its way leads out of the store; Refused."""
        if not directory.resolve().is_relative_to(self.root.resolve()):
            raise Refused(
                f"{directory} leads out of the store to {directory.resolve()}",
                hint="remove the symbolic link; to keep models on another disk set models_dir",
            )
        return directory

    def discard_incoming(self, key: str) -> None:
        """Forget an unfinished model and its journal."""
        shutil.rmtree(self.root / INCOMING / key, ignore_errors=True)


def matching(records: Iterable[Record], name: str) -> list[Record]:
    """All models that `name` fits; a file's very name beats an exact id or hash, and that beats a part of one."""
    wanted, known = name.strip().lower(), list(records)
    literal = [r for r in known if name in _file_names(r)]
    exact = literal or [r for r in known if wanted in _exact_names(r)]
    return exact or [r for r in known if _fits(wanted, r)]


def the_one(records: Iterable[Record], name: str) -> Record:
    """The one model called `name`: id, part of one, SHA-256 or infohash (or a prefix), file name, `owner/repo[:quant]`; NotFound,
    AmbiguousName.
    """
    found = matching(records, name)
    if not found:
        raise NotFound(
            f"no model {name!r} in the store", hint="`hali list` shows what there is, `hali pull` fetches more"
        )
    if len({r.meta.sha256 for r in found}) > 1:
        raise AmbiguousName(
            f"{name!r} fits {len(found)} models",
            choices=[_choice(r) for r in found],
            hint="give more of the id or the SHA-256",
        )
    return found[0]


def _file_names(record: Record) -> set[str]:
    files = record.meta.files
    return {name for name in files if name == files[0] or not is_projector(name)}


def _exact_names(record: Record) -> set[str]:
    meta = record.meta
    files = {name.lower() for name in _file_names(record)}
    return {meta.model_id, meta.sha256, meta.infohash_v1, meta.infohash_v2, *files, *meta.also_torrents}


def _fits(wanted: str, record: Record) -> bool:
    meta = record.meta
    if is_hash_prefix(wanted) and any(h.startswith(wanted) for h in (meta.sha256, meta.infohash_v1, meta.infohash_v2)):
        return True
    return names_part_of(wanted, meta.model_id) or _is_of_repo(wanted, meta)


def _is_of_repo(wanted: str, meta: Metadata) -> bool:
    """`owner/repo` or `owner/repo:quant`, as it was pulled."""
    repo, _, quant = wanted.partition(":")
    return meta.hf_repo is not None and repo == meta.hf_repo.lower() and quant in ("", meta.model_id.rpartition(":")[2])


def _choice(record: Record) -> str:
    meta = record.meta
    where = f"{meta.hf_repo}/{meta.files[0]}" if meta.hf_repo else meta.files[0]
    return f"{meta.model_id} (sha256 {meta.sha256[:12]}…, {where})"
