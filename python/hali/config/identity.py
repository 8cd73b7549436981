"""The node's Ed25519 key: made at first start, kept for ever, readable by the owner only."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hali.config.files import write_secret
from hali.model.errors import ConfigError


class Identity:
    """Signs for this node. `node_id` is the SHA-256 of the raw public key, hex."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.private_key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.node_id = node_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """64-byte signature; put a domain prefix into `message`, so that no signature means two things."""
        return self.private_key.sign(message)


def node_id(public_key: bytes) -> str:
    """The name of the node that owns a raw 32-byte public key."""
    return hashlib.sha256(public_key).hexdigest()


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """True if `signature` over `message` is by the owner of the raw public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_or_create(path: Path) -> Identity:
    """The identity at `path`, made when missing; ConfigError when the file is readable by others, not by us, or damaged."""
    if not path.exists():
        write_secret(path, _to_pem(Ed25519PrivateKey.generate()))
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
    try:
        pem = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{path} cannot be read: {exc.strerror}", hint="give it back to the user hali runs as"
        ) from None
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as exc:
        raise ConfigError(
            f"{path} is damaged: {exc}", hint="restore it from a backup; a new key is a new node"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 key", hint="restore it from a backup")
    return Identity(key)


def _to_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
