"""What a registry lists, made fit for a pull: the candidates of a search, and one checked listing."""

from __future__ import annotations

from typing import Any

import msgspec

from hali.model.errors import UsageError, VerificationFailed
from hali.model.ids import is_hex
from hali.model.names import names_part_of
from hali.model.names import parse as parse_id
from hali.registry.documents import Manifest, Seconds
from hali.share.base import Listing
from hali.transfer.metainfo import Metainfo


class Candidate(msgspec.Struct, frozen=True):
    """A line of a search: unchecked, good enough to choose from."""

    model_id: str
    sha256: str
    infohash: str
    size: int | None = None
    trust: float | None = None
    publisher: str | None = None
    hf_repo: str | None = None
    published_at: Seconds | None = None


def candidate_of(row: Any) -> Candidate | None:
    """A row of an answer, or None for one that cannot be: it is shown on terminals, so it is read strictly."""
    try:
        trust = row["trust"]["score"]
        found = msgspec.convert({**row, "trust": trust}, Candidate)
    except (msgspec.ValidationError, KeyError, TypeError):
        return None
    keys = [found.sha256, found.infohash, *([] if found.publisher is None else [found.publisher])]
    return found if parse_id(found.model_id) is not None and all(is_hex(key, 64) for key in keys) else None


def must_be(manifest: Manifest, name: str) -> None:
    """VerificationFailed: a registry that answers with another model than was asked for is not believed."""
    if name not in (manifest.infohash_v1, manifest.infohash_v2, *(file.sha256 for file in manifest.files)):
        raise other_model(name, manifest.model_id)


def other_model(name: str, model_id: str) -> VerificationFailed:
    """Of a registry that answers to one name with another model."""
    return VerificationFailed(f"asked for {name}, the registry answered with {model_id}", code="other_model")


def listing_of(manifest: Manifest, torrent: Metainfo, registry: str, trust: float | None) -> Listing:
    """What a pull needs of a manifest and its torrent, both checked."""
    if len(manifest.files) != 1 or not torrent.is_single_file:
        raise UsageError(f"{manifest.model_id} has several files, which cannot be fetched yet")
    (file,) = manifest.files
    return Listing(
        model_id=manifest.model_id,
        sha256=file.sha256,
        file=file.name,
        size=file.size,
        torrent=torrent.raw,
        publisher=manifest.publisher,
        registry=registry,
        trust=trust,
        repo=manifest.hf_repo,
        revision=manifest.hf_revision,
    )


def fits(name: str, model_id: str) -> bool:
    """Whether `name` means this model: its id, or the base and further parts of it, as in the store."""
    return name == model_id or names_part_of(name, model_id)
