"""The real daemon tells a service manager, over a real datagram socket, what is true and when it is true."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.model.errors import ExitCode
from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, node, random_file, until

NAME, REPO = "Gated-1B-Q4_0.gguf", "owner/Gated-1B-GGUF"
WATCHDOG_S = 0.4
STUCK_S = 2.0  # five times what the manager would have waited


class Manager:
    """The manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)

    def close(self) -> None:
        self._sock.close()

    def next(self, timeout: float = 60.0) -> dict[str, str]:
        """The next message, by variable; empty when none comes in time."""
        self._sock.settimeout(timeout)
        try:
            text = self._sock.recv(65536).decode()
        except TimeoutError:
            return {}
        return dict(line.split("=", 1) for line in text.split("\n"))

    def until(self, variable: str) -> dict[str, str]:
        """The next message that sets `variable`."""
        while found := self.next():
            if variable in found:
                return found
        raise AssertionError(f"no {variable} came")

    def drain(self) -> None:
        """Forget what was said so far."""
        while self.next(timeout=0.01):
            pass


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify") if request.param == "path" else f"@hali-test-{os.getpid()}")
    yield listening
    listening.close()


@pytest.fixture
def managed(manager: Manager, tmp_path: Path) -> Iterator[TestNode]:
    with node(tmp_path / "a") as a:
        a.env |= {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        yield a


def test_ready_is_said_when_it_answers_and_stopping_when_nobody_finds_it_any_more(
    manager: Manager, managed: TestNode
) -> None:
    managed.launch()
    first = manager.until("READY")
    assert managed.call("ping")["pid"] == managed.pid(), "what said that it is ready answers at once"
    assert (
        first["STATUS"] == f"{len(managed.status()['services'])} of {len(managed.status()['services'])} services ready"
    )
    assert manager.until("WATCHDOG") == {"WATCHDOG": "1"}
    managed.call("stop")
    assert manager.until("STOPPING")["STOPPING"] == "1"
    assert not managed.paths.address.exists()
    managed.ended()


def test_a_daemon_whose_event_loop_stands_still_does_not_say_that_it_lives(manager: Manager, managed: TestNode) -> None:
    managed.launch()
    manager.until("WATCHDOG")
    pid = managed.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        manager.drain()
        assert manager.next(timeout=STUCK_S) == {}
    finally:
        os.kill(pid, signal.SIGCONT)
    manager.until("WATCHDOG")


def test_wrong_arguments_of_a_service_end_with_a_code_that_forbids_a_restart(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        done = subprocess.run(
            [sys.executable, "-m", "hali.daemon.main", "--service", "--no-such-key", "1"],
            env=a.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == ExitCode.USAGE and len(done.stderr.splitlines()) == 1


def test_the_hubs_token_is_read_from_the_credentials(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "hf_token").write_text(f"{FakeHub.TOKEN}\n")
    file = random_file(tmp_path / NAME, 1)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url) as a:
        hub.add(REPO, {NAME: file}, gated=True)
        a.env["HF_HOME"] = str(tmp_path / "nothing")
        a.start()
        assert "HF_TOKEN" in a.fails("pull", REPO, code=7, told_before=True)
        a.env["CREDENTIALS_DIRECTORY"] = str(tmp_path / "credentials")
        a.restart()
        assert a.pull(REPO)


def test_a_registry_tells_when_it_is_ready_and_logs_to_a_file_of_its_own(manager: Manager, tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.start()
        a.env |= {"NOTIFY_SOCKET": manager.address}
        process = a.start_hali("registry", "serve", "--service", "--listen", "127.0.0.1:0")
        url = manager.until("READY")["STATUS"].removeprefix("registry at ")
        process.terminate()
        manager.until("STOPPING")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "") and url in out
        log = (a.paths.logs / "registry.log").read_text()
        assert '"registry.ready"' in log and "registry.ready" not in (a.paths.logs / "hali.log").read_text()


def test_a_second_daemon_writes_nothing_into_the_log_of_the_first(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.start()
        a.call("ping")
        before = a.paths.logs.joinpath("hali.log").read_bytes()
        done = subprocess.run(
            [sys.executable, "-m", "hali.daemon.main", "--service"],
            env=a.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "already runs" in done.stderr
        after = a.paths.logs.joinpath("hali.log").read_bytes()
        assert after.startswith(before) and b"daemon.failed" not in after


def test_the_daemon_of_a_service_lists_itself_as_such(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        process = subprocess.Popen([sys.executable, "-m", "hali.daemon.main", "--service"], env=a.env)
        until(a.paths.address.exists, "it answers")
        assert "runs as a service" in a.fails("daemon", "stop", code=7)
        assert "`hali service restart`" in a.fails("daemon", "restart", code=7)
        process.terminate()
        assert process.wait(60) == 0
