"""The store without a daemon: the same answers, read from disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hali.config import load as config
from hali.config.paths import Paths, from_environment
from hali.daemon.address import exclusive
from hali.daemon.views import verified
from hali.model.errors import NotFound
from hali.share.library import Entry, Library
from hali.store.models import ModelStore


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
    library, _ = _library()
    return {"models": [library.describe(entry) for entry in library.entries()]}


def info(model: str) -> dict[str, Any]:
    """As the IPC method `info`."""
    library, _ = _library()
    return library.describe(library.find(model))


def verify(model: str) -> dict[str, Any]:
    """As the IPC method `verify`."""
    library, paths = _library()
    entry = library.find(model)
    with exclusive(paths):
        digests = asyncio.run(library.verify(entry))
    return verified(entry, digests)


def remove(model: str) -> dict[str, Any]:
    """As the IPC method `rm`."""
    library, paths = _library()
    entry = library.find(model)
    with exclusive(paths):
        asyncio.run(library.remove(entry))
    return {"model_id": entry.record.meta.model_id, "sha256": entry.record.meta.sha256, "freed": entry.record.meta.size}


METHODS: dict[str, Callable[..., dict[str, Any]]] = {"models": models, "info": info, "verify": verify, "rm": remove}
