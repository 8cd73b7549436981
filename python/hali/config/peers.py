"""How other nodes are named in `lan.peers`: host, host:port, [IPv6]:port. Pure."""

from __future__ import annotations

import ipaddress
import re

from hali.model.errors import UsageError

_HOST = re.compile(r"[\w.-]+")  # names may be in any script: the resolver writes them in ASCII
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")


def split_peer(text: str, default_port: int) -> tuple[str, int]:
    """(host, port) of one entry; UsageError for what is none."""
    text = text.strip()
    if bracketed := _BRACKETED.fullmatch(text):
        host, port, usable = bracketed[1], bracketed[2], _is_ipv6(bracketed[1])
    elif text.count(":") > 1:
        host, port, usable = text, None, _is_ipv6(text)
    else:
        host, colon, after = text.partition(":")
        port, usable = after if colon else None, _HOST.fullmatch(host) is not None
    if not usable:
        raise UsageError(
            f"lan.peers: {text[:80]!r} is no host", hint="for example 10.0.1.7, nas.local:4269 or [fd00::7]:4269"
        )
    return host, default_port if port is None else _port(port, text)


def check_peers(peers: tuple[str, ...]) -> None:
    """UsageError for the first that is none."""
    for peer in peers:
        split_peer(peer, 1)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _port(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65_536):
        raise UsageError(
            f"lan.peers: {text[:80]!r}: {digits[:20]!r} is no port", hint="a port is a number from 1 to 65535"
        )
    return int(digits)
