"""A registry's application in memory, over a real SQLite file, with a clock of its own; and publishers that sign for it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.config.identity import Identity
from hali.hashing import hash_file
from hali.registry import head
from hali.registry.app import Deps, build_app
from hali.registry.bounds import Bounds
from hali.registry.documents import FileEntry, Ingest, Manifest, Report, Revocation, Rotation
from hali.registry.signing import seal
from hali.registry.storage import sqlite
from hali.transfer import metainfo
from tests.registries import gguf_file

NOW = 1_800_000_000
JSON = {"content-type": "application/json"}


def key(number: int) -> Identity:
    """A key that is the same in every run."""
    return Identity(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


class Model:
    """A file with its torrent, ready to be published under any name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digests = hash_file(path)
        self.torrent = metainfo.build(self.digests, path.name)
        self.hashes = metainfo.parse(self.torrent).infohashes

    @property
    def infohash(self) -> str:
        assert self.hashes.v2 is not None
        return self.hashes.v2


class Author:
    """Signs with one key, each document with the next sequence."""

    def __init__(self, number: int) -> None:
        self.identity = key(number)
        self.name = self.identity.public_key.hex()
        self._sequence = itertools.count(1)

    def signed(self) -> dict[str, Any]:
        return {"publisher": self.name, "sequence": next(self._sequence), "time": NOW}

    def manifest(self, model: Model, **changes: Any) -> bytes:
        d = model.digests
        fields: dict[str, Any] = {
            "model_id": "tiny:1m:base:q4_k_m",
            "files": [FileEntry(name=model.path.name, size=d.length, sha256=d.sha256.hex(), blake3=d.blake3.hex())],
            "infohash_v1": model.hashes.v1,
            "infohash_v2": model.hashes.v2,
        }
        return seal(Manifest(**{**self.signed(), **fields, **changes}), self.identity)

    def claim(self, number: int, model_id: str, **changes: Any) -> bytes:
        """A manifest of a model that nobody ever saw."""
        digest = hashlib.sha256(f"{self.name} {number}".encode()).hexdigest()
        fields: dict[str, Any] = {
            "model_id": model_id,
            "files": [FileEntry(name="x.gguf", size=5, sha256=digest, blake3=digest)],
            "infohash_v1": digest[:40],
            "infohash_v2": digest,
        }
        return seal(Manifest(**{**self.signed(), **fields, **changes}), self.identity)

    def ingest(self, model: Model, *, torrent: bytes | None = None, with_head: bool = True) -> bytes:
        torrent = model.torrent if torrent is None else torrent
        digest = hashlib.sha256(torrent).hexdigest()
        signed = seal(Ingest(**self.signed(), infohash_v2=model.infohash, torrent_sha256=digest), self.identity)
        body = {"signed": json.loads(signed), "torrent": base64.b64encode(torrent).decode()}
        if with_head:
            body["head"] = msgspec.to_builtins(head.read(model.path))
        return msgspec.json.encode(body)

    def rotation(self, to: Author) -> bytes:
        return seal(Rotation(**self.signed(), successor=to.name), self.identity, to.identity)

    def revocation(self) -> bytes:
        return seal(Revocation(**self.signed(), reason="lost"), self.identity)


def report(number: int, model: Model, outcome: str = "ok") -> bytes:
    """One reporter's word."""
    who = key(number)
    day = NOW // 86_400
    return seal(Report(reporter=who.public_key.hex(), infohash_v2=model.infohash, outcome=outcome, day=day), who)


class Served:
    """Requests to the application."""

    def __init__(self, client: httpx.AsyncClient, deps: Deps, clock: list[float]) -> None:
        self.client, self.deps, self._clock = client, deps, clock

    def pass_days(self, days: float) -> None:
        self._clock[0] += days * 86_400

    async def post(self, path: str, body: bytes, status: int = 200, code: str | None = None) -> dict[str, Any]:
        answer = await self.client.post(path, content=body, headers=JSON)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        assert found.get("error", {}).get("code") == code, answer.text
        return found

    async def get(self, path: str, status: int = 200, **params: Any) -> dict[str, Any]:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def search(self, text: str, **params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self.get("/search", q=text, **params))["results"]
        return rows

    async def publish(self, author: Author, model: Model, **changes: Any) -> None:
        await self.post("/publish", author.manifest(model, **changes))
        await self.post("/ingest", author.ingest(model))


@pytest.fixture
def bounds() -> Bounds:
    return Bounds()


@pytest.fixture
async def served(tmp_path: Path, bounds: Bounds) -> AsyncIterator[Served]:
    clock = [float(NOW)]
    storage = await anyio.to_thread.run_sync(sqlite, tmp_path / "registry.db")
    deps = Deps(storage, bounds, clock=lambda: clock[0])
    transport = httpx.ASGITransport(build_app(deps), client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        yield Served(client, deps, clock)
    await anyio.to_thread.run_sync(storage.close)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(gguf_file(tmp_path_factory.mktemp("model") / "Tiny-1M-Q4_K_M.gguf", 1))


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(gguf_file(tmp_path_factory.mktemp("other") / "Other-1M-Q4_K_M.gguf", 2))


@pytest.fixture
def alice() -> Author:
    return Author(1)


@pytest.fixture
def bob() -> Author:
    return Author(2)
