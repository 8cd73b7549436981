"""Where listings come from: a server or a folder, behind one face. Everything they hand out was checked here."""

from __future__ import annotations

from typing import Any, Protocol

import anyio
import anyio.to_thread
import msgspec

from hali.config.registries import Address
from hali.model.errors import NotFound, ProtocolError, Refused
from hali.model.urls import redacted
from hali.registry import folder as folders
from hali.registry.client import RegistryClient, RegistryUnavailable
from hali.registry.documents import Index, IndexEntry, Manifest
from hali.registry.folder import Seen, Trusted
from hali.registry.listing import Candidate, candidate_of, fits, listing_of, must_be
from hali.registry.publisher import closing_of
from hali.registry.signing import unseal
from hali.registry.validity import matching_torrent
from hali.share.base import Listing
from hali.store.database import Database, read_state, write_state
from hali.transfer.http_document import fetch_document
from hali.transfer.metainfo import MAX_BYTES


class Source(Protocol):
    """One registry."""

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        """What it lists for these words."""

    async def listing(self, name: str, publisher: str | None = None) -> Listing:
        """The checked entry of a v1 or v2 infohash or a SHA-256, of several publishers the one's; NotFound, VerificationFailed."""


class ServerSource:
    """A registry server."""

    def __init__(self, address: Address) -> None:
        self._url = address.url

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        async with RegistryClient(self._url) as client:
            answer = await client.search(" ".join(text.split(":")), limit, untrusted=untrusted)
        rows = answer.get("results")
        found = [candidate_of(row) for row in rows] if isinstance(rows, list) else []
        return [each for each in found[:limit] if each is not None]

    async def listing(self, name: str, publisher: str | None = None) -> Listing:
        async with RegistryClient(self._url) as client:
            manifest, score = self._checked(await client.model(name, publisher))
            must_be(manifest, name)
            torrent = matching_torrent(manifest, await client.torrent(manifest.infohash_v2))
        return listing_of(manifest, torrent, self._url, score)

    @staticmethod
    def _checked(answer: dict[str, Any]) -> tuple[Manifest, float]:
        """Manifest and score; the signature must hold, and the key must have been in force."""
        try:
            manifest = unseal(msgspec.json.encode(answer["manifest"]), Manifest)
            closing = answer["publisher"].get("closing")
            score = float(answer["trust"]["score"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ProtocolError("what answers is not a hali registry") from None
        if closing is not None:
            last_word = closing_of(msgspec.json.encode(closing))
            if last_word.publisher == manifest.publisher and manifest.sequence >= last_word.sequence:
                raise Refused("the manifest was signed after its key was closed", code="key_revoked")
        return manifest, score


class FolderSource:
    """A static registry. The index is read anew for each question: it may be large, but it is asked rarely, and is never stale."""

    def __init__(self, address: Address, database: Database) -> None:
        assert address.pin is not None
        self._address, self._pin, self._database = address, address.pin, database

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        index, _ = await self._index()
        terms = text.lower().replace(":", " ").split()
        found = [entry for entry in index.entries if all(term in entry.model_id for term in terms)]
        found.sort(key=lambda entry: not fits(":".join(terms), entry.model_id))  # what is meant before what is alike
        return [Candidate(e.model_id, e.sha256, e.infohash_v2, publisher=index.publisher) for e in found[:limit]]

    async def listing(self, name: str, publisher: str | None = None) -> Listing:
        index, keys = await self._index()
        entry = next((e for e in index.entries if name in (e.sha256, e.infohash_v1, e.infohash_v2)), None)
        if entry is None:
            raise NotFound(f"{redacted(self._address.url)} does not list {name}")
        return await self._listing(entry, keys)

    async def _listing(self, entry: IndexEntry, keys: Trusted) -> Listing:
        raw = await self._read(folders.manifest_path(entry.infohash_v2), folders.MAX_MANIFEST)
        torrent = await self._read(folders.torrent_path(entry.infohash_v2), MAX_BYTES)
        manifest = folders.check_files(entry, raw, torrent, keys)
        return listing_of(manifest, matching_torrent(manifest, torrent), self._address.url, None)

    async def _index(self) -> tuple[Index, Trusted]:
        seen = await anyio.to_thread.run_sync(self._seen)
        keys = folders.trusted_keys(self._pin, await self._read(folders.KEYS, folders.MAX_KEYS))
        index = folders.check_index(await self._read(folders.INDEX, folders.MAX_INDEX), keys, seen)
        if seen is None or (seen.key, seen.sequence) != (keys.last, index.sequence):
            await anyio.to_thread.run_sync(self._remember, Seen(keys.last, index.sequence))
        return index, keys

    @property
    def _state(self) -> str:
        return f"registry.seen {self._address.url} {self._pin}"  # another pin is another registry

    def _seen(self) -> Seen | None:
        text = self._database.get_state(self._state)
        return None if text is None else msgspec.json.decode(text, type=Seen)

    def _remember(self, now: Seen) -> None:
        """Never back: another question may have seen a newer index meanwhile."""
        with self._database.transaction() as db:
            text = read_state(db, self._state)
            if text is None or msgspec.json.decode(text, type=Seen).sequence < now.sequence:
                write_state(db, self._state, msgspec.json.encode(now).decode())

    async def _read(self, name: str, limit: int) -> bytes:
        root = self._address.folder
        if root is None:
            return await fetch_document(f"{self._address.url}/{name}", trusted=True, limit=limit)
        try:
            async with await anyio.open_file(root / name, "rb") as file:
                data = await file.read(limit + 1)
        except OSError as exc:
            raise RegistryUnavailable(f"{root / name}: {exc.strerror}") from None
        if len(data) > limit:
            raise ProtocolError(f"{root / name} is larger than {limit} bytes")
        return data
