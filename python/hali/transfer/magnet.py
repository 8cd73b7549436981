"""Magnet links (BEP 9, BEP 53): built in a fixed order, parsed strictly and with limits. Everything in them is a hint but the infohash."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote

import msgspec

from hali.model.errors import HaliError, UsageError
from hali.model.filenames import safe_name
from hali.model.ids import InfoHashes, is_hex

MAX_LENGTH = 8192  # as long as what people may type (share.targets); real magnets stay below 2 kB
MAX_PARAMETERS = 128  # room for a hundred trackers, which we ignore
MAX_WEBSEEDS = 16
MAX_PEERS = 64  # a connection each: more would make us a port scanner's tool
_BTIH = "urn:btih:"
_BTMH = "urn:btmh:1220"  # multihash: 0x12 is SHA-256, 0x20 its 32 bytes
_BASE32 = re.compile(r"[A-Za-z2-7]{32}\Z")

Peer = tuple[str, int]


class Magnet(msgspec.Struct, frozen=True):
    """A magnet. `name` is for people only: files are named by the metadata. `peers` are (IP, port) hints."""

    infohashes: InfoHashes
    name: str | None = None
    webseeds: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()


def build(
    infohashes: InfoHashes, name: str | None = None, *, webseeds: Sequence[str] = (), peers: Sequence[Peer] = ()
) -> str:
    """The link, in the fixed order xt (v1), xt (v2), dn, ws, x.pe; `peers` help clients of one LAN only."""
    if infohashes.v1 is None and infohashes.v2 is None:
        raise UsageError("a magnet needs an infohash")
    parts = [f"xt={_BTIH}{infohashes.v1}"] if infohashes.v1 else []
    parts += [f"xt={_BTMH}{infohashes.v2}"] if infohashes.v2 else []
    parts += [f"dn={quote(name, safe='')}"] if name else []
    parts += [f"ws={quote(url, safe='')}" for url in webseeds]
    parts += [f"x.pe={_endpoint(*peer)}" for peer in peers]
    return "magnet:?" + "&".join(parts)


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(uri: str) -> Magnet:
    """Read a link; UsageError when it is none, too long, names no torrent, or names two."""
    if len(uri) > MAX_LENGTH:
        raise UsageError(f"magnet link of {len(uri)} characters is longer than {MAX_LENGTH}")
    scheme, _, query = uri.strip().partition(":?")
    if scheme.lower() != "magnet" or not query:
        raise UsageError(f"not a magnet link: {uri[:80]!r}")
    try:
        pairs = parse_qsl(query, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError:  # too many fields, or bytes that are not UTF-8
        raise UsageError("magnet link with too many or broken parameters") from None
    # Topics may be numbered: xt.1, xt.2 (BEP 53's ancestors do that).
    topics = [value for key, value in pairs if key.lower() == "xt" or key.lower().startswith("xt.")]
    return Magnet(
        infohashes=_infohashes(topics),
        name=_name([value for key, value in pairs if key == "dn"]),
        webseeds=tuple(value for key, value in pairs if key == "ws")[:MAX_WEBSEEDS],
        peers=tuple(peer for key, value in pairs if key == "x.pe" if (peer := _peer(value)))[:MAX_PEERS],
    )


def _infohashes(topics: Sequence[str]) -> InfoHashes:
    v1 = {_v1(t[len(_BTIH) :]) for t in topics if t.lower().startswith(_BTIH)}
    v2 = {_v2(t) for t in topics if t.lower().startswith("urn:btmh:")}
    if not v1 and not v2:
        raise UsageError("magnet link without an infohash (xt=urn:btih:… or urn:btmh:…)")
    if len(v1) > 1 or len(v2) > 1:
        raise UsageError("magnet link that names two torrents")
    return InfoHashes(v1.pop() if v1 else None, v2.pop() if v2 else None)


def _v1(text: str) -> str:
    if is_hex(text.lower(), 40):
        return text.lower()
    if _BASE32.match(text):
        return base64.b32decode(text.upper()).hex()
    raise UsageError(f"magnet link with a broken v1 infohash {text[:64]!r}")


def _v2(topic: str) -> str:
    digest = topic.lower().removeprefix(_BTMH)
    if not is_hex(digest, 64):
        raise UsageError(
            f"magnet link with a broken v2 infohash {topic[:96]!r}", hint="urn:btmh:1220 and 64 hexadecimal digits"
        )
    return digest


def _name(names: Sequence[str]) -> str | None:
    """The first name, unless it is one no file may have; it decides nothing, so a bad one is dropped, not refused."""
    try:
        return safe_name(names[0]) if names else None
    except HaliError:
        return None


def _peer(text: str) -> Peer | None:
    """(IP, port), or None: host names are not looked up for a stranger's link, other nonsense is dropped."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if (
        not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
        or address.is_multicast
        or address.is_unspecified
    ):
        return None
    return str(address), int(port)
