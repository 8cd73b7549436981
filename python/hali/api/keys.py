"""The keys that are valid now, each with its budgets; changed while the server runs."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

import msgspec

from hali.api import scopes
from hali.api.budget import Budget, Limits

# 256 random bits: nobody can try them all, so a plain SHA-256 is as good as a slow password hash, and costs a request nothing.
SECRET_BYTES = 32


class ApiKey(msgspec.Struct, frozen=True):
    """Who owns a key, what it opens, the owner's weight in the queue and limits; None = not even those all others have.

    `secret` is empty where only its `digest` is kept.
    """

    owner: str
    secret: str = ""
    weight: float = 1.0
    scopes: frozenset[scopes.Scope] = scopes.ALL
    limits: Limits | None = None
    expires_at: float | None = None  # seconds since 1970
    digest: bytes = b""

    @property
    def ident(self) -> str:
        """What no other key has: its owner's name may be given to another one when it is revoked."""
        return (self.digest or digest_of(self.secret.encode())).hex()

    def __repr__(self) -> str:
        return f"ApiKey(owner={self.owner!r})"  # the secret must not reach a log by way of a repr


def new_secret() -> str:
    """A key that nobody can guess. The prefix lets people and scanners of repositories recognise it."""
    return f"hali-{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(secret: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(secret).digest()


class KeyRing:
    """Keys by the digest of their secret. `defaults` are for who has no limits of its own; `clock` is wall time."""

    def __init__(self, defaults: Limits | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._keys: dict[bytes, ApiKey] = {}
        self._budgets: dict[str, Budget] = {}
        self._defaults, self._clock = defaults or Limits(), clock

    def put(self, digest: bytes, key: ApiKey) -> None:
        """Valid from now on."""
        self._keys[digest] = key

    def drop(self, owner: str) -> None:
        """The key of `owner` is not valid any more; replies under way are finished."""
        self._keys = {digest: key for digest, key in self._keys.items() if key.owner != owner}
        self._budgets.pop(owner, None)

    def find(self, secret: bytes) -> ApiKey | None:
        """The key, or None if there is no such, or its time is over.

        Looked up by digest: what the time of a look-up tells is about a hash that nobody can choose.
        """
        key = self._keys.get(digest_of(secret))
        if key is None or (key.expires_at is not None and key.expires_at <= self._clock()):
            return None
        return key

    def holds(self, key: ApiKey) -> bool:
        """Whether `key`, which was found once, is still valid."""
        return (key.expires_at is None or key.expires_at > self._clock()) and key in self._keys.values()

    def budget(self, key: ApiKey | None) -> Budget:
        """Of this key; all who need none share one."""
        owner = key.owner if key is not None else ""
        if owner not in self._budgets:
            self._budgets[owner] = Budget(self._limits(key))
        return self._budgets[owner]

    def _limits(self, key: ApiKey | None) -> Limits:
        if key is None:
            return self._defaults
        return Limits() if key.limits is None else _filled(key.limits, self._defaults)


def _filled(own: Limits, defaults: Limits) -> Limits:
    return Limits(
        own.requests_per_minute if own.requests_per_minute is not None else defaults.requests_per_minute,
        own.tokens_per_minute if own.tokens_per_minute is not None else defaults.tokens_per_minute,
        own.tokens_per_day if own.tokens_per_day is not None else defaults.tokens_per_day,
    )
