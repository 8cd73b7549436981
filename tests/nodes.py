"""Real nodes for tests: a home of its own, the real `hali` command, the real daemon, killed at will and always cleaned up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hali.config.paths import Paths
from hali.daemon.address import is_locked
from hali.daemon.client import DaemonClient
from hali.model.errors import HaliError
from hali.share.incoming import JOURNAL
from hali.store import journal

WAIT_S = 60.0  # a deadline for conditions, generous because two cores are shared; nothing measures against it
# Tests hear each other's multicast on one machine, so every test process has announcement ports of its own: this one
# and the three above, below those that the kernel gives out.
LAN_PORT = 20_000 + 4 * (os.getpid() % 3_000)
SMOLLM2 = "smollm2:135m:instruct:q4_1"  # how a node calls the model that the tests run
MIB = 1024 * 1024


class TestNode:
    """One data directory and what can be done with it. Settings are those of the environment: `max_upload_mbps="8"`."""

    __test__ = False

    def __init__(self, home: Path, *, within: Sequence[str] = (), **settings: str) -> None:
        """Every process of the node is started through the command `within`: that which enters its network namespace."""
        self.paths = Paths(home)
        self._within = tuple(within)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("HALI_", "HF_"))} | {
            "HALI_HOME": str(home),
            "HALI_DAEMON_PORT": "0",
            "HALI_LAN_PORT": str(LAN_PORT),
            # LSD has one port for the whole machine: torrents of another test process would be found too.
            "HALI_TORRENT_LSD": "off",
            "HALI_TORRENT_LOOPBACK_PEERS": "on",
            # Nobody listens there: a test that needs a hub brings its own.
            "HALI_HF_ENDPOINT": "http://127.0.0.1:9",
        }
        self.set(**settings)
        self._daemon: subprocess.Popen[bytes] | None = None

    def set(self, **settings: str) -> None:
        """Change settings; a daemon that runs already keeps its own."""
        self.env |= {f"HALI_{name.upper()}": value for name, value in settings.items()}

    # ---- the command line

    def hali(self, *args: str, timeout: float = WAIT_S, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `hali ARGS` to its end."""
        command = [*self._within, sys.executable, "-m", "hali.cli", *args]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout, input=stdin or "", check=False
        )

    def shell(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell command where the node is."""
        words = [*self._within, "sh", "-c", command]
        return subprocess.run(
            words, env=self.env, input=stdin, capture_output=True, text=True, timeout=WAIT_S, check=False
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

    def fails(self, *args: str, code: int, told_before: bool = False) -> str:
        """Run `hali ARGS`, which must end with exit code `code` and one line (after others that told progress); that line."""
        done = self.hali(*args)
        shown = f"hali {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        assert done.returncode == code, shown
        assert done.stdout == "", shown
        lines = [line for line in done.stderr.splitlines() if line != "Started the daemon."]
        assert lines and [line for line in lines if line.startswith("hali: ")] == lines[-1:], shown
        assert told_before or len(lines) == 1, shown
        return lines[-1]

    def start_hali(self, *args: str) -> subprocess.Popen[str]:
        """Run `hali ARGS` in the background; the caller waits for it."""
        command = [*self._within, sys.executable, "-m", "hali.cli", *args]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    # ---- the daemon

    def launch(self) -> None:
        """Begin to start the daemon, as `hali daemon start` does."""
        if self._daemon is not None:
            self._daemon.wait(WAIT_S)  # a command ended it
        self.paths.create()
        command = [*self._within, sys.executable, "-m", "hali.daemon.main", "--ready-report"]
        with (self.paths.logs / "start.err").open("wb") as errors:
            self._daemon = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stderr=errors)

    def ready(self) -> dict[str, Any]:
        """Wait until the daemon answers; its status."""
        until(self._answers, "the daemon answers")
        return self.status()

    def start(self) -> dict[str, Any]:
        """Start the daemon; its status."""
        self.launch()
        return self.ready()

    def _answers(self) -> bool:
        assert self._daemon is None or self._daemon.poll() is None, (self.paths.logs / "start.err").read_text()
        try:
            return bool(self.pid())
        except HaliError:
            return False

    def add(self, file: Path, *, copy: bool = False) -> dict[str, Any]:
        """Import a file; the result. As `ok("add", …)`, without the command."""
        self._needed()
        return self.call("add", what=str(file), link=not copy)

    def pull(self, what: str) -> dict[str, Any]:
        """Fetch a model; the result. As `ok("pull", …)`, without the command."""
        self._needed()
        return self.call("pull", what=what)

    def _needed(self) -> None:
        if not is_locked(self.paths):
            self.start()

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

    def hears(self, model_id: str) -> None:
        """Wait until the daemon knows of `model_id` on the LAN."""
        until(lambda: model_id in [row["model_id"] for row in self.status()["lan"]], f"{model_id} is heard of")

    def idle(self) -> None:
        """Wait until no job is under way."""
        until(lambda: not self.status()["jobs"], "all jobs are done")

    def pid(self) -> int:
        """Of the daemon."""
        return int(self.call("ping")["pid"])

    def kill(self) -> None:
        """`kill -9` the daemon and wait until it is gone."""
        os.kill(self.pid(), signal.SIGKILL)
        self.ended()

    def ended(self) -> None:
        """Wait until the daemon is gone."""
        until(lambda: not is_locked(self.paths), "the daemon is gone")
        if self._daemon is not None:
            self._daemon.wait(WAIT_S)
            self._daemon = None

    def stop(self) -> None:
        """End the daemon if it runs, in order if it can."""
        if is_locked(self.paths):
            self.call("stop")
        self.ended()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    # ---- what it left on disk

    def incoming(self) -> Path:
        """The folder of the only unfinished file."""
        (found,) = (self.paths.models(self.env.get("HALI_MODELS_DIR", "")) / ".incoming").iterdir()
        return found

    def on_record(self, kind: bytes = journal._PIECE) -> set[int]:
        """Pieces (16 MiB, or those of the torrent) in the journal of the only unfinished file; empty before there is one."""
        root = self.paths.models(self.env.get("HALI_MODELS_DIR", "")) / ".incoming"
        found = list(root.glob(f"*/{JOURNAL}"))
        return recorded(found[0], kind) if found else set()

    def log(self) -> str:
        """The end of the daemon's log, for failure messages."""
        path = self.paths.logs / "hali.log"
        return path.read_text()[-6000:] if path.is_file() else "(no log)"

    def events(self, event: str) -> list[dict[str, Any]]:
        """All log lines of one event."""
        path = self.paths.logs / "hali.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        lines = text.rpartition("\n")[0].splitlines()  # what follows the last line is half written
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    def processes(self) -> list[psutil.Process]:
        """All living processes of this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HALI_HOME") == str(self.paths.home) and process.status() != "zombie":
                    found.append(process)
        return found


def recorded(path: Path, kind: bytes) -> set[int]:
    """Pieces in the journal at `path`, read without touching it."""
    read = journal._read_header(path)
    return {index for found, _, index, _ in journal._records(read[1]) if found == kind} if read else set()


@contextmanager
def node(home: Path, **settings: str) -> Iterator[TestNode]:
    """A node whose daemon, if any, is stopped at the end, and that leaves no process behind."""
    made = TestNode(home, **settings)
    try:
        yield made
        made.stop()
        until(lambda: not made.processes(), f"no process of {home} is left")
    finally:
        for process in made.processes():  # only after a failure; without a kill the next test would suffer from it
            with contextlib.suppress(psutil.Error):
                process.kill()
        made.ended()


@contextmanager
def pair(folder: Path, **settings: str) -> Iterator[tuple[TestNode, TestNode]]:
    """Two running nodes, `a` and `b`."""
    with node(folder / "a", **settings) as a, node(folder / "b", **settings) as b:
        a.launch()
        b.launch()
        a.ready()
        b.ready()
        yield a, b


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` holds and return its value; fail with `what` after a generous deadline."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain until {what}"
        time.sleep(0.02)
    return value


def random_file(path: Path, mib: float, seed: int = 1) -> Path:
    """A file of random bytes at `path`, the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left, draw = round(mib * MIB), random.Random(seed)
    with path.open("wb") as file:
        while left:  # `randbytes` cannot make a gigabyte at once
            left -= file.write(draw.randbytes(min(left, 64 * MIB)))
    return path


def sha256_of(path: Path) -> str:
    """By hashlib, so independent of hali's own hasher."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flip(path: Path, offset: int) -> None:
    """Invert the byte at `offset`."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([255 - byte]))
