"""Real nodes for tests: a home of its own, the real `hali` command, the real daemon, killed at will and always cleaned up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hali.config.paths import Paths
from hali.daemon.address import is_locked
from hali.daemon.client import DaemonClient

WAIT_S = 60.0  # a deadline for conditions, generous because two cores are shared; nothing measures against it
# Tests hear each other's multicast on one machine, so every test process uses an announcement port of its own.
LAN_PORT = 20_000 + os.getpid() % 20_000


class TestNode:
    """One data directory and what can be done with it."""

    __test__ = False

    def __init__(self, home: Path, **settings: str) -> None:
        self.paths = Paths(home)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HALI_")} | {
            "HALI_HOME": str(home),
            "HALI_DAEMON_PORT": "0",
            "HALI_LAN_PORT": str(LAN_PORT),
        }
        self.env |= {f"HALI_{name.upper()}": value for name, value in settings.items()}

    # ---- the command line

    def hali(self, *args: str, timeout: float = WAIT_S, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `hali ARGS` to its end."""
        command = [sys.executable, "-m", "hali.cli", *args]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout, input=stdin or "", check=False
        )

    def ok(self, *args: str) -> Any:
        """Run `hali ARGS --json`, which must succeed; its result (the last line of a stream of events)."""
        done = self.hali(*args, "--json")
        assert done.returncode == 0, (
            f"hali {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            return json.loads(done.stdout.splitlines()[-1])

    def start_hali(self, *args: str) -> subprocess.Popen[str]:
        """Run `hali ARGS` in the background; the caller waits for it."""
        command = [sys.executable, "-m", "hali.cli", *args]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    # ---- the daemon

    def start(self, *flags: str) -> dict[str, Any]:
        """Start the daemon; its status."""
        self.ok("daemon", "start", *flags)
        return self.status()

    def client(self) -> DaemonClient:
        """A connection to the IPC."""
        return DaemonClient(self.paths)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One IPC request."""
        with self.client() as client:
            return client.call(method, **params)

    def status(self) -> dict[str, Any]:
        """The daemon's status."""
        return self.call("status")

    def state_of(self, model: str) -> str | None:
        """State of a model by id or SHA-256."""
        rows = [row for row in self.status()["seeding"] if model in (row["model_id"], row["sha256"])]
        return rows[0]["status"] if rows else None

    def pid(self) -> int:
        """Of the daemon."""
        return int(self.call("ping")["pid"])

    def kill(self) -> None:
        """`kill -9` the daemon and wait until it is gone."""
        os.kill(self.pid(), signal.SIGKILL)
        until(lambda: not is_locked(self.paths), "the daemon is dead")

    def stop(self) -> None:
        """End the daemon if it runs, in order if it can."""
        if is_locked(self.paths):
            done = self.hali("daemon", "stop")
            assert done.returncode == 0, done.stderr

    def log(self) -> str:
        """The end of the daemon's log, for failure messages."""
        path = self.paths.logs / "hali.log"
        return path.read_text()[-6000:] if path.exists() else "(no log)"

    def events(self, event: str) -> list[dict[str, Any]]:
        """All log lines of one event."""
        lines = (self.paths.logs / "hali.log").read_text().splitlines()
        return [found for line in lines if (found := json.loads(line))["event"] == event]


@contextmanager
def node(home: Path, **settings: str) -> Iterator[TestNode]:
    """A node whose daemon, if any, is stopped at the end."""
    made = TestNode(home, **settings)
    try:
        yield made
    finally:
        made.stop()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` holds and return its value; fail with `what` after a generous deadline."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain until {what}"
        time.sleep(0.02)
    return value
