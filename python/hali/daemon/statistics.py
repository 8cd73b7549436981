"""The numbers of `hali stats`: rates, totals, models, downloads under way and the LAN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from hali.daemon.views import describe_allowance, describe_engine, describe_job, describe_traffic
from hali.model.units import format_duration
from hali.share.library import Entry
from hali.transfer.events import TorrentStatus, Totals

if TYPE_CHECKING:
    from hali.daemon.node import Node


NOTHING = Totals(0, 0, 0.0, 0.0, 0)


async def present_rates(node: Node) -> tuple[float, float]:
    """Bytes a second at this moment, down and up."""
    session = node.torrents.value
    totals = await session.totals() if session is not None else NOTHING
    return _down(totals, [job.progress.rate for job in node.board.active()]), totals.up_rate


def _down(totals: Totals, jobs: Iterable[float | None]) -> float:
    """Every download is a job; of those that come by HTTP the torrent session knows nothing."""
    return max(totals.down_rate, sum(rate or 0 for rate in jobs))


LAST_EVENTS = 10  # what happened just now; `hali events` has more


async def statistics(node: Node, uptime: float) -> dict[str, Any]:
    """All of them, at this moment."""
    session = node.torrents.value
    torrents = await session.status() if session is not None else []
    totals = await session.totals() if session is not None else NOTHING
    jobs = [describe_job(job, position) for job, position in node.board.in_order()]
    by_hash = {name: torrent for torrent in torrents for name in (torrent.infohashes.v1, torrent.infohashes.v2) if name}
    return {
        "uptime": format_duration(uptime),
        **describe_allowance(node.regulator.now.value),
        "down_rate": _down(totals, [job["rate"] for job in jobs]),
        "up_rate": totals.up_rate,
        "down_total": totals.downloaded,
        "up_total": totals.uploaded,
        "peers": totals.peers,
        "models": [_model(node, entry, by_hash) for entry in node.library.entries()],
        "jobs": jobs,
        "lan_traffic": describe_traffic(node.lan.value),
        "inference": msgspec.to_builtins(node.router.stats()),
        "engines": [describe_engine(status) for status in node.engines.list()],
        "services": [msgspec.to_builtins(s) for s in node.supervisor.statuses() if s.state != "ready"],
        "activity": [msgspec.to_builtins(event) for event in node.activity.events.kept[-LAST_EVENTS:]],
    }


def _model(node: Node, entry: Entry, by_hash: Mapping[str, TorrentStatus]) -> dict[str, Any]:
    meta = entry.record.meta
    twin = node.library.twins.infohash(meta.sha256) or ""
    torrents = [by_hash[name] for name in (meta.infohash_v1, twin, *meta.also_torrents) if name in by_hash]
    uploaded = node.usage.of(meta.sha256).uploaded
    return {
        "model_id": meta.model_id,
        "sha256": meta.sha256,
        "status": entry.state,
        "progress": entry.progress,
        "down_rate": sum(t.down_rate for t in torrents),
        "up_rate": sum(t.up_rate for t in torrents),
        "peers": sum(t.peers for t in torrents),
        "uploaded": uploaded,
        "ratio": round(uploaded / meta.size, 3),
    }
