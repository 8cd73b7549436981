"""The store without a daemon: the same answers, read from disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec

from hali.config import load as config
from hali.config.paths import Paths, from_environment
from hali.daemon.address import exclusive
from hali.daemon.parts import part_called, removed_part
from hali.daemon.pruning import prune as make_room
from hali.daemon.views import describe_header, describe_model, freed_by, verified
from hali.model.errors import NotFound
from hali.share.job import Progress
from hali.share.library import Entry, Library
from hali.share.partials import Partials
from hali.share.space import Space
from hali.store.database import Database
from hali.store.models import ModelStore
from hali.store.partials import PartialStore
from hali.store.usage import UNUSED, Usage, read_usage


def _partials(library: Library) -> Partials:
    partials = Partials(PartialStore(library.store))
    partials.scan()
    return partials


def _library() -> tuple[Library, Paths]:
    paths = from_environment()
    settings = config.load(paths.config).settings
    store = ModelStore(paths.models(settings.models_dir))
    library = Library(store, paths.torrents, announce=lambda _: None)
    library.scan()
    for entry in library.entries():
        _look_at(entry)
    return library, paths


def _look_at(entry: Entry) -> None:
    """What can be told without reading the file."""
    try:
        if entry.record.changed_on_disk():
            entry.state, entry.error = "unverified", "its file changed since it was verified"
    except NotFound as exc:
        entry.state, entry.error = "missing", exc.message


def models() -> dict[str, Any]:
    """As the IPC method `models`."""
    library, paths = _library()
    uses = read_usage(paths.database)
    found = [describe_model(library, entry, uses.get(entry.record.meta.sha256, UNUSED)) for entry in library.entries()]
    partials = _partials(library)
    parts = [partials.describe(entry) for entry in partials.entries()]
    return {"models": found, "partial": parts, "unreadable": [str(path) for path in library.store.unreadable()]}


def info(model: str) -> dict[str, Any]:
    """As the IPC method `info`; who else has it only a daemon knows."""
    library, paths = _library()
    partials = _partials(library)
    if (part := part_called(library, partials, model)) is not None:
        return partials.describe(part)
    entry = library.find(model)
    use = read_usage(paths.database).get(entry.record.meta.sha256, UNUSED)
    return describe_model(library, entry, use) | {"gguf": describe_header(entry), "lan_nodes": None, "peers": None}


def verify(model: str, on_progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """As the IPC method `verify`."""
    library, paths = _library()
    entry = library.find(model)

    def told(done: int) -> None:
        if on_progress is not None:
            progress = Progress("hashing", entry.record.path.name, done, entry.record.meta.size)
            on_progress(msgspec.to_builtins(progress))

    with exclusive(paths):
        digests = asyncio.run(library.verify(entry, told))
    return verified(entry, digests)


def remove(model: str) -> dict[str, Any]:
    """As the IPC method `rm`."""
    library, paths = _library()
    partials = _partials(library)
    if (part := part_called(library, partials, model)) is not None:
        with exclusive(paths):
            return asyncio.run(removed_part(partials, part))
    entry = library.find(model)
    sha256, freed = entry.record.meta.sha256, freed_by(entry)
    with _usage(paths) as usage:
        asyncio.run(library.remove(entry))
        usage.forget(sha256)
    return {"model_id": entry.record.meta.model_id, "sha256": sha256, "freed": freed}


def pin(model: str, pinned: bool) -> dict[str, Any]:
    """As the IPC method `pin`."""
    library, paths = _library()
    meta = library.find(model).record.meta
    with _usage(paths) as usage:
        usage.pin(meta.sha256, pinned)
    return {"model_id": meta.model_id, "sha256": meta.sha256, "pinned": pinned}


def prune(**params: Any) -> dict[str, Any]:
    """As the IPC method `prune`."""
    library, paths = _library()
    quota_gb = config.load(paths.config).settings.storage.quota_gb
    with _usage(paths) as usage:
        space = Space(library, usage, paths.torrents, quota_gb=quota_gb)
        return asyncio.run(make_room(space, library, params))


@contextmanager
def _usage(paths: Paths) -> Iterator[Usage]:
    """The record of use, writable: no daemon may start meanwhile."""
    paths.create()
    with exclusive(paths), closing(Database(paths.database)) as database:
        yield Usage(database)


METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    "models": models,
    "info": info,
    "verify": verify,
    "rm": remove,
    "pin": pin,
    "prune": prune,
}
