"""What telemetry sends, and nothing else: one report for each pull that ended, to each registry, by a pseudonym of its own.

The reporter's key is derived from the node's private key and the registry's address: always the same for one registry, so that one
node counts once; different for two, so that they cannot compare; and nobody without the private key can tell whose it is.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hali.config.identity import Identity
from hali.model.units import DAY_S
from hali.model.urls import origin
from hali.registry.documents import Report
from hali.registry.signing import seal

MEANING = {
    "infohash_v2": "infohash of the model's torrent",
    "outcome": "ok or failed",
    "day": "the day, counted from 1970-01-01",
    "signature": "of the reporter's key over this document",
}


def reporter(identity: Identity, registry: str) -> Identity:
    """The pseudonym of this node towards one registry."""
    scheme, host, port = origin(registry)
    info = f"hali/reporter/1\n{scheme}://{host}:{port}".encode()
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info)
    return Identity(Ed25519PrivateKey.from_private_bytes(kdf.derive(identity.private_key.private_bytes_raw())))


def report(identity: Identity, registry: str, infohash_v2: str, outcome: str) -> bytes:
    """The whole body of one report, signed."""
    who = reporter(identity, registry)
    document = Report(
        reporter=who.public_key.hex(), infohash_v2=infohash_v2, outcome=outcome, day=int(time.time()) // DAY_S
    )
    return seal(document, who)


def preview(identity: Identity, registry: str) -> dict[str, Any]:
    """The body that `report` makes, field by field; what differs from report to report is described in angle brackets."""
    body = msgspec.json.decode(report(identity, registry, "0" * 64, "ok"))
    fields = {name: _described(name, value) for name, value in body["document"].items()}
    return {"document": fields, "signature": _described("signature", body["signature"])}


def _described(name: str, value: Any) -> Any:
    return f"<{MEANING[name]}>" if name in MEANING else value
