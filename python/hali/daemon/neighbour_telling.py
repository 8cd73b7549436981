"""Who came to the LAN and who left it, for the node's viewers."""

from __future__ import annotations

import anyio

from hali.runtime.activity import Activity
from hali.runtime.channels import Watch
from hali.transfer.lan import LanAnnouncer

LOOK_S = 1.0  # a node's announcement comes in several packets


async def tell_neighbours(lan: Watch[LanAnnouncer | None], activity: Activity) -> None:
    """Tell of nodes that begin to offer models, or stop to, until cancelled. What is known survives a restart of the service."""
    known: frozenset[str] = frozenset()
    while True:
        announcer = await lan.until(lambda now: now is not None)
        assert announcer is not None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_after, lan, announcer, group.cancel_scope)
            while True:
                before, known = known, announcer.nodes()
                _tell(activity, before, known)
                await announcer.changes.changed()
                await anyio.sleep(LOOK_S)


async def _cancel_after(lan: Watch[LanAnnouncer | None], present: LanAnnouncer, scope: anyio.CancelScope) -> None:
    await lan.until(lambda now: now is not present)
    scope.cancel()


def _tell(activity: Activity, before: frozenset[str], now: frozenset[str]) -> None:
    for node in sorted(now - before):
        activity.tell("node.appeared", f"Node {node[:16]} offers models in the LAN", node=node)
    for node in sorted(before - now):
        activity.tell("node.left", f"Node {node[:16]} offers nothing any more", node=node)
    if now != before:
        activity.changed("peers")
