"""Questions about the store, answered by the daemon or, when there is none, from the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hali.cli import control
from hali.model.errors import NotRunning


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
