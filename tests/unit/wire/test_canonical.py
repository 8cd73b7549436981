"""Signing input and MACs."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.wire.canonical import mac, mac_is_valid, signature_is_valid, signing_input


def test_a_signature_is_valid_in_its_own_domain_only() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    signature = key.sign(signing_input("hali/a", b"payload"))
    assert signature_is_valid(public, signature, "hali/a", b"payload")
    assert not signature_is_valid(public, signature, "hali/b", b"payload")
    assert not signature_is_valid(public, signature, "hali/a", b"payloae")


def test_moving_bytes_between_domain_and_payload_changes_the_input() -> None:
    assert signing_input("ab", b"c") != signing_input("a", b"bc")


@pytest.mark.parametrize(("key", "signature"), [(b"", bytes(64)), (bytes(32), b""), (b"\xff" * 32, bytes(64))])
def test_keys_and_signatures_of_no_use_are_invalid_and_raise_nothing(key: bytes, signature: bytes) -> None:
    assert not signature_is_valid(key, signature, "hali/a", b"x")


def test_a_mac_needs_the_same_secret() -> None:
    code = mac(b"one", "d", b"x")
    assert mac_is_valid(b"one", code, "d", b"x")
    assert not mac_is_valid(b"two", code, "d", b"x")
    assert not mac_is_valid(b"one", b"", "d", b"x")


@pytest.mark.parametrize("domain", ["", "x" * 256])
def test_a_domain_has_1_to_255_characters(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        signing_input(domain, b"")
