"""The methods of the IPC that give out keys of the HTTP API and take them back; both hold at once, without a restart."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import anyio.to_thread
from msgspec import Meta

from hali.api.budget import Limits
from hali.api.keys import ApiKey, KeyRing, digest_of, new_secret
from hali.api.scopes import SCOPES, Scope
from hali.daemon.ipc import Emit, Handler, Params, field
from hali.model.errors import UsageError
from hali.model.units import LONGEST
from hali.store.api_keys import KeyRecord, KeyStore

OWNER = "owner"  # whose key is in api.key
USUAL: tuple[Scope, ...] = ("inference", "models")  # what a program that uses models needs
HEAVIEST = 1000.0  # against another key's 1: beyond that it is no share any more

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Count = Annotated[int, Meta(ge=0, le=10**9)]
Weight = Annotated[float, Meta(gt=0, le=HEAVIEST)]
Seconds = Annotated[float, Meta(gt=0, le=LONGEST)]
Scopes = Annotated[tuple[str, ...], Meta(min_length=1)]


class KeyMethods:
    """Handlers by name, for `Methods.table`."""

    def __init__(self, store: KeyStore, ring: KeyRing) -> None:
        self._store, self._ring = store, ring

    def table(self) -> dict[str, Handler]:
        """Method name → handler."""
        return {"keys": self.list, "keys_create": self.create, "keys_revoke": self.revoke}

    async def list(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """All keys that were given out."""
        return {"keys": [describe(key) for key in await anyio.to_thread.run_sync(self._store.all)]}

    async def create(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """A new key; the only time that its secret is told."""
        secret, name = new_secret(), field(params, "name", str)
        if not NAME.fullmatch(name):
            raise UsageError(
                f"no key can be named {name!r}",
                hint="letters, digits, '.', '_' and '-', 64 at most, a letter or digit first",
            )
        if name == OWNER:
            raise UsageError(f"{OWNER} is the name of the key in api.key", hint="another name")
        lifetime = field(params, "expires_s", Seconds | None, None)
        key = KeyRecord(
            name=name,
            digest=digest_of(secret.encode()),
            scopes=_known(field(params, "scopes", Scopes, USUAL)),
            weight=field(params, "weight", Weight, 1.0),
            rpm=field(params, "rpm", Count | None, None),
            tpm=field(params, "tpm", Count | None, None),
            tpd=field(params, "tpd", Count | None, None),
            created_at=time.time(),
            expires_at=None if lifetime is None else time.time() + lifetime,
        )
        await anyio.to_thread.run_sync(self._store.add, key)
        self._ring.put(key.digest, as_api_key(key))
        return {**describe(key), "key": secret}

    async def revoke(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """A key that opens nothing any more; replies under way are finished."""
        name = field(params, "name", str)
        await anyio.to_thread.run_sync(self._store.remove, name)
        self._ring.drop(name)
        return {"name": name}


def _known(wanted: tuple[str, ...]) -> tuple[Scope, ...]:
    for name in wanted:
        if name not in SCOPES:
            raise UsageError(f"there is no scope {name!r}", hint=f"scopes: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in wanted)


def as_api_key(key: KeyRecord) -> ApiKey:
    """As the HTTP API knows it. Scopes of a newer hali are none here."""
    held = frozenset(scope for scope in SCOPES if scope in key.scopes)
    limits = Limits(requests_per_minute=key.rpm, tokens_per_minute=key.tpm, tokens_per_day=key.tpd)
    return ApiKey(key.name, digest=key.digest, weight=key.weight, scopes=held, limits=limits, expires_at=key.expires_at)


def fill(ring: KeyRing, keys: Iterable[KeyRecord]) -> None:
    """Put all keys into the ring."""
    for key in keys:
        ring.put(key.digest, as_api_key(key))


def describe(key: KeyRecord) -> dict[str, Any]:
    """What may be told of a key."""
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "weight": key.weight,
        "rpm": key.rpm,
        "tpm": key.tpm,
        "tpd": key.tpd,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
