"""A signed document survives any change of its text only if its meaning stayed the same; nothing else ever comes out."""

from __future__ import annotations

import json

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hali.config.identity import Identity
from hali.model.errors import UsageError, VerificationFailed
from hali.registry.documents import FileEntry, Manifest
from hali.registry.signing import canonical, seal, unseal
from hali.wire import jcs

KEY = Identity(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
DOCUMENT = Manifest(
    publisher=KEY.public_key.hex(),
    sequence=7,
    time=1_800_000_000,
    model_id="tiny:1b:base:q8_0",
    files=[FileEntry(name="Tiny ü 1B.gguf", size=10**10, sha256="0" * 64, blake3="1" * 64)],
    infohash_v1="2" * 40,
    infohash_v2="3" * 64,
)
ENVELOPE = seal(DOCUMENT, KEY)


def outcome(text: bytes) -> Manifest | None:
    try:
        return unseal(text, Manifest)
    except (UsageError, VerificationFailed):
        return None


@given(st.integers(0, len(ENVELOPE) - 1), st.integers(0, 255), st.sampled_from(["set", "insert", "delete"]))
def test_one_changed_byte_gives_the_same_document_or_none(at: int, byte: int, how: str) -> None:
    parts = {
        "set": ENVELOPE[:at] + bytes([byte]) + ENVELOPE[at + 1 :],
        "insert": ENVELOPE[:at] + bytes([byte]) + ENVELOPE[at:],
        "delete": ENVELOPE[:at] + ENVELOPE[at + 1 :],
    }
    assert outcome(parts[how]) in (DOCUMENT, None)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_anything_else_gives_none(text: bytes) -> None:
    assert outcome(text) is None


@given(st.integers(0, 8), st.booleans())
def test_how_the_text_is_laid_out_does_not_matter(indent: int, ascii_only: bool) -> None:
    laid_out = json.dumps(json.loads(ENVELOPE), indent=indent, ensure_ascii=ascii_only).encode()
    assert outcome(laid_out) == DOCUMENT
    assert canonical(laid_out) == ENVELOPE == jcs.encode(jcs.decode(ENVELOPE))


@given(
    st.sampled_from(["sequence", "time", "model_id", "infohash_v1"]),
    st.integers(1, 10**6),
    st.from_regex(r"\A[0-9a-f]{40}\Z"),
)
def test_another_value_in_any_field_is_not_signed(name: str, number: int, text: str) -> None:
    value = number if name in ("sequence", "time") else text if name == "infohash_v1" else f"m{number}:1b:base:q8_0"
    changed = msgspec.to_builtins(DOCUMENT) | {name: value}
    parts = json.loads(ENVELOPE) | {"document": changed}
    assert outcome(json.dumps(parts).encode()) == (DOCUMENT if changed[name] == getattr(DOCUMENT, name) else None)
