"""The real HTTP server in a process of its own, under attack by thousands of slow clients (security.md, the fourth fact)."""

from __future__ import annotations

import http.client
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.api_process import MODEL_ID, SECRET
from tests.fakes.slow_clients import Kind, SlowClients

EVICTED_S = 15.0  # all are gone by then: the promise
GROWTH = 64 * 1024 * 1024  # bytes of resident memory at most, whatever the number of clients
ALL: tuple[Kind, ...] = ("headers", "body", "reader")
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {SECRET}"}  # has its own share of the queue
ASK = {"model": MODEL_ID, "messages": [{"role": "user", "content": "hi"}]}


class Api:
    """A server process. `state` is what it says is in hand."""

    def __init__(self, kind: str, limits: dict[str, Any] | None = None, model: Path = Path("/none")) -> None:
        command = [sys.executable, "-m", "tests.fakes.api_process", kind, json.dumps(limits or {}), str(model)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.of = psutil.Process(self.process.pid)

    def state(self) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    @property
    def rss(self) -> int:
        return int(self.of.memory_info().rss)

    def footprint(self) -> list[int]:
        """Descriptors of the server and of its workers."""
        return [each.num_fds() for each in (self.of, *self.of.children())]

    def memory(self) -> list[int]:
        """Resident bytes of the same."""
        return [each.memory_info().rss for each in (self.of, *self.of.children())]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)

    def ask(self) -> None:
        """One healthy request, which must be answered whole."""
        with closing(self.connect()) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(ASK), HEADERS)
            with connection.getresponse() as response:
                assert response.status == 200
                assert json.loads(response.read())["choices"][0]["finish_reason"] == "stop"


@contextmanager
def api(kind: str, limits: dict[str, Any] | None = None, model: Path = Path("/none")) -> Iterator[Api]:
    made = Api(kind, limits, model)
    try:
        yield made
        made.process.communicate(timeout=60)  # the end of its standard input
        assert made.process.returncode == 0
    finally:
        made.process.kill()
        made.process.communicate()


class Healthy(threading.Thread):
    """One request after the other until told to stop; `seconds` of each, and what went wrong."""

    def __init__(self, of: Api) -> None:
        super().__init__(name="healthy")
        self._of, self._enough = of, threading.Event()
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._enough.wait(0.02):
            began = time.monotonic()
            try:
                self._of.ask()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - began)

    def __enter__(self) -> Healthy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join()

    def told(self) -> str:
        ordered = sorted(self.seconds)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        return f"{len(ordered)} requests, median {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


def figure(name: str, value: object) -> None:
    """For the reader of `pytest -s`; nothing is asserted of times."""
    print(f"  {name}: {value}")


@pytest.fixture
def many_files() -> Iterator[int]:
    """The number of descriptors this process may have, which it may raise to the hard limit for as long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def attack(of: Api, count: int, kinds: tuple[Kind, ...]) -> tuple[SlowClients, int]:
    """Open them all, then drip until the promise is due; the clients, and the most memory that was seen."""
    peak = 0

    def look() -> None:
        nonlocal peak
        peak = max(peak, of.rss)

    def after_some() -> None:
        look()
        of.ask()  # it waits behind all who came before: so no more come than are accepted

    clients = SlowClients(of.address, count, kinds)
    began = time.monotonic()
    clients.open_all(after_some)
    figure("opened_s", round(time.monotonic() - began, 2))
    look()
    began = time.monotonic()
    clients.drive(EVICTED_S, look)
    figure("last_evicted_s", round(time.monotonic() - began, 2))
    return clients, peak


def withstands(count: int, kinds: tuple[Kind, ...], files: int) -> None:
    """See the tests."""
    needs(count, files)
    with api("guarded") as server:
        with Healthy(server) as quiet:
            while len(quiet.seconds) < 50:
                time.sleep(0.02)
        before, descriptors = server.rss, server.of.num_fds()
        with Healthy(server) as healthy:
            clients, peak = attack(server, count, kinds)
        left = len(clients.alive)
        clients.close()
        figure("quiet", quiet.told())
        figure("attacked", healthy.told())
        figure("grew_mb", round((peak - before) / 1e6, 1))
        assert not quiet.failures and not healthy.failures
        assert left == 0, server.state()
        assert peak - before <= GROWTH
        wait_for(lambda: server.of.num_fds() <= descriptors, "all descriptors are given back")
        state = server.state()
        assert (state["connections"], state["running"]) == (0, 0)


def needs(count: int, files: int) -> None:
    """A machine that does not allow so many descriptors cannot show it."""
    if files < count + 500:
        pytest.skip(f"NOT TESTED: {count} connections need {count + 500} descriptors, and the hard limit is {files}")


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.mark.alone  # a promise in seconds, for a machine that is not busy with something else
def test_a_thousand_slow_clients_of_three_kinds_are_evicted_and_harm_nobody(many_files: int) -> None:
    withstands(1000, ALL, many_files)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("kind", ALL)
def test_ten_thousand_slow_clients_are_evicted_and_harm_nobody(
    kind: Kind, many_files: int, record_property: Any
) -> None:
    withstands(10_000, (kind,), many_files)


def test_uvicorn_itself_evicts_none_of_them(many_files: int) -> None:
    """The control: without the defence the same attack leaves every connection where it is."""
    needs(300, many_files)
    with api("stock", {"router": {"queued": 1000, "queued_per_key": 1000}}) as server:
        clients, _ = attack(server, 300, ALL)
        assert clients.opened == 300 and len(clients.alive) == 300
        clients.close()
