"""Static registries: a signed folder that any web server, or a `file:` path, serves.

    index.json               signed: all models, each with the SHA-256 of its manifest and .torrent
    keys.json                rotations and revocations of the publisher's keys, oldest first
    manifests/INFOHASH.json  signed manifests
    torrents/INFOHASH.torrent

Writing it is `write`; reading it, with the same checks as a server's answers and against rollback, is `read_index` and what follows.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hali.config.files import write_atomically
from hali.model.errors import HaliError, NoSpace, ProtocolError, Refused, UsageError, VerificationFailed
from hali.registry.documents import Index, IndexEntry, Manifest, Rotation
from hali.registry.publisher import closing_of
from hali.registry.signing import unseal

INDEX, KEYS = "index.json", "keys.json"
MAX_INDEX = 64 * 1024 * 1024  # 100,000 entries of 600 bytes
MAX_KEYS = 256 * 1024
MAX_MANIFEST = 256 * 1024


class Item(msgspec.Struct, frozen=True):
    """One model to be listed."""

    manifest: bytes  # envelope
    torrent: bytes


class Seen(msgspec.Struct, frozen=True):
    """What a reader remembers of a static registry: nothing older is believed afterwards."""

    key: str
    sequence: int


class Trusted(msgspec.Struct, frozen=True):
    """The keys that a pin leads to: `last` signs the index; earlier ones are good for documents below their closing's sequence."""

    last: str
    closed: dict[str, int]  # key → sequence of its closing

    def signs(self, manifest: Manifest) -> bool:
        """Whether the manifest is by one of these keys while it was in force."""
        until = self.closed.get(manifest.publisher)
        return manifest.publisher == self.last or (until is not None and manifest.sequence < until)


def entry_of(item: Item) -> IndexEntry:
    """The line of the index for one model."""
    manifest = unseal(item.manifest, Manifest)
    return IndexEntry(
        model_id=manifest.model_id,
        sha256=manifest.files[0].sha256,
        infohash_v1=manifest.infohash_v1,
        infohash_v2=manifest.infohash_v2,
        manifest_sha256=hashlib.sha256(item.manifest).hexdigest(),
        torrent_sha256=hashlib.sha256(item.torrent).hexdigest(),
    )


def kept(folder: Path, fresh: Manifest) -> bytes | None:
    """The envelope in `folder` that says the same of the model by the same key, if there is one.

    It stays as it is: readers that hold the index of a moment ago, or whose index is all that a full disk let us write, know it by
    its SHA-256.
    """
    try:
        with (folder / manifest_path(fresh.infohash_v2)).open("rb") as file:
            envelope = file.read(MAX_MANIFEST)
        found = unseal(envelope, Manifest)
    except (OSError, HaliError):  # none, or a damaged one: it is written anew
        return None
    same = msgspec.structs.replace(fresh, sequence=found.sequence, time=found.time)
    return envelope if found == same else None


def manifest_path(infohash: str) -> str:
    """Below the folder."""
    return f"manifests/{infohash}.json"


def torrent_path(infohash: str) -> str:
    """Below the folder."""
    return f"torrents/{infohash}.torrent"


def write(folder: Path, index: bytes, items: Sequence[Item], closings: Sequence[bytes]) -> int:
    """Write the folder; the index comes last, so a reader never finds a line without its files. Returns how many models it lists.

    NoSpace, Refused without permission, UsageError where no such folder can be.
    """
    try:
        for item in items:
            infohash = entry_of(item).infohash_v2
            write_atomically(folder / manifest_path(infohash), item.manifest)
            write_atomically(folder / torrent_path(infohash), item.torrent)
        write_atomically(folder / KEYS, msgspec.json.encode([msgspec.Raw(each) for each in closings]))
        write_atomically(folder / INDEX, index)
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = NoSpace if full else Refused if isinstance(exc, PermissionError) else UsageError
        hint = "free some space and write it again" if full else "give another folder"
        raise kind(f"cannot write a registry to {folder}: {exc.strerror}", hint=hint) from None
    return len(items)


def trusted_keys(pin: str, keys: bytes) -> Trusted:
    """Follow the rotations from `pin`; Refused when the chain ends in a revocation."""
    try:
        envelopes = msgspec.json.decode(keys, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        raise ProtocolError("keys.json is damaged") from None
    last, closed = pin, {}
    for envelope in envelopes:
        document = closing_of(bytes(envelope))
        if document.publisher != last:
            continue  # of an earlier life than the pin's
        closed[last] = document.sequence
        if not isinstance(document, Rotation):
            raise Refused(f"the registry's key {last[:16]}… was revoked by its owner", code="key_revoked")
        last = document.successor
    return Trusted(last, closed)


def check_index(index: bytes, keys: Trusted, seen: Seen | None) -> Index:
    """The index, if the last key signed it and neither it nor the keys are older than those seen before.

    VerificationFailed (`wrong_key`, `rollback`).
    """
    found = unseal(index, Index)
    if found.publisher != keys.last:
        raise VerificationFailed(
            f"the index is signed by {found.publisher[:16]}…, not by the pinned key {keys.last[:16]}…", code="wrong_key"
        )
    if seen is not None and seen.key not in (keys.last, *keys.closed):
        raise VerificationFailed(f"a change of the key to {seen.key[:16]}…, seen before, is missing", code="rollback")
    if seen is not None and found.sequence < seen.sequence:
        raise VerificationFailed(
            f"the index is older (sequence {found.sequence}) than one seen before ({seen.sequence})", code="rollback"
        )
    return found


def check_files(entry: IndexEntry, manifest: bytes, torrent: bytes, keys: Trusted) -> Manifest:
    """The manifest of a line, if it and the torrent are those that the index pins; VerificationFailed."""
    for name, data, promised in (
        ("manifest", manifest, entry.manifest_sha256),
        ("torrent", torrent, entry.torrent_sha256),
    ):
        if hashlib.sha256(data).hexdigest() != promised:
            raise VerificationFailed(f"{entry.model_id}: its {name} is not the one in the index", code="changed")
    found = unseal(manifest, Manifest)
    if not keys.signs(found):
        raise VerificationFailed(
            f"{entry.model_id}: its manifest is signed by {found.publisher[:16]}…, not by the pinned publisher",
            code="wrong_key",
        )
    if (found.infohash_v2, found.files[0].sha256) != (entry.infohash_v2, entry.sha256):
        raise VerificationFailed(f"{entry.model_id}: its manifest is of another model", code="changed")
    return found
