"""Which Host and Origin a request may carry. Pure. Names are compared as whole strings, never by prefix or suffix.

A page on another site can make the browser send requests here (CSRF) or let its own name resolve to 127.0.0.1 (DNS
rebinding): the first carries a foreign Origin, Referer or Sec-Fetch-Site, the second a foreign Host.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

RawHeaders = Sequence[tuple[bytes, bytes]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_OWN_SITE = (b"same-origin", b"none")  # `same-site` is another port of this machine: a stranger


def authorities(address: str, port: int, names: Sequence[str]) -> frozenset[str]:
    """All Host values that mean this server, given the local address and port of the connection.

    An address cannot be rebound, so the one the client really reached is allowed next to loopback and the configured
    names.
    """
    reached = f"[{address}]" if ":" in address else address
    hosts = {f"{host}:{port}" for host in (*LOOPBACK, reached)}
    if port == 80:  # clients leave the default port out
        hosts |= {*LOOPBACK, reached}
    for name in names:
        hosts.add(name.lower())
        if not _has_port(name):
            hosts.add(f"{name.lower()}:{port}")
    return frozenset(hosts)


def _has_port(name: str) -> bool:
    return ":" in name.rpartition("]")[2]


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """All values of header `name` (lower case, as ASGI gives them)."""
    return [value for key, value in headers if key == name]


def foreign(headers: RawHeaders, own: frozenset[str], target: bytes | None = None) -> str | None:
    """Why this request is refused, or None. Exactly one Host; no Origin, Referer or Sec-Fetch-Site but our own.

    `target`: the authority of a target that is a whole URL, which counts as Host does.
    """
    hosts = values(headers, b"host")
    named = hosts if target is None else [*hosts, target]
    if len(hosts) != 1 or any(host.decode("latin-1").lower() not in own for host in named):
        return "this Host is not one of ours"
    origins = {f"{scheme}://{authority}" for authority in own for scheme in ("http", "https")}
    if any(value.decode("latin-1").lower() not in origins for value in values(headers, b"origin")):
        return "requests from other origins are refused"
    if any(_origin_of(value) not in origins for value in values(headers, b"referer")):
        return "requests from other sites are refused"
    if any(value not in _OWN_SITE for value in values(headers, b"sec-fetch-site")):
        return "requests from other sites are refused"
    return None


def _origin_of(url: bytes) -> str:
    try:
        parts = urlsplit(url.decode("latin-1").lower())
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"
