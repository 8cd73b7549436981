"""Another node on the LAN as tests need it: signs packets with its own key and any times and sequences."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.transfer.lan_interfaces import Interface, Reach
from hali.wire.lan import Kind, Model, Packet, encode, node_id, pack_addresses

WALL = 1_700_000_000.0  # the wall clock of the tests
LINK = Reach([Interface(2, "eth0", ("192.0.2.1",), (), (ip_network("192.0.2.0/24"), ip_network("10.0.0.0/8")))])


class FakeNode:
    """`packet` and `datagram` take any field of `Packet`; the sequence grows by itself."""

    def __init__(self, seed: int = 1, address: str = "192.0.2.7", secret: bytes | None = None) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
        self.public_key = self._key.public_key().public_bytes_raw()
        self.id = node_id(self.public_key)
        self.address = address
        self.secret = secret
        self.sequence = 0

    def sign(self, message: bytes) -> bytes:
        """Ed25519."""
        return self._key.sign(message)

    def packet(self, **changes: Any) -> Packet:
        """An announcement without models unless told otherwise."""
        self.sequence += 1
        base = Packet(
            kind=Kind.ANNOUNCE,
            key=self.public_key,
            session=b"S" * 16,
            epoch=int(WALL * 1000),
            sequence=self.sequence,
            time=int(WALL),
            port=6881,
            addresses=pack_addresses([self.address]),
        )
        return msgspec.structs.replace(base, **changes)

    def datagram(self, **changes: Any) -> bytes:
        """The same, signed."""
        return encode(self.packet(**changes), self.sign, self.secret)


def model(number: int = 0, name: str = "smollm2:135m:instruct:q4_1") -> Model:
    """A model like no other number's."""
    mark = number.to_bytes(4, "big")
    return Model(mark * 4, mark * 8, mark * 5, name, 1000 + number)
