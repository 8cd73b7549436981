"""Questions about the store, answered by the daemon or, when there is none, from the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hali.cli import control
from hali.model.errors import NotRunning, Refused


def ask(method: str, on_progress: Callable[[dict[str, Any]], None] | None = None, **params: Any) -> dict[str, Any]:
    """The daemon's answer, or the same read from disk."""
    try:
        client = control.connect()
    except NotRunning:
        # It reads torrents, so it loads libtorrent, which a command with a daemon need not wait for.
        from hali.cli import local

        return local.METHODS[method](**params, **({"on_progress": on_progress} if on_progress else {}))
    with client:
        for kind, value in client.stream(method, **params):
            if kind == "result":
                return value
            if on_progress is not None:
                on_progress(value)
    raise AssertionError("an answer ends with its result")


def right(found: dict[str, Any]) -> dict[str, Any]:
    """`found` by `info`, unless its file is known to be wrong or gone, or not verified: Refused."""
    if found["state"] not in ("seeding", "stored"):
        raise Refused(
            f"{found['model_id']} is {found['state']}{': ' * bool(found['error'])}{found['error'] or ''}",
            hint="`hali verify` reads it again, `hali pull` fetches it again",
        )
    return found


def whole(found: dict[str, Any]) -> dict[str, Any]:
    """`found` by `info`, unless it is a partial model: Refused, for whoever would take the file's holes for the model."""
    if "layers" in found:
        raise Refused(
            f"{found['model_id']} is here in part only (layers {found['layers']})",
            hint="`hali pull` it without --layers first",
        )
    return found
