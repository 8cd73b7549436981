"""A hub that is 50 ms away and gives each connection so much and no more: the fake hub and its CDN behind proxies that delay and pace.

A program of its own, so that it shares no interpreter with those who are measured: python -m bench.macro.far_hub REPO FILE
RTT_MS BYTES_PER_S prints the address for HF_ENDPOINT and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fakes.hf_server import FakeHub

CHUNK = 16 * 1024
QUEUED = 256  # chunks under way in one direction: 4 MiB, more than 50 ms of any rate that is asked for
ROOT = Path(__file__).resolve().parents[2]


class FarProxy:
    """Each byte takes half of `rtt_s` each way, a new connection one `rtt_s`; a connection brings `rate` bytes a second."""

    def __init__(self, upstream: int, rtt_s: float, rate: float) -> None:
        self._upstream, self._half, self._rate = upstream, rtt_s / 2, rate

    async def start(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=CHUNK)
        return int(server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._half)  # the handshake
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream, limit=CHUNK)
        await asyncio.gather(
            self._carry(reader, up_writer, None), self._carry(up_reader, writer, self._rate), return_exceptions=True
        )

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float | None) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        loop, free = asyncio.get_running_loop(), 0.0
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                free = max(free, loop.time()) + (len(data) / rate if rate else 0.0)
                await under_way.put((free + self._half, data))
        await under_way.put((0.0, b""))
        await arriving

    @staticmethod
    async def _arrive(under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        gone = False
        while (found := await under_way.get())[1]:
            await asyncio.sleep(max(0.0, found[0] - loop.time()))
            try:
                if not gone:
                    writer.write(found[1])
                    await writer.drain()
            except OSError:
                gone = True  # what still comes has nowhere to go
        writer.close()


async def _serve(repo: str, file: Path, rtt_s: float, rate: float) -> None:
    with FakeHub() as hub:
        hub.add(repo, {file.name: file})
        ports = [int(url.rpartition(":")[2]) for url in (hub.url, hub.cdn_url)]
        near, cdn = [await FarProxy(port, rtt_s, rate).start() for port in ports]
        hub.cdn_name = f"http://127.0.0.1:{cdn}"
        print(f"http://127.0.0.1:{near}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def far_hub(repo: str, file: Path, *, rtt_ms: float, rate: float) -> Iterator[str]:
    """Such a hub for the length of a block; the address for HF_ENDPOINT."""
    command = [sys.executable, "-m", "bench.macro.far_hub", repo, str(file), str(rtt_ms), str(rate)]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert program.stdin is not None and program.stdout is not None
    try:
        yield program.stdout.readline().strip()
    finally:
        program.stdin.close()
        program.wait(30)
        program.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) / 1000, float(sys.argv[4])))
