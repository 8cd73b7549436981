"""Our own side of the LAN protocol: who we are, what we have, and the packets that say so. No I/O."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from hali.model.ids import InfoHashes, is_hex
from hali.wire.lan import (
    MAX_ID,
    MAX_PACKET,
    SHA_PREFIX,
    Flag,
    Kind,
    Model,
    Packet,
    Want,
    WantKind,
    encode,
    node_id,
    pack_addresses,
    pad,
    split_models,
)


class Signer(Protocol):
    """The node's key; `hali.config.identity.Identity` is one."""

    public_key: bytes  # raw, 32 bytes

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""


class LanModel(msgspec.Struct, frozen=True):
    """A model of ours that others may fetch."""

    model_id: str
    sha256: str  # 64 hex digits, or as many as are announced: the first 32
    infohashes: InfoHashes  # v2 is needed
    size: int
    complete: bool = True


class Speaker:
    """Builds signed datagrams of one session. A sequence number is drawn when one is made: make them in order."""

    def __init__(self, signer: Signer, secret: bytes | None) -> None:
        self._signer = signer
        self._secret = secret
        self.session = os.urandom(16)
        self.epoch = time.time_ns() // 1_000_000
        self._sequence = 0
        self._round = 0
        self._widest: tuple[bytes, ...] = ()
        self.node_id = node_id(signer.public_key)
        self.port = 0

    def set_addresses(self, *lists: Iterable[str]) -> None:
        """Lists of addresses that `datagram` may be told to put in; packets keep room for the longest."""
        self._widest = max(map(pack_addresses, lists), key=lambda packed: sum(map(len, packed)), default=())

    def announcement(self, models: Sequence[Model]) -> list[Packet]:
        """All our models, as many packets as it takes; none left out means that receivers drop what is not named."""
        self._round += 1
        base = self._packet(Kind.ANNOUNCE)
        shares = split_models(models, base, mac_used=self._secret is not None) or [[]]
        return [
            msgspec.structs.replace(base, models=tuple(share), round=self._round, part=part, parts=len(shares))
            for part, share in enumerate(shares)
        ]

    def changes(self, models: Sequence[Model]) -> list[Packet]:
        """What is new and what is gone (no flags) since the last announcement."""
        return self.answer(models, b"", MAX_PACKET)

    def answer(self, models: Sequence[Model], nonce: bytes, limit: int) -> list[Packet]:
        """Some of our models, for whoever asked with `nonce`; no packet longer than `limit` bytes."""
        base = msgspec.structs.replace(self._packet(Kind.ANNOUNCE), nonce=nonce, round=self._round)
        shares = split_models(models, base, mac_used=self._secret is not None, limit=limit)
        return [msgspec.structs.replace(base, models=tuple(share)) for share in shares or [[]]]

    def sign_of_life(self, nonce: bytes) -> Packet:
        """No models; shorter than the query for it."""
        return msgspec.structs.replace(self._packet(Kind.ANNOUNCE), nonce=nonce)

    def query(self, wants: Sequence[Want], nonce: bytes, *, page: int = 0) -> Packet:
        """Who has this? Without wants: everybody, tell what you have. As long as the longest answer."""
        packet = msgspec.structs.replace(self._packet(Kind.QUERY), wants=tuple(wants), nonce=nonce, part=page)
        return pad(packet, mac_used=self._secret is not None)

    def probe(self, node: bytes, nonce: bytes) -> Packet:
        """Is this node alive? Not padded: it may not be longer than what it doubts."""
        wants = (Want(WantKind.NODE, node),)
        return msgspec.structs.replace(self._packet(Kind.QUERY), wants=wants, nonce=nonce)

    def goodbye(self) -> Packet:
        """We stop."""
        return self._packet(Kind.GOODBYE)

    def datagram(self, packet: Packet, addresses: Iterable[str]) -> bytes:
        """`packet` with these addresses, the next sequence number and the present time, signed."""
        self._sequence += 1
        dated = msgspec.structs.replace(
            packet, addresses=pack_addresses(addresses), sequence=self._sequence, time=max(0, int(time.time()))
        )
        return encode(dated, self._signer.sign, self._secret)

    def _packet(self, kind: Kind) -> Packet:
        return Packet(
            kind=kind,
            key=self._signer.public_key,
            session=self.session,
            epoch=self.epoch,
            sequence=self._sequence,
            time=0,
            port=self.port,
            addresses=self._widest,
        )


def to_wire(models: Iterable[LanModel]) -> tuple[Model, ...]:
    """What goes into packets. ValueError for a hash that is none, or a model without a v2 infohash."""
    return tuple(_to_wire(model) for model in models)


def _to_wire(model: LanModel) -> Model:
    v1, v2 = model.infohashes.v1 or "", model.infohashes.v2 or ""
    is_sha256 = is_hex(model.sha256, 64) or is_hex(model.sha256, 2 * SHA_PREFIX)
    if not is_sha256 or not is_hex(v2, 64) or (v1 and not is_hex(v1, 40)):
        raise ValueError(f"{model.model_id}: not announceable without SHA-256 and v2 infohash")
    name = model.model_id.encode()[:MAX_ID].decode(errors="ignore")
    flags = Flag.COMPLETE if model.complete else Flag.PARTIAL
    sha256 = bytes.fromhex(model.sha256)[:SHA_PREFIX]
    return Model(sha256, bytes.fromhex(v2), bytes.fromhex(v1), name, model.size, flags)
