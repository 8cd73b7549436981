"""URLs that are asked: what they name, and how they are shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from hali.model.errors import UsageError

MAX_URL = 8192  # signed CDN addresses have 2 to 3 kB


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of a URL; UsageError unless it is http(s) with a host and a valid port."""
    # Parsers disagree on these characters: one would check another host than the one that is asked.
    if len(url) > MAX_URL or "\\" in url or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise UsageError(f"not a usable URL: {redacted(url)!r} (too long, or characters no URL has)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"not a usable URL: {redacted(url)} ({error})") from error
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in ("http", "https"):
        raise UsageError(f"not an http or https URL: {redacted(url)}")
    if not host:
        raise UsageError(f"a URL without a host: {redacted(url)}")
    return scheme, host, port or (443 if scheme == "https" else 80)


def redacted(url: str) -> str:
    """The URL without user, password and query (signed CDN addresses carry their secret there), fit for a terminal."""
    base = url.split("?", 1)[0].split("#", 1)[0]
    scheme, sep, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}" if sep else base
    return "".join(c if c.isprintable() else "?" for c in shown[:200])
