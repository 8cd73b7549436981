"""Which models can answer, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hali.daemon.catalog import LibraryCatalog
from hali.model.errors import Refused
from hali.share.library import Entry, Library, ModelState
from hali.store.models import Metadata, Record


def entry(file: str, state: ModelState, *, trusted: bool) -> Entry:
    meta = Metadata("a:1b:base:q4_0", "a" * 64, "b" * 64, "c" * 40, "d" * 64, [file], 1, "2026-01-01T00:00:00Z", 0)
    return Entry(Record(meta, Path("/none")), state, trusted=trusted)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (entry("a.safetensors", "seeding", trusted=True), "is no GGUF file"),
        (entry("a.gguf", "damaged", trusted=False), "is damaged"),
    ],
)
def test_what_cannot_answer_is_refused_with_the_reason(held: Entry, told: str) -> None:
    catalog = LibraryCatalog(cast(Library, SimpleNamespace(find=lambda name: held, entries=lambda: [held])))
    with pytest.raises(Refused, match=told):
        catalog.find("a")
    assert catalog.list() == []
