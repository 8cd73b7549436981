"""What a query asks for, and whether a model answers it. Pure."""

from __future__ import annotations

from hali.model.ids import is_hex
from hali.wire.lan import MAX_TEXT, SHA_PREFIX, Model, Want, WantKind

MIN_HEX_TEXT = 8  # from this length on, a text of hex digits may also be the start of a hash


def model_fits(want: Want, model: Model) -> bool:
    """Does one of our own models answer this want?"""
    return fits(want, model.id, model.sha256, model.v2, model.v1)


def fits(want: Want, model_id: str, sha256: bytes, v2: bytes, v1: bytes) -> bool:
    """Does a model with these names answer a want? Hashes that are not known are empty."""
    value = want.value
    if want.kind == WantKind.SHA256:
        return len(value) >= SHA_PREFIX and value[:SHA_PREFIX] == sha256
    if want.kind == WantKind.INFOHASH:
        return value in (v2, v1)
    if want.kind == WantKind.TEXT:
        return _text_fits(value.decode("utf-8", "replace").casefold(), model_id, (sha256, v2, v1))
    return False


def _text_fits(text: str, model_id: str, hashes: tuple[bytes, ...]) -> bool:
    if text in model_id.casefold():
        return True
    if len(text) < MIN_HEX_TEXT or not is_hex(text, len(text)):
        return False
    return any(h.hex().startswith(text) for h in hashes)


def wants_for(text: str) -> tuple[Want, ...]:
    """How a query asks for `text`: a SHA-256, an infohash, or part of a model id. Empty for text nobody could have."""
    text = text.strip()
    lower = text.lower()
    if is_hex(lower, 64):
        raw = bytes.fromhex(lower)
        return Want(WantKind.SHA256, raw[:SHA_PREFIX]), Want(WantKind.INFOHASH, raw)
    if is_hex(lower, 2 * SHA_PREFIX):
        return (Want(WantKind.SHA256, bytes.fromhex(lower)),)
    if is_hex(lower, 40):
        return (Want(WantKind.INFOHASH, bytes.fromhex(lower)),)
    raw = text.encode("utf-8", "replace")
    return (Want(WantKind.TEXT, raw),) if 0 < len(raw) <= MAX_TEXT else ()
