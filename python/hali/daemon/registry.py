"""The methods of the IPC that have to do with registries, publishing and the publisher's key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from hali.daemon.ipc import Emit, Handler, Params, field
from hali.daemon.node import Node
from hali.model.errors import Refused, UsageError
from hali.registry.outbox import Event, describe
from hali.registry.publisher import PROFILE_FIELDS
from hali.share.library import Entry

DELIVERY_S = 10.0  # that `hali publish` waits for the registries; what is not there by then arrives later
LOOK_S = 0.05


class RegistryMethods:
    """Handlers by name, for `Methods.table`."""

    def __init__(self, node: Node) -> None:
        self._node, self._registry = node, node.registry

    def table(self) -> dict[str, Handler]:
        """Method name → handler."""
        return {
            "publish": self.publish,
            "profile": self.profile,
            "profile_set": self.profile_set,
            "registry_status": self.status,
            "registry_index": self.index,
            "registry_rotate": self.rotate,
            "registry_revoke": self.revoke,
        }

    async def publish(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Sign and queue one model, and wait a little for the registries; what they did not take yet, or refused, is told."""
        entry = self._node.library.find(field(params, "model", str))
        meta = entry.record.meta
        if not entry.is_whole:
            raise Refused(_fault(entry), hint="`hali verify` or pull it again")
        await self._registry.publish(meta)
        left = await self._left(meta.infohash_v2)
        return {
            "model_id": meta.model_id,
            "infohash_v2": meta.infohash_v2,
            "publisher": self._registry.publisher.key,
            "registries": [self._fate(url, left) for url in self._registry.servers],
        }

    def _fate(self, url: str, left: list[Event]) -> dict[str, Any]:
        of_this = [event for event in left if event.registry == url and event.kind in ("publish", "ingest")]
        refused = next((event for event in of_this if event.state == "refused"), None)
        state = "refused" if refused else "queued" if of_this else "published"
        return {"url": url, "state": state, "error": (refused or of_this[0]).error if of_this else None}

    async def _left(self, subject: str) -> list[Event]:
        """What of a subject is not delivered; waits while it may still become less by itself."""
        with anyio.move_on_after(DELIVERY_S):
            while True:
                left = await anyio.to_thread.run_sync(self._registry.outbox.events, subject)
                if not any(event.state == "waiting" and not event.attempts for event in left):
                    return left
                await anyio.sleep(LOOK_S)
        return await anyio.to_thread.run_sync(self._registry.outbox.events, subject)

    async def profile(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """The publisher's key and profile."""
        fields = await anyio.to_thread.run_sync(self._registry.publisher.profile)
        return {"publisher": self._registry.publisher.key, "profile": fields}

    async def profile_set(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Change fields of the profile (an empty text removes one), sign and queue it."""
        changes = field(params, "fields", dict[str, str])
        if unknown := set(changes) - set(PROFILE_FIELDS):
            raise UsageError(f"a profile has no {', '.join(sorted(unknown))}")
        known = await anyio.to_thread.run_sync(self._registry.publisher.profile)
        fields = {name: text for name, text in {**known, **changes}.items() if text}
        if "display_name" not in fields:
            raise UsageError("a profile needs a display name", hint="--display-name")
        await self._registry.set_profile(fields)
        return await self.profile(params, emit)

    async def status(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Registries, key, and what waits for delivery."""
        settings = self._node.settings
        events = await anyio.to_thread.run_sync(self._registry.outbox.events)
        return {
            "registries": list(settings.registry.url),
            "publish": settings.registry.publish,
            "telemetry": settings.telemetry,
            "publisher": self._registry.publisher.key,
            "outbox": [describe(event) for event in events],
        }

    async def index(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Write a static registry of all models that are whole; which are left out, and why, is told."""
        directory = field(params, "directory", str)
        if not os.path.isabs(directory):
            raise UsageError("`directory` must be an absolute path")
        await self._node.library.look_for_files()
        entries = self._node.library.entries()
        done = await self._registry.index(Path(directory), [entry.record for entry in entries if entry.is_whole])
        broken = [{"model_id": e.record.meta.model_id, "reason": _fault(e)} for e in entries if not e.is_whole]
        return {"directory": directory, **done, "left_out": [*broken, *done["left_out"]]}

    async def rotate(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """A new key, named by the old one."""
        old, new = await self._registry.rotate()
        return {"old": old, "publisher": new}

    async def revoke(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """The key is lost: nothing that it signs from now on is valid."""
        old, new = await self._registry.revoke(field(params, "reason", str | None, None))
        return {"revoked": old, "publisher": new}


def _fault(entry: Entry) -> str:
    return f"{entry.record.meta.model_id} is {entry.state}: {entry.error}"


def listed_in(node: Node, what: str) -> dict[str, Any]:
    """`{"registry": {…}}` for a pull that a registry resolved, else nothing."""
    listing = node.registry.finder.recall(what)
    if listing is None:
        return {}
    return {"registry": {"url": listing.registry, "trust": listing.trust, "publisher": listing.publisher}}
