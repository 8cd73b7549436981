"""How a registry is named in the configuration: a server by its URL, a folder by its URL and the key that signs it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from hali.model.errors import UsageError
from hali.model.ids import is_hex
from hali.model.urls import origin

PIN = "ed25519:"
GRAMMAR = f"a server is https://host, a folder https://host/folder#{PIN}KEY or file:///folder#{PIN}KEY"


class Address(msgspec.Struct, frozen=True):
    """`pin` is None for a server; of a folder it is the key, hex, that must have signed its index."""

    url: str  # without the pin and a final slash
    pin: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of a `file:` URL."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


def parse(text: str) -> Address:
    """One entry of `registry.url`; UsageError with what is wrong."""
    url, _, fragment = text.partition("#")
    url = url.rstrip("/")
    pin = fragment.removeprefix(PIN).lower() if fragment else None
    if pin is not None and not (fragment.startswith(PIN) and is_hex(pin, 64)):
        raise UsageError(f"registry.url {text!r}: after # comes {PIN} and 64 hex digits")
    if urlsplit(url).scheme == "file":
        if pin is None:
            raise UsageError(f"registry.url {text!r} needs the key that signs it", hint=f"{url}#{PIN}KEY")
        if urlsplit(url).netloc not in ("", "localhost") or not Path(unquote(urlsplit(url).path)).is_absolute():
            raise UsageError(f"registry.url {text!r} is not file:///absolute/path")
        return Address(url, pin)
    if "@" in urlsplit(url).netloc:  # it would be kept in the database and the log
        raise UsageError("registry.url may hold no user name or password")
    try:
        origin(url)
    except UsageError as exc:
        raise UsageError(f"registry.url: {exc.message}", hint=GRAMMAR) from None
    return Address(url, pin)


def parse_all(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """All entries; UsageError for one that is there twice."""
    found = tuple(parse(text) for text in texts)
    if len({address.url for address in found}) != len(found):
        raise UsageError("registry.url names one registry twice")
    return found
