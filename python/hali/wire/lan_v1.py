"""LAN packets, version 1, of the existing hali: one JSON object with all models. Read only; we never send them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Annotated

import msgspec
from msgspec import Meta

from hali.model.ids import is_hex
from hali.wire.lan import U63, Malformed

MAX_PACKET = 65_507  # all models of a node are in one datagram, so the limit is UDP's own
MAX_AGE = 30.0  # seconds; and …
MAX_AHEAD = 5.0  # … this far in the future, as the existing receiver has it


class ModelV1(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model; the order of fields is the order under the signature."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    ih: str
    ih2: str = ""
    repo: str = ""
    rev: str = ""


class PacketV1(msgspec.Struct, frozen=True):
    """One announcement. `p` is the BitTorrent port, 0 when not told."""

    v: str
    nid: Annotated[str, Meta(min_length=1, max_length=128)]
    ts: U63  # a number without a bound would be more than the clock can be compared with
    models: Annotated[tuple[ModelV1, ...], Meta(max_length=1000)]  # a datagram holds about 260
    p: Annotated[int, Meta(ge=0, le=65535)] = 0
    sig: str = ""


_decode = msgspec.json.Decoder(PacketV1).decode


def looks_like_v1(datagram: bytes) -> bool:
    """True for anything that starts as a JSON object."""
    return datagram[:1] == b"{"


def decode(datagram: bytes, *, secret: bytes | None, now: float) -> PacketV1:
    """A checked announcement with only its sound models. Raises `Malformed` with the reason."""
    try:
        packet = _decode(datagram)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed("truncated" if "truncated" in str(error) else "malformed") from error
    if packet.v != "1":
        raise Malformed("version")
    if secret is not None and not _signed(packet, secret):
        raise Malformed("mac")
    if not -MAX_AHEAD <= now - packet.ts <= MAX_AGE:
        raise Malformed("replayed")
    return msgspec.structs.replace(packet, models=tuple(filter(None, map(_sound, packet.models))))


def _sound(model: ModelV1) -> ModelV1 | None:
    if not is_hex(model.ih, 40) or not model.id.isprintable():
        return None
    return model if is_hex(model.ih2, 64) or not model.ih2 else msgspec.structs.replace(model, ih2="")


def _signed(packet: PacketV1, secret: bytes) -> bool:
    try:
        given = base64.b64decode(packet.sig, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(secret, signed_bytes(packet), hashlib.sha256).digest(), given)


def signed_bytes(packet: PacketV1) -> bytes:
    """Compact JSON in the order v, nid, ts, p, models, as Go's encoder writes it (`<`, `>`, `&` escaped)."""
    fields: dict[str, object] = {"v": packet.v, "nid": packet.nid, "ts": packet.ts}
    if packet.p:
        fields["p"] = packet.p
    fields["models"] = [
        {name: value for name, value in msgspec.structs.asdict(m).items() if value or name in ("id", "ih")}
        for m in packet.models
    ]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()
