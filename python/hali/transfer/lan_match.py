"""What a query asks for, and whether a model answers it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hali.model.ids import is_hex
from hali.model.names import names_part_of
from hali.wire.lan import MAX_TEXT, SHA_PREFIX, Want, WantKind

MIN_HEX_TEXT = 8  # from this length on, a text of hex digits may also be the start of a hash

Fits = Callable[[str, bytes, bytes, bytes], bool]


def matcher(wants: Sequence[Want]) -> Fits:
    """Does a model with this id, SHA-256 prefix, v2 and v1 infohash (empty if not known) answer any of `wants`?

    Prepared once, since it is asked of all models of the LAN.
    """
    prefixes = {w.value[:SHA_PREFIX] for w in wants if w.kind == WantKind.SHA256 and len(w.value) >= SHA_PREFIX}
    infohashes = {w.value for w in wants if w.kind == WantKind.INFOHASH}
    texts = [w.value.decode("utf-8", "replace").casefold() for w in wants if w.kind == WantKind.TEXT]
    starts = tuple(text for text in texts if len(text) >= MIN_HEX_TEXT and is_hex(text, len(text)))

    def fits(model_id: str, sha256: bytes, v2: bytes, v1: bytes) -> bool:
        if sha256 in prefixes or v2 in infohashes or v1 in infohashes:
            return True
        name = model_id.casefold() if texts else ""
        if any(text in name or names_part_of(text, name) for text in texts):
            return True
        return bool(starts) and any(known.hex().startswith(starts) for known in (sha256, v2, v1))

    return fits


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
