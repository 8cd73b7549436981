"""What a node tells those who watch it: transitions worth a line, never every message. The catalogue of kinds is here, once."""

from __future__ import annotations

from typing import Literal

import msgspec

Toast = Literal["none", "info", "success", "warning", "error"]
STRANGERS = 20  # a minute: a person reads no more
Topic = Literal["models", "jobs", "peers", "engines", "requests", "services", "settings"]


class Kind(msgspec.Struct, frozen=True):
    """One kind of event: what it means, how loudly a viewer tells it, and the names of its fields."""

    doc: str
    toast: Toast = "none"
    fields: tuple[str, ...] = ()
    a_minute: int | None = None  # strangers cause it: more than so many are left out, or they would push out all else


class ActivityEvent(msgspec.Struct, frozen=True):
    """One thing that happened. `seq` grows by one with each event of this run of the daemon; `ts` is Unix time in seconds."""

    seq: int
    ts: float
    kind: str
    text: str
    toast_level: Toast
    fields: dict[str, str | int | float | bool | None]


class Changed(msgspec.Struct, frozen=True):
    """What a viewer shows of `topic` may be out of date."""

    topic: Topic


# Names are `noun.verb-in-the-past`. Whoever adds one refreshes docs/events.md with `python -m hali.cli.reference docs`.
KINDS: dict[str, Kind] = {
    "daemon.started": Kind("The daemon is ready.", fields=("version",)),
    "daemon.stopping": Kind("The daemon is about to end.", "info"),
    "service.failed": Kind("A service failed and is started again.", "warning", ("service", "error", "restarts")),
    "service.restored": Kind("A service that had failed is ready again.", "success", ("service", "restarts")),
    "service.given_up": Kind("A service failed too often, or for good.", "error", ("service", "error", "restarts")),
    "pull.started": Kind("A pull has begun.", "info", ("what", "job")),
    "pull.finished": Kind("A model was fetched, verified and is shared.", "success", ("what", "job", "model")),
    "pull.failed": Kind("A pull ended with an error.", "error", ("what", "job", "error")),
    "pull.cancelled": Kind("A pull was cancelled.", "info", ("what", "job")),
    "model.added": Kind("A file was imported.", "success", ("model",)),
    "model.removed": Kind("A model was deleted.", "info", ("model",)),
    "model.damaged": Kind("A file is not what it was; it is not shared any more.", "error", ("model",)),
    "engine.loaded": Kind("A model is in memory.", "info", ("model", "memory_bytes")),
    "engine.unloaded": Kind("A model left memory.", fields=("model",)),
    "engine.died": Kind(
        "An engine ended by itself; the replies it was making ended with an error.", "error", ("model",)
    ),
    "peer.banned": Kind("A peer sent bad data and is barred.", "warning", ("peer",), a_minute=STRANGERS),
    "node.appeared": Kind("Another hali node offers models in the LAN.", fields=("node",), a_minute=STRANGERS),
    "node.left": Kind("A hali node offers nothing any more.", fields=("node",), a_minute=STRANGERS),
    "transfers.paused": Kind("Transfers are paused.", "info", ("until",)),
    "transfers.resumed": Kind("Transfers go on.", "info"),
    "settings.changed": Kind("Settings were read again.", "info", ("applied", "restart")),
}
