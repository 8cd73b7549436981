"""Which URLs may be fetched: http and https only, and no private addresses for URLs that strangers gave us."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import anyio
import httpx

from hali.model.errors import Refused, UsageError

DNS_TIMEOUT = 10.0  # two tries of the usual 5 s resolver timeout


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of a URL; UsageError unless it is http(s) with a host and a valid port."""
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
    """The URL without user, password and query: signed CDN addresses carry their secret there."""
    base = url.split("?", 1)[0].split("#", 1)[0]
    scheme, sep, rest = base.partition("://")
    if not sep:
        return base[:200]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"[:200]


def is_public(address: str) -> bool:
    """True for an address reachable from anywhere: not loopback, private, link-local, multicast or reserved."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv4 address inside an IPv6 one reaches the same host (RFC 4291 mapped, RFC 3056 6to4, RFC 6052 NAT64).
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


async def check_public(url: str) -> None:
    """Refused if the URL's host has an address that is not public; one that does not resolve is left to connecting."""
    _, host, port = origin(url)
    try:
        with anyio.fail_after(DNS_TIMEOUT):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return
    for *_, sockaddr in found:
        _refuse_private(url, str(sockaddr[0]))


def check_connected(response: httpx.Response, url: str) -> None:
    """Refused if the answer came from an address that is not public: DNS may have changed since the check."""
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    if address:
        _refuse_private(url, str(address[0]))


def _refuse_private(url: str, address: str) -> None:
    if not is_public(address):
        raise Refused(
            f"{redacted(url)} leads to {address}, an address inside this network",
            hint="links may only name public hosts; give the URL yourself if you trust it",
        )
