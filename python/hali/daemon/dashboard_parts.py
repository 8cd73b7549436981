"""The parts of the dashboard, each made of the very answer that a command prints with --json."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import msgspec

from hali.config.load import Loaded, load
from hali.config.paths import Paths
from hali.daemon.ipc import Handler, nobody
from hali.model.activity import Topic
from hali.model.errors import ConfigError

if TYPE_CHECKING:
    from hali.daemon.node import Node

Handlers = Mapping[str, Handler]


class Builder(msgspec.Struct, frozen=True):
    """`topic`: the part changes only when this is told of; None: built each time, as numbers in it move by themselves."""

    build: Callable[[Node, Handlers], Awaitable[Any]]
    topic: Topic | None = None


async def stats(node: Node, handlers: Handlers) -> Any:
    """`hali stats --json`."""
    return await handlers["stats"]({}, nobody)


async def models(node: Node, handlers: Handlers) -> Any:
    """`hali list --json`."""
    found = await handlers["models"]({}, nobody)
    return [*found["models"], *found["partial"]]


async def lan(node: Node, handlers: Handlers) -> Any:
    """`lan` and `lan_traffic` of `hali daemon status --json`."""
    found = await handlers["status"]({}, nobody)
    return {name: found[name] for name in ("lan", "lan_traffic")}


async def engines(node: Node, handlers: Handlers) -> Any:
    """`hali ps --json`."""
    return (await handlers["ps"]({}, nobody))["engines"]


async def services(node: Node, handlers: Handlers) -> Any:
    """`services` of `hali daemon status --json`."""
    return (await handlers["status"]({}, nobody))["services"]


async def requests(node: Node, handlers: Handlers) -> Any:
    """The router's counts: `inference` of `hali stats --json`."""
    return msgspec.to_builtins(node.router.stats())


async def settings(node: Node, handlers: Handlers) -> Any:
    """`hali config show --json` as the daemon would read it now, each row with `pending`: it is not in force before a restart."""
    fresh, error = await anyio.to_thread.run_sync(_read, node.paths, node.loaded)
    ours = {row["key"]: row["value"] for row in node.loaded.rows()}
    rows = [{**row, "pending": row["value"] != ours[row["key"]]} for row in fresh.rows()]
    return {"path": str(node.paths.config), "keys": rows, "error": error}


def _read(paths: Paths, loaded: Loaded) -> tuple[Loaded, str | None]:
    """What the files say, or what is in force and what is wrong with the file. Blocks."""
    try:
        return load(paths.config, flags=loaded.flags), None
    except ConfigError as error:
        return loaded, str(error)


PARTS: Mapping[str, Builder] = {
    "stats": Builder(stats),
    "models": Builder(models),
    "lan": Builder(lan),
    "engines": Builder(engines),
    "requests": Builder(requests),
    "services": Builder(services, "services"),
    "settings": Builder(settings, "settings"),
}
