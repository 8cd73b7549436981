"""P19: the API with many idle streams open answers GET /v1/models; beside it uvicorn's hello world with the same streams.

Timed is the processor time that the server takes for a batch of requests over kept connections, which also says how many
a second it can answer: both are one thread. The other core's business does not change it.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.api_servers import MODELS
from bench.versus import SHORT, versus_told

STREAMS = 100 if SHORT else 1000
BATCH = 1000 if SHORT else 4000  # requests: some tenths of a second, and the clock of the processor steps by 10 ms
LEAST = 200  # requests a second that hali must answer (performance.md), on a quiet machine
EACH = 250  # streams of one source address: below what the API lets one have
ASK = json.dumps({"model": MODELS[0].id, "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()


class Served:
    """A server in a process of its own, with idle streams, and one connection for requests."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        command = [sys.executable, "-m", "bench.macro.api_servers", kind]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        parts = urlsplit(process.stdout.readline().strip())
        self._at = (parts.hostname or "", parts.port or 0)
        self._process = psutil.Process(process.pid)
        host = f"Host: {self._at[0]}:{self._at[1]}\r\n"
        self._ask = f"GET /v1/models HTTP/1.1\r\n{host}\r\n".encode()
        self._stream = f"POST /v1/chat/completions HTTP/1.1\r\n{host}content-type: application/json\r\n"
        for number in range(STREAMS):
            stack.enter_context(self._idle(f"127.0.0.{2 + number // EACH}"))
        with socket.create_connection(self._at) as asking:
            self.answer = self._one(asking)

    def _idle(self, source: str) -> socket.socket:
        """A stream that has begun."""
        made = socket.create_connection(self._at, source_address=(source, 0))
        made.sendall(f"{self._stream}content-length: {len(ASK)}\r\n\r\n".encode() + ASK)
        got = b""
        while b"word" not in got:
            more = made.recv(65536)
            assert more, got
            got += more
        return made

    def _one(self, asking: socket.socket) -> bytes:
        """One request; its whole answer."""
        asking.sendall(self._ask)
        got = asking.recv(65536)
        while not _whole(got):
            more = asking.recv(65536)
            assert more, got
            got += more
        return got

    def batch(self) -> float:
        """Seconds of processor that a request took, over a batch."""
        before = sum(self._process.cpu_times()[:2])
        with socket.create_connection(self._at) as asking:
            for _ in range(BATCH):
                self._one(asking)
        return (sum(self._process.cpu_times()[:2]) - before) / BATCH


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(lengths[0].partition(b":")[2]) if lengths else body.endswith(b"0\r\n\r\n")


@contextmanager
def both() -> Iterator[dict[str, Served]]:
    """hali and hello, each with its streams open."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    try:
        with ExitStack() as stack:
            yield {kind: Served(kind, stack) for kind in ("hali", "hello")}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


@pytest.mark.blocking_ok
def test_models_beside_idle_streams(benchmark: BenchmarkFixture) -> None:
    with both() as servers:
        hali, hello = servers["hali"], servers["hello"]
        listed = json.loads(hali.answer.partition(b"\r\n\r\n")[2])
        assert [each["id"] for each in listed["data"]] == [model.id for model in MODELS]
        assert hello.answer.startswith(b"HTTP/1.1 200") and b"hello" in hello.answer
        case = f"GET /v1/models, {STREAMS} idle streams"
        versus_told(benchmark, "P19", case, hali.batch, {"uvicorn hello world": hello.batch})
        began = time.perf_counter()
        hali.batch()
        benchmark.extra_info.update(per_second=round(BATCH / (time.perf_counter() - began)), least_per_second=LEAST)
