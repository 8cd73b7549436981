"""What the remembered nodes have, as others see it: one entry per file, with everybody who has it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from hali.model.ids import InfoHashes
from hali.transfer.lan_crowd import Held, Node
from hali.transfer.lan_match import matcher
from hali.wire.lan import Want

MODEL_TTL = 120.0  # seconds; four missed announcements

Endpoint = tuple[str, int]
_Holding = tuple[Held, list[Endpoint], int]  # a model, where its node is, and the protocol that told of it


class LanEntry(msgspec.Struct, frozen=True):
    """One model on the LAN and who has it."""

    model_id: str
    sha256_prefix: str  # 32 hex digits; empty when only a v1 node told of it
    infohashes: InfoHashes
    size: int | None
    peers: tuple[Endpoint, ...]  # BitTorrent; freshest node first
    age_s: float  # since it was last heard of
    complete: bool  # at least one node has all of it
    nodes: int  # how many have it; each may have several endpoints
    protocol: int  # 2, or 1 for announcements of the existing hali, which are not signed


def entries(nodes: Iterable[Node], now: float, wants: Sequence[Want] = ()) -> list[LanEntry]:
    """Models heard of lately that fit any of `wants` (all without wants), by model id."""
    fits = matcher(wants)
    groups: dict[tuple[bytes, bytes, bytes], list[_Holding]] = {}
    for node in nodes:
        endpoints: list[Endpoint] | None = None  # worked out once for all models of the node, if any fits
        for held in node.models.values():
            if now - held.seen <= MODEL_TTL and (not wants or fits(held.model_id, held.sha256, held.v2, held.v1)):
                endpoints = _endpoints(node) if endpoints is None else endpoints
                groups.setdefault((held.sha256, held.v2, held.v1), []).append((held, endpoints, node.protocol))
    found = [_entry(members, now) for members in groups.values()]
    return sorted(found, key=lambda e: (e.model_id, e.sha256_prefix, e.infohashes.best))


def _entry(members: list[_Holding], now: float) -> LanEntry:
    members.sort(key=lambda member: member[0].seen, reverse=True)
    newest = members[0][0]
    peers = dict.fromkeys(peer for _, endpoints, _ in members for peer in endpoints)
    return LanEntry(
        model_id=newest.model_id,
        sha256_prefix=newest.sha256.hex(),
        infohashes=InfoHashes(v1=newest.v1.hex() or None, v2=newest.v2.hex() or None),
        size=newest.size,
        peers=tuple(peers),
        age_s=max(0.0, now - newest.seen),
        complete=any(held.complete for held, _, _ in members),
        nodes=len(members),
        protocol=max(protocol for _, _, protocol in members),
    )


def _endpoints(node: Node) -> list[Endpoint]:
    """Where a node's BitTorrent port can be reached from here, the best way first."""
    if not node.port:
        return []
    ranked = sorted(node.hosts, key=_rank)
    usable = [h for h in ranked if _rank(h) < 3] or ranked  # link-local ones only if there is nothing else
    return [(host, node.port) for host in usable]


def _rank(host: str) -> int:
    ip = ipaddress.ip_address(host.partition("%")[0])
    if ip.is_loopback:
        return 0  # the same machine
    if ip.version == 4:
        return 1
    return 3 if ip.is_link_local else 2
