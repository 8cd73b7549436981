"""The library as the catalogue of models that can answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hali.config.adapters import Adapter, Draft
from hali.engine.options import EngineOptions
from hali.model.errors import Refused
from hali.model.splits import is_projector
from hali.pipeline.base import ServedModel
from hali.share.library import Entry, Library
from hali.store.metadata import seconds_since_1970


class LibraryCatalog:
    """Only verified models are served: a damaged or missing one is refused by name."""

    def __init__(self, library: Library, adapters: Sequence[Adapter] = (), drafts: Sequence[Draft] = ()) -> None:
        self._library, self._adapters, self._drafts = library, adapters, drafts

    def list(self) -> Sequence[ServedModel]:
        """All models that can answer, by name."""
        return [served(entry) for entry in self._library.entries() if _usable(entry)]

    def find(self, name: str) -> ServedModel:
        """The one model `name` means; NotFound, AmbiguousName, Refused when it is damaged or its file is another now."""
        entry = self._library.find(name)
        if not _is_gguf(entry):
            raise Refused(f"{entry.record.meta.model_id} is no GGUF file: it can be shared, and not run")
        if not _usable(entry):
            raise Refused(
                f"{entry.record.meta.model_id} is {entry.state}: {entry.error or 'not verified'}",
                hint="`hali verify` or pull it again",
            )
        if entry.record.changed_on_disk():
            raise Refused(
                f"{entry.record.meta.model_id}: its file changed since it was verified",
                hint="`hali verify` reads it again",
            )
        return served(entry)

    def equip(self, path: Path, options: EngineOptions) -> EngineOptions:
        """`options` with what goes with the model at `path`: the file beside it that reads its images, its adapters, its draft model."""
        entry = next((entry for entry in self._library.entries() if entry.record.path == path), None)
        if entry is None:
            return options
        meta = entry.record.meta
        projector = next((path.parent / name for name in meta.files[1:] if is_projector(name)), None)
        lora = [(os.path.expanduser(it.file), it.scale) for it in self._adapters if it.fits(meta.model_id)]
        draft = next((os.path.expanduser(it.file) for it in self._drafts if it.fits(meta.model_id)), options.draft)
        return msgspec.structs.replace(
            options,
            projector=options.projector if projector is None else str(projector),
            lora=(*options.lora, *lora),
            draft=draft,
        )


def _usable(entry: Entry) -> bool:
    return entry.trusted and _is_gguf(entry)


def _is_gguf(entry: Entry) -> bool:
    return entry.record.meta.files[0].lower().endswith(".gguf")


def served(entry: Entry) -> ServedModel:
    """The model of `entry` as the router and the engines know it."""
    meta = entry.record.meta
    created = round(seconds_since_1970(meta.downloaded_at))
    return ServedModel(meta.model_id, meta.sha256, entry.record.path, created, meta.size, (meta.files[0],))
