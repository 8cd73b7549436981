"""Which URLs may be fetched, and where links and redirects may lead. Rules only; `http_dial.py` applies them to connections."""

from __future__ import annotations

import enum
import ipaddress
import re
import socket
from urllib.parse import urljoin, urlsplit

from hali.model.errors import Refused, UsageError
from hali.model.urls import origin, redacted

WEB_PORTS = (80, 443)  # below 1024 only these belong to file servers; 22 and 25 are what forged requests aim at
# Of a link: other letters may imitate these.
_HOST = re.compile(r"[a-z0-9_][a-z0-9._-]{0,252}\Z|\[[0-9a-f:.]{2,45}\]\Z")


class Reach(enum.IntEnum):
    """Who can reach an address. A link or redirect may lead no deeper inside than the URL that the operator named."""

    PUBLIC = 0
    PRIVATE = 1  # this network: RFC 1918, RFC 4193, RFC 6598
    LOOPBACK = 2  # this machine
    SPECIAL = 3  # link-local (cloud metadata lives there), unspecified, multicast, reserved


def check_link(url: str) -> tuple[str, str, int]:
    """`origin` of a URL that a stranger gave (link, redirect); Refused unless it has the plain form of a file server's."""
    try:
        scheme, host, port = origin(url)
    except UsageError as error:
        raise Refused(error.message) from error
    authority = urlsplit(url).netloc.lower()
    if "@" in authority:
        raise Refused(f"{redacted(url)}: links with a user name are not followed")
    if not _HOST.match(authority.removesuffix(f":{port}").removesuffix(":")):
        raise Refused(f"{redacted(url)}: a host name of other than plain letters")
    if (spelt := _spelt(host)) not in (None, host):
        raise Refused(f"{redacted(url)}: an address in disguise ({spelt})")
    if port < 1024 and port not in WEB_PORTS:
        raise Refused(f"{redacted(url)}: port {port} is no web server's")
    return scheme, host, port


def next_hop(url: str, location: str) -> str:
    """Where a redirect from `url` leads; Refused for other schemes, downgrades to plain http and suspicious forms."""
    target = urljoin(url, location)
    try:
        scheme, _, _ = here = origin(target)
        if here != origin(url) or "@" in urlsplit(target).netloc:
            check_link(target)
    except (UsageError, ValueError) as error:
        raise Refused(f"{redacted(url)}: redirects to {error}") from error
    if scheme == "http" and origin(url)[0] == "https":
        raise Refused(f"{redacted(url)}: redirects from https to plain http")
    return target


def reach(address: str) -> Reach:
    """The class of an IP address; of one inside another, the inner one's. SPECIAL for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Reach.SPECIAL
    if (inner := _inner(ip)) is not None:
        return reach(str(inner))
    if ip.is_loopback:
        return Reach.LOOPBACK
    if ip.is_unspecified or ip.is_link_local or ip.is_multicast or (ip.version == 4 and ip.is_reserved):
        return Reach.SPECIAL
    if int(ip) >> 24 == 0 and ip.version == 4:  # 0.0.0.0/8: Linux takes it for this machine
        return Reach.SPECIAL
    return Reach.PUBLIC if ip.is_global else Reach.PRIVATE


def _inner(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one that reaches the same host: mapped and compatible (RFC 4291), 6to4, NAT64."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in ipaddress.ip_network("64:ff9b::/96") or 1 < int(ip) < 1 << 32:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def reach_of_host(host: str) -> Reach | None:
    """The reach of a host that is an address, in any spelling that resolvers take (`2130706433`, `0177.1`, `[::1]`), or this
    machine's name; None for names that have to be looked up."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return Reach.LOOPBACK
    address = host if ":" in host else _spelt(host)
    return None if address is None else reach(address)


def _spelt(host: str) -> str | None:
    """The IPv4 address that `host` is another spelling of, for the system's resolver; None for names."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
