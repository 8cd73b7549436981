"""Other people's BitTorrent clients, as their users run them but for what must not leave the lab: each on a host of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import pytest

from tests.fakes.aria2 import aria2c
from tests.net import netns
from tests.net.lab import Host
from tests.nodes import until

ROOT = Path(__file__).resolve().parents[2]
_SALT = b"sixteen bytes 16"


class Client(Protocol):
    """A program that takes torrents."""

    def add(self, what: str | Path, folder: Path, *, complete: bool = False) -> None:
        """Fetch a magnet or .torrent into `folder`, or seed the `complete` file there."""

    def is_complete(self) -> bool:
        """Whether all that was added is there and checked."""

    def processes(self) -> list[psutil.Process]:
        """What runs."""


class Program(ABC):
    """A client that does one job and is told it by its arguments."""

    def __init__(self, host: Host, home: Path) -> None:
        self._host, self._log = host, home / "log"
        self._process: subprocess.Popen[Any] | None = None
        self._seeds = False
        home.mkdir(parents=True)

    @abstractmethod
    def command(self, what: str, folder: Path, complete: bool) -> list[str]:
        """What to run."""

    def add(self, what: str | Path, folder: Path, *, complete: bool = False) -> None:
        """Begin the one job."""
        assert self._process is None
        self._seeds = complete
        folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = self._host.popen(
                self.command(str(what), folder, complete), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT
            )

    def is_complete(self) -> bool:
        """A fetch ends when it is complete; what seeds goes on, and nobody can ask it whether it has looked at its file yet."""
        assert self._process is not None
        code = self._process.poll()
        assert code is None or (code == 0 and not self._seeds), self._log.read_text()
        return code == 0 or self._seeds

    def processes(self) -> list[psutil.Process]:
        """What runs."""
        return [psutil.Process(self._process.pid)] if self._process and self._process.poll() is None else []

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()


class Aria2(Program):
    """aria2 ≥ 1.37; v1 and the v1 half of hybrid torrents (BEP 52 is not in its manual's list of what it supports)."""

    def command(self, what: str, folder: Path, complete: bool) -> list[str]:
        """As for a user who wants LSD and no DHT."""
        end = ["--seed-ratio=0.0", "--check-integrity=true"] if complete else ["--seed-time=0"]
        options = ["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=true", *end]
        return [
            aria2c(),
            *options,
            "--file-allocation=none",
            "--disk-cache=64M",
            "--summary-interval=0",
            f"--dir={folder}",
            what,
        ]


class BareLibtorrent(Program):
    """libtorrent with stock settings, without hali."""

    def command(self, what: str, folder: Path, complete: bool) -> list[str]:
        """One of the two verbs of `tests/fakes/bare_libtorrent.py`."""
        verb = "seed" if complete else "fetch"
        return [sys.executable, "-m", "tests.fakes.bare_libtorrent", verb, str(folder), what, "--stock-port"]

    def is_complete(self) -> bool:
        """It says so when it begins to seed."""
        return super().is_complete() and (not self._seeds or bool(self._log.read_text()))


class Served(ABC):
    """A client that runs as a daemon and is told its jobs over HTTP on its host's loopback."""

    PORT = 0

    def __init__(self, host: Host, home: Path, account: tuple[str, str] | None = None) -> None:
        """With `account` it asks for that user name and password."""
        self._host, self._home, self._account = host, home, account
        home.mkdir(parents=True)
        with (home / "log").open("wb") as log:
            self._process = host.popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(home), "PATH": "/usr/bin"},
            )
        until(self._answers, f"{type(self).__name__} answers")

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._home / "log").read_text()
        try:
            return self.request("/").status_code < 500
        except httpx.TransportError:
            return False

    def request(self, path: str, **options: Any) -> httpx.Response:
        """GET, or POST where there is something to send."""
        method = "POST" if options else "GET"
        with netns.inside(self._host.namespace):
            return httpx.request(method, f"http://127.0.0.1:{self.PORT}{path}", timeout=30.0, **options)

    def processes(self) -> list[psutil.Process]:
        """What runs."""
        return [psutil.Process(self._process.pid)]

    def stop(self) -> None:
        """End it."""
        self._process.kill()  # an orderly end takes Transmission ten seconds
        self._process.wait()


class Transmission(Served):
    """transmission-daemon; v1 torrents, and from 4.0 on hybrid ones too.

    3.00 takes the empty key, which every v2 file tree has, for the end of a dictionary, so it can read neither the
    .torrent nor the metadata of a hybrid torrent (transmission#1339; mended by #1964, first released in 4.0).
    """

    PORT = 9091
    _token = ""

    def command(self) -> list[str]:
        """LSD on, no DHT, no uTP; the rest as it comes."""
        off = ["--no-dht", "--no-utp", "--no-portmap", "--no-watch-dir"]
        user, password = self._account or ("", "")
        auth = ["--auth", "--username", user, "--password", password] if self._account else ["--no-auth"]
        return ["transmission-daemon", "--foreground", "--config-dir", str(self._home), "--lpd", *off, *auth]

    def rpc(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One call; Transmission wants the session id that it hands out with status 409."""
        body = {"method": method, "arguments": arguments}
        for _ in range(2):
            answer = self.request("/transmission/rpc", json=body, headers={"X-Transmission-Session-Id": self._token})
            if answer.status_code != 409:
                break
            self._token = answer.headers["X-Transmission-Session-Id"]
        found: dict[str, Any] = answer.raise_for_status().json()
        assert found["result"] == "success", found
        return dict(found["arguments"])

    def add(self, what: str | Path, folder: Path, *, complete: bool = False) -> None:
        """See `Client`."""
        source = (
            {"filename": what} if isinstance(what, str) else {"metainfo": base64.b64encode(what.read_bytes()).decode()}
        )
        self.rpc("torrent-add", **source, **{"download-dir": str(folder)})
        if complete:
            self.rpc("torrent-verify")

    def torrents(self) -> list[dict[str, Any]]:
        """All, with what tests look at."""
        fields = ["name", "hashString", "percentDone", "status", "errorString", "downloadDir", "recheckProgress"]
        found: list[dict[str, Any]] = self.rpc("torrent-get", fields=fields)["torrents"]
        return found

    def is_complete(self) -> bool:
        """Seeding means that the data was checked."""
        seeding = 6  # TR_STATUS_SEED
        found = self.torrents()
        assert not any(torrent["errorString"] for torrent in found), found
        return all(torrent["status"] == seeding and torrent["percentDone"] == 1 for torrent in found)


class QBittorrent(Served):
    """qbittorrent-nox 4.5 with its own libtorrent; v1, v2 and hybrid torrents."""

    PORT = 8080
    SEEDING = ("uploading", "stalledUP", "queuedUP", "forcedUP")
    CONFIG = """
[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=true
Session\\BTProtocol=TCP
Session\\QueueingSystemEnabled=false
[LegalNotice]
Accepted=true
[Network]
PortForwardingEnabled=false
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\LocalHostAuth={auth}
WebUI\\Username={user}
WebUI\\Password_PBKDF2="@ByteArray({password})"
"""

    def command(self) -> list[str]:
        """LSD on, no DHT, no uTP; the rest as it comes."""
        config = self._home / "qBittorrent" / "config" / "qBittorrent.conf"
        config.parent.mkdir(parents=True)
        user, password = self._account or ("admin", "")
        # As its own settings dialog would store it.
        key = hashlib.pbkdf2_hmac("sha512", password.encode(), _SALT, 100_000)
        stored = ":".join(base64.b64encode(part).decode() for part in (_SALT, key))
        config.write_text(self.CONFIG.format(auth=str(self._account is not None).lower(), user=user, password=stored))
        return ["qbittorrent-nox", f"--profile={self._home}", f"--webui-port={self.PORT}"]

    def add(self, what: str | Path, folder: Path, *, complete: bool = False) -> None:
        """See `Client`; a complete file is checked first."""
        body: dict[str, Any] = {"data": {"savepath": str(folder)}}
        if isinstance(what, str):
            body["data"]["urls"] = what
        else:
            body["files"] = {"torrents": (what.name, what.read_bytes())}
        assert self.request("/api/v2/torrents/add", **body).text == "Ok."

    def torrents(self) -> list[dict[str, Any]]:
        """All that it has."""
        found: list[dict[str, Any]] = json.loads(self.request("/api/v2/torrents/info").text)
        return found

    def is_complete(self) -> bool:
        """See `Client`; a torrent is listed a moment after it was added."""
        found = self.torrents()
        return bool(found) and all(torrent["state"] in self.SEEDING for torrent in found)


def reads_hybrid(kind: str) -> bool:
    """Whether the installed client can read a hybrid torrent at all."""
    if kind != "transmission":
        return True
    said = subprocess.run(["transmission-daemon", "--version"], capture_output=True, text=True, check=True)
    return int((said.stdout + said.stderr).split()[1].partition(".")[0]) >= 4


KINDS = {"transmission": Transmission, "qbittorrent": QBittorrent, "aria2": Aria2, "libtorrent": BareLibtorrent}


@contextmanager
def client(kind: str, host: Host, home: Path, **options: Any) -> Iterator[Client]:
    """The client called `kind`, for the length of a block; a skip, which says so, where it is not installed."""
    programs = {"transmission": "transmission-daemon", "qbittorrent": "qbittorrent-nox"}
    if kind in programs and shutil.which(programs[kind]) is None:
        pytest.skip(f"NO {programs[kind]}: interop with it was NOT tested")
    made = KINDS[kind](host, home, **options)
    try:
        yield made
    finally:
        made.stop()
