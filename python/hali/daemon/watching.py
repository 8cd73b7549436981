"""The method of the IPC that tells what the node does: what is kept, then what comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hali.daemon.ipc import Emit, Handler, Params, field
from hali.model.activity import ActivityEvent
from hali.runtime.activity import Activity
from hali.runtime.channels import Lagged


class ActivityMethods:
    """`events`."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def table(self) -> dict[str, Handler]:
        """All methods by name."""
        return {"events": self.events}

    async def events(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """The last events; with `follow` also those to come, until the client hangs up. `missed`: it read too slowly."""
        if not field(params, "follow", bool, False):
            return {"events": [msgspec.to_builtins(event) for event in self._activity.events.kept]}
        with self._activity.events.subscribe(replay=True) as events:
            async for event in events:
                await emit(_told(event))
        return {}


def _told(event: ActivityEvent | Lagged) -> dict[str, Any]:
    found: dict[str, Any] = {"missed": event.missed} if isinstance(event, Lagged) else msgspec.to_builtins(event)
    return found
