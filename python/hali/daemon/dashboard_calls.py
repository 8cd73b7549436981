"""What the dashboard's buttons may do: a list of the IPC's methods, run by the same handlers. Everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from hali.config.load import find_key, store
from hali.daemon.ipc import Handler, Params, field, nobody
from hali.model.errors import NotFound, Refused
from hali.share.targets import TorrentTarget, parse_target

if TYPE_CHECKING:
    from hali.daemon.node import Node

# As the IPC calls them, with its parameters. None of them takes a path or reads one, ends the daemon, or shows a secret.
METHODS = frozenset(
    {"pull", "outcome", "choices", "search", "cancel", "drop", "move", "pause", "resume"}
    | {"info", "verify", "pin", "rm", "load", "unload"}
)
CONFIG_SET = "config_set"  # `hali config set|unset KEY`, which is a write to the file and the IPC's `reload`


class Calls:
    """Runs them."""

    def __init__(self, node: Node, handlers: Mapping[str, Handler]) -> None:
        self._node, self._handlers = node, handlers
        self._writing = anyio.Lock()  # reading, changing and writing the file is one thing

    async def call(self, method: str, params: Params) -> Mapping[str, Any]:
        """Its result; NotFound for what is no button."""
        if method == CONFIG_SET:
            return await self._config_set(params)
        if method not in METHODS:
            choices = ", ".join(sorted({*METHODS, CONFIG_SET}))
            raise NotFound(f"the dashboard cannot call {method[:100]!r}", hint=f"it can: {choices}", code="no_method")
        if method == "pull":
            params = _pull(params)
        return await self._handlers[method](params, nobody)

    async def _config_set(self, params: Params) -> Mapping[str, Any]:
        """Write one `key` as `hali config set` does (`value` as text; null takes it out) and read the file again."""
        name, value = find_key(field(params, "key", str)).name, field(params, "value", str | None)
        path = self._node.paths.config
        async with self._writing:
            await anyio.to_thread.run_sync(partial(store, path, name, value))
            done = await self._handlers["reload"]({}, nobody)
        source = done["sources"].get(name, "default")
        return {"key": name, "path": str(path), "applied": name not in done["restart"], "source": source}


def _pull(params: Params) -> Params:
    """Not waited for. No .torrent is read from a path or URL: who may ask over HTTP may not look around here."""
    if isinstance(parse_target(field(params, "what", str)), TorrentTarget):
        raise Refused("a .torrent cannot be named over HTTP", hint="give its magnet link, or use `hali pull`")
    return {**params, "wait": False}
