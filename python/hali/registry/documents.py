"""What publishers sign: manifests, torrents, profiles, rotations, revocations, indexes, and what reporters sign.

Every field is bounded here, so that what was decoded needs no second look at its size. Field names are a public format.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from hali.model.errors import ProtocolError
from hali.model.filenames import MAX_NAME, safe_name
from hali.model.names import parse
from hali.transfer.hub_choice import is_repo_name

VERSION = 1
MAX_TEXT = 500  # characters of a line in a profile; a description on the hub is of this order
MAX_FILES = 64  # of one model; the largest split models have some fifty parts

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # raw Ed25519 public key
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
InfohashV1 = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
InfohashV2 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Sequence = Annotated[int, Meta(ge=1, le=2**53 - 1)]  # exact in every JSON reader
Seconds = Annotated[int, Meta(ge=0, le=2**40)]  # Unix time; 2**40 is the year 36812
Size = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Line = Annotated[str, Meta(max_length=MAX_TEXT)]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The common part. An unknown field is refused: a signature must not cover what its reader did not understand."""


class Signed(Document, frozen=True):
    """By a publisher's key. `sequence` grows with every document of one key, whatever its type."""

    publisher: Key
    sequence: Sequence
    time: Seconds  # the signer's clock, for people; order is told by `sequence`


class FileEntry(Document, frozen=True):
    """One file of a model."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    size: Size
    sha256: Sha256
    blake3: Sha256


class Manifest(Signed, frozen=True, tag="manifest"):
    """This publisher says: a model of that name is exactly these files, in exactly this torrent."""

    model_id: Annotated[str, Meta(min_length=7, max_length=330)]  # four parts of at most 80 characters
    files: Annotated[list[FileEntry], Meta(min_length=1, max_length=MAX_FILES)]
    infohash_v1: InfohashV1
    infohash_v2: InfohashV2
    hf_repo: Annotated[str, Meta(max_length=200)] | None = None
    hf_revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")] | None = None

    def __post_init__(self) -> None:
        """ValueError for names that hali would not have given."""
        if parse(self.model_id) is None:
            raise ValueError("model_id is not base:size:variant:quant")
        if self.hf_repo is not None and not is_repo_name(self.hf_repo):
            raise ValueError("hf_repo is not owner/name")
        if (self.hf_repo is None) != (self.hf_revision is None):
            raise ValueError("hf_repo and hf_revision go together")
        for file in self.files:
            _check_name(file.name)


class Ingest(Signed, frozen=True, tag="ingest"):
    """This publisher hands over the .torrent of a manifest."""

    infohash_v2: InfohashV2
    torrent_sha256: Sha256  # of the .torrent's bytes


class Profile(Signed, frozen=True, tag="profile"):
    """Who stands behind a key, in the publisher's own words."""

    display_name: Annotated[str, Meta(min_length=1, max_length=80)]
    description: Line | None = None
    website: Line | None = None
    contact: Line | None = None

    def __post_init__(self) -> None:
        """ValueError for texts that would not be one line on a terminal."""
        for text in (self.display_name, self.description, self.website, self.contact):
            if text is not None and not text.isprintable():
                raise ValueError("a profile holds printable characters only")
        if self.website is not None and not self.website.startswith(("https://", "http://")):
            raise ValueError("website is not an http or https URL")


class Rotation(Signed, frozen=True, tag="rotation"):
    """The old key names its successor. Countersigned by the successor, so that nobody can name a key of somebody else."""

    successor: Key


class Revocation(Signed, frozen=True, tag="revocation"):
    """The key declares itself lost: nothing that it signs afterwards is valid."""

    reason: Line | None = None

    def __post_init__(self) -> None:
        """ValueError for a text that would not be one line on a terminal."""
        if self.reason is not None and not self.reason.isprintable():
            raise ValueError("a reason holds printable characters only")


class Report(Document, frozen=True, tag="report"):
    """One download, by a pseudonym that is different for every registry and cannot be traced to a node."""

    reporter: Key
    infohash_v2: InfohashV2
    outcome: Annotated[str, Meta(pattern=r"^(ok|failed)\Z")]
    day: Annotated[int, Meta(ge=0, le=2**24)]  # days since 1970: a clock time would say more than is needed


class IndexEntry(Document, frozen=True):
    """One model of a static registry; its files are pinned by their SHA-256."""

    model_id: Annotated[str, Meta(max_length=330)]
    sha256: Sha256
    infohash_v1: InfohashV1
    infohash_v2: InfohashV2
    manifest_sha256: Sha256
    torrent_sha256: Sha256


class Index(Signed, frozen=True, tag="index"):
    """All models of a static registry."""

    entries: Annotated[list[IndexEntry], Meta(max_length=100_000)]  # 60 MB of JSON; beyond that run a server


Closing = Rotation | Revocation
AnyDocument = Manifest | Ingest | Profile | Rotation | Revocation | Report | Index


def signer_of(document: Document) -> str:
    """The key whose signature a document needs, hex."""
    if isinstance(document, Report):
        return document.reporter
    assert isinstance(document, Signed)
    return document.publisher


def _check_name(name: str) -> None:
    try:
        safe_name(name)
    except ProtocolError as exc:
        raise ValueError(exc.message) from None
