"""A daemon that cannot be asked is stopped by a signal; a process that does not hold the home never gets one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hali.cli import control
from hali.config.last_exit import Run
from hali.config.paths import Paths
from hali.daemon.address import exclusive, is_locked
from hali.model.errors import Failed
from hali.runtime.processes import boot_id
from tests.nodes import node

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows who holds a lock")


@pytest.mark.parametrize("lost", ["daemon.token", "daemon.addr"])
def test_a_daemon_whose_files_are_lost_is_named_and_stops_in_order(lost: str, tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        pid = a.start()["pid"]
        (a.paths.home / lost).unlink()
        told = a.fails("daemon", "status", code=4)
        assert f"the daemon (PID {pid}) cannot be reached" in told and "hali daemon restart" in told
        assert a.ok("daemon", "stop") == {"stopped": True}
        assert not is_locked(a.paths)
        assert len(a.events("daemon.stopped")) == 1


def test_it_is_replaced_by_restart(tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        pid = a.start()["pid"]
        a.paths.token.unlink()
        started = a.ok("daemon", "restart")
        assert started["started"] and started["pid"] != pid


@pytest.mark.parametrize("boot", [boot_id(), "another"])
def test_who_does_not_hold_the_lock_gets_no_signal(boot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "STOP_S", 0.0)
    paths = Paths(tmp_path / "home")
    paths.create()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other, exclusive(paths):
        paths.lock.write_bytes(msgspec.json.encode(Run(other.pid, boot)))
        paths.token.write_text("x")
        with pytest.raises(Failed, match="still runs after"):
            control.stop(paths)
        other.communicate(b"\n")
    assert other.returncode == 0


def test_one_that_starts_or_ends_in_order_gets_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has neither file, and a second signal would end it at once."""
    asked: list[Paths] = []
    monkeypatch.setattr(control, "STOP_S", 0.0)
    monkeypatch.setattr(control, "_terminate", asked.append)
    paths = Paths(tmp_path / "home")
    paths.create()
    with exclusive(paths):
        with pytest.raises(Failed, match="still runs after"):
            control.stop(paths)
        assert asked == []
        paths.address.write_text("127.0.0.1:1")
        with pytest.raises(Failed, match="still runs after"):
            control.stop(paths)
        assert asked == [paths]
