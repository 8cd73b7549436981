"""What is signed, exactly: a domain and the bytes as sent. Nothing is serialised a second time to be checked."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_KEY = 32  # bytes, RFC 8032
SIGNATURE = 64
MAC = 32  # HMAC-SHA256


def signing_input(domain: str, payload: bytes) -> bytes:
    """The bytes to sign: the domain with its length first, so that no signature is valid in two places."""
    name = domain.encode("ascii")
    if not 0 < len(name) < 256:
        raise ValueError("a signing domain has 1 to 255 characters")
    return bytes([len(name)]) + name + payload


def signature_is_valid(public_key: bytes, signature: bytes, domain: str, payload: bytes) -> bool:
    """True if the owner of the raw Ed25519 key signed `payload` in `domain`."""
    if len(public_key) != PUBLIC_KEY or len(signature) != SIGNATURE:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signing_input(domain, payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def mac(secret: bytes, domain: str, payload: bytes) -> bytes:
    """HMAC-SHA256 of `payload` in `domain`."""
    return hmac.new(secret, signing_input(domain, payload), hashlib.sha256).digest()


def mac_is_valid(secret: bytes, code: bytes, domain: str, payload: bytes) -> bool:
    """True if `code` was made with `secret`; takes the same time wherever they differ."""
    return hmac.compare_digest(mac(secret, domain, payload), code)
