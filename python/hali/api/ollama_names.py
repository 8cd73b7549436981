"""Names as Ollama's clients write them, as names of ours. Nothing is guessed: what fits several models is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hali.model.errors import NotFound

T = TypeVar("T")
LATEST = ":latest"  # the tag that Ollama's clients add to a name without one
HUBS = ("hf.co/", "huggingface.co/")


def plain(name: str) -> str:
    """Without the default tag and the hub's host: `hf.co/owner/repo:latest` → `owner/repo`."""
    name = name.strip().removesuffix(LATEST)
    return next((name.removeprefix(hub) for hub in HUBS if name.startswith(hub)), name)


def find(name: str, lookup: Callable[[str], T]) -> T:
    """What `lookup` finds under the name as it is or, if there is no such thing, under its plain form."""
    try:
        return lookup(name)
    except NotFound:
        if plain(name) == name:
            raise
        return lookup(plain(name))
