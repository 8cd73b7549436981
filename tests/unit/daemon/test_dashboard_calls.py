"""What the dashboard's buttons can do, and what nobody can do through them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from hali.config.paths import Paths
from hali.daemon.dashboard_calls import CONFIG_SET, METHODS, Calls
from hali.daemon.methods import Methods
from hali.daemon.node import Node
from hali.model.errors import HaliError, NotFound, UsageError

pytestmark = pytest.mark.anyio


class Recorder:
    """Every method of the IPC, each doing nothing but saying so."""

    def __init__(self) -> None:
        parts = dict.fromkeys(("activity", "api_keys", "key_ring", "registry", "database", "identity"))
        node = cast(Node, SimpleNamespace(**parts))
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.table = {name: self._method(name) for name in Methods(node, lambda: None).table()}

    def _method(self, name: str) -> Any:
        async def method(params: dict[str, Any], emit: Any) -> dict[str, Any]:
            self.called.append((name, params))
            return {"sources": {}, "restart": []}

        return method


@pytest.fixture
def ipc() -> Recorder:
    return Recorder()


def calls(ipc: Recorder, home: Path = Path("/none")) -> Calls:
    return Calls(cast(Node, SimpleNamespace(paths=Paths(home))), ipc.table)


async def test_no_other_method_of_the_ipc_can_be_called(ipc: Recorder) -> None:
    others = set(ipc.table) - METHODS
    assert {"stop", "add", "prune", "status", "reload", "publish"} <= others
    for name in (*others, "PAUSE", "pause ", "__init__", "", "../pause"):
        with pytest.raises(NotFound):
            await calls(ipc).call(name, {})
    assert ipc.called == []


async def test_each_button_is_a_method_of_the_ipc_and_gets_its_parameters(ipc: Recorder) -> None:
    assert set(ipc.table) >= METHODS
    for name in METHODS - {"pull"}:
        await calls(ipc).call(name, {"model": "x"})
    assert sorted(ipc.called) == sorted((name, {"model": "x"}) for name in METHODS - {"pull"})


async def test_a_pull_is_not_waited_for(ipc: Recorder) -> None:
    await calls(ipc).call("pull", {"what": "owner/repo", "wait": True})
    assert ipc.called == [("pull", {"what": "owner/repo", "wait": False})]


@pytest.mark.parametrize("what", ["/etc/x.torrent", "x.torrent", "http://10.0.0.1/x.torrent", "file:///etc/passwd", 1])
async def test_nothing_of_this_machine_and_no_address_can_be_pulled(ipc: Recorder, what: Any) -> None:
    with pytest.raises(HaliError):
        await calls(ipc).call("pull", {"what": what})
    assert ipc.called == []


async def test_a_setting_is_written_and_read_again(ipc: Recorder, tmp_path: Path) -> None:
    done = await calls(ipc, tmp_path).call(CONFIG_SET, {"key": "max_upload_mbps", "value": "5"})
    assert (tmp_path / "config.toml").read_text() == "max_upload_mbps = 5.0\n"
    assert done["applied"] is True and ipc.called == [("reload", {})]
    await calls(ipc, tmp_path).call(CONFIG_SET, {"key": "max_upload_mbps", "value": None})
    assert (tmp_path / "config.toml").read_text() == ""


async def test_of_two_settings_at_once_both_are_written(ipc: Recorder, tmp_path: Path) -> None:
    buttons, wanted = calls(ipc, tmp_path), ("max_upload_mbps", "max_download_mbps", "torrent_port", "pull_concurrency")
    async with anyio.create_task_group() as group:
        for key in wanted:
            group.start_soon(buttons.call, CONFIG_SET, {"key": key, "value": "5"})
    assert all(key in (tmp_path / "config.toml").read_text() for key in wanted)


@pytest.mark.parametrize("params", [{}, {"key": "max_upload_mbps"}, {"key": "no_such", "value": "1"}])
async def test_a_setting_that_cannot_be_is_not_written(ipc: Recorder, tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await calls(ipc, tmp_path).call(CONFIG_SET, params)
    with pytest.raises(UsageError):
        await calls(ipc, tmp_path).call(CONFIG_SET, {"key": "max_upload_mbps", "value": "fast"})
    assert list(tmp_path.iterdir()) == [] and ipc.called == []
