"""Signed envelopes: `{"document": {…, "type": …}, "signature": hex}`.

The Ed25519 signature covers the SHA-256 of the document's canonical JSON (RFC 8785) in the domain `hali/registry/1/TYPE`, so white
space and the order of names do not matter, and no signature means two things.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

from hali.config.identity import Identity
from hali.model.errors import UsageError, VerificationFailed
from hali.registry.documents import AnyDocument, Document, Rotation, signer_of
from hali.wire import jcs
from hali.wire.canonical import signature_is_valid, signing_input

D = TypeVar("D", bound=Document)

DOMAIN = "hali/registry/1/"
SUCCESSOR_DOMAIN = "hali/registry/1/successor"


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """As sent and as stored. `successor_signature` is there in rotations only."""

    document: msgspec.Raw
    signature: str
    successor_signature: str | None = None


def digest(document: Document) -> bytes:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(jcs.encode(msgspec.to_builtins(document))).digest()


def seal(document: AnyDocument, identity: Identity, successor: Identity | None = None) -> bytes:
    """The envelope, itself canonical JSON. `identity` must own the document's key."""
    if signer_of(document) != identity.public_key.hex():
        raise ValueError("a document is signed by the key it names")
    envelope: dict[str, Any] = {
        "document": msgspec.to_builtins(document),
        "signature": identity.sign(signing_input(_domain(document), digest(document))).hex(),
    }
    if successor is not None:
        envelope["successor_signature"] = successor.sign(signing_input(SUCCESSOR_DOMAIN, digest(document))).hex()
    return jcs.encode(envelope)


def unseal(envelope: bytes, kind: type[D]) -> D:
    """The document, its signature checked. UsageError (`invalid_document`) for another form, VerificationFailed (`bad_signature`)."""
    document: D
    parts, document = _decoded(envelope, kind)
    _check(parts.signature, signer_of(document), _domain(document), document)
    if isinstance(document, Rotation):
        _check(parts.successor_signature or "", document.successor, SUCCESSOR_DOMAIN, document)
    elif parts.successor_signature is not None:
        raise UsageError("only a rotation has a successor's signature", code="invalid_document")
    return document


def canonical(envelope: bytes) -> bytes:
    """The shortest form of an envelope that was unsealed: what is kept, so that white space costs nobody a disk."""
    return jcs.encode(jcs.decode(envelope))


def _decoded(envelope: bytes, kind: Any) -> tuple[Envelope, Any]:
    try:
        jcs.decode(envelope)  # for what msgspec lets pass: names that stand twice
        parts = msgspec.json.decode(envelope, type=Envelope)
        return parts, msgspec.json.decode(parts.document, type=kind)
    except (ValueError, msgspec.MsgspecError, RecursionError) as exc:
        raise UsageError(f"not a signed {_name(kind)}: {exc}", code="invalid_document") from None


def _name(kind: Any) -> str:
    return str(getattr(getattr(kind, "__struct_config__", None), "tag", None) or "document")


def _domain(document: Document) -> str:
    return f"{DOMAIN}{document.__struct_config__.tag}"


def _check(signature: str, key: str, domain: str, document: Document) -> None:
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        raw = b""
    if not signature_is_valid(bytes.fromhex(key), raw, domain, digest(document)):
        raise VerificationFailed(
            f"the signature of this {_name(type(document))} is not by the key {key[:16]}…",
            code="bad_signature",
            hint="the document was changed after it was signed, or another key signed it",
        )
