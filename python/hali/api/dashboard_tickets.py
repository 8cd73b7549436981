"""Tickets for the dashboard's WebSocket: browsers cannot send a key with a handshake, and a key in a URL would be kept in histories."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from hali.api.keys import ApiKey, digest_of
from hali.model.errors import Overloaded, Refused

VALID_S = 30.0  # a page opens its socket at once; longer only helps who finds the URL in a log
OUTSTANDING = 64  # two for each dashboard that may be open
TICKET_BYTES = 32  # 256 random bits, as keys have them


class Ticket(msgspec.Struct, frozen=True):
    """Who asked for it, None where no key is needed, and until when it is good (monotonic)."""

    key: ApiKey | None
    until: float


class Tickets:
    """Those that were given out and not used. Each is good once."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: dict[bytes, Ticket] = {}

    def give(self, key: ApiKey | None) -> str:
        """A new one; Overloaded while too many wait to be used."""
        now = self._clock()
        self._given = {digest: ticket for digest, ticket in self._given.items() if ticket.until > now}
        if len(self._given) >= OUTSTANDING:
            text = f"{OUTSTANDING} tickets were given out and not used yet"
            raise Overloaded(text, details={"retry_after_s": int(VALID_S)})
        secret = secrets.token_urlsafe(TICKET_BYTES)
        self._given[digest_of(secret.encode())] = Ticket(key, now + VALID_S)
        return secret

    def take(self, secret: str) -> ApiKey | None:
        """Whose it is, and it is no more; `Refused` (403) if it was never given, was used, or its time is over.

        Looked up by digest, so that the time of a look-up tells nothing.
        """
        found = self._given.pop(digest_of(secret.encode()), None)
        if found is None or found.until <= self._clock():
            raise Refused("this ticket is not good", hint="POST /dashboard/ticket gives one for 30 s", code="ticket")
        return found.key
