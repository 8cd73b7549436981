"""Why a daemon ended, with real ones: in one line, in the log, as an exit code, and still known afterwards."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.nodes import WAIT_S, TestNode, node

# A daemon whose HTTP server breaks each time: what is broken is replaced in this process, there is no switch for it in hali.
BROKEN_API = """
import sys
from hali.api.server import ApiServer
from hali.daemon.main import main

async def run(self, *, task_status):
    task_status.started()
    raise RuntimeError("the server broke")

ApiServer.run = run
sys.argv = ["halid"]
main()
"""


def run_broken(each: TestNode) -> subprocess.CompletedProcess[str]:
    each.paths.create()
    command = [sys.executable, "-c", BROKEN_API]
    return subprocess.run(command, env=each.env, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_an_essential_service_that_breaks_again_and_again_ends_the_daemon_with_its_reason(tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        ended = run_broken(a)
        reason = "service ApiServer failed 5 times, the last time: the server broke"
        assert ended.returncode == 1
        assert [line for line in ended.stderr.splitlines() if line.startswith("halid: ")] == [f"halid: {reason}"]
        assert [event["error"] for event in a.events("daemon.failed")] == [reason]
        assert len(a.events("service.failed")) == 5
        told = a.fails("daemon", "status", code=4)
        assert f"with exit code 1: {reason}" in told


def test_a_port_that_somebody_chose_and_another_program_has_ends_with_78_and_tells_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other, node(tmp_path / "a", lan_enabled="off") as a:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        a.set(daemon_port=str(port))
        assert f"port {port} on 127.0.0.1: in use" in a.fails("daemon", "start", code=78)
        assert len(a.events("service.failed")) == 1
        failed = a.hali("daemon", "status", "--json")
        last = json.loads(failed.stdout or failed.stderr)["error"]["details"]["last_exit"]
        assert failed.returncode == 4
        assert (last["code"], last["exit_code"], len(last["crashes"])) == ("port_in_use", 78, 1)
        assert "daemon_port" in last["hint"]


def test_a_setting_that_cannot_be_read_is_told_in_the_log_too(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.set(max_upload_mbps="much")
        told = a.fails("daemon", "start", code=78)
        (logged,) = a.events("daemon.failed")
        assert logged["error"] in told


def test_a_killed_daemon_is_known_to_have_died_until_one_ends_in_order(tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        for killed in (1, 2):
            a.start()
            pid = a.pid()
            a.kill()
            told = a.fails("daemon", "status", code=4)
            assert f"(PID {pid}) died" in told
            assert killed == 1 or "the last 2 ended so" in told
        started = a.ok("daemon", "start")
        assert (started["last_exit"]["code"], len(started["last_exit"]["crashes"])) == ("died", 2)
        assert a.ok("daemon", "status")["last_exit"] == started["last_exit"]
        a.stop()
        assert a.fails("daemon", "status", code=4) == "hali: Daemon is not running. — start it with `hali daemon start`"
