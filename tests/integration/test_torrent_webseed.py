"""Web seeds (BEP 19): https by default, plain http only where the options say so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import libtorrent as lt
import msgspec
import pytest

from hali.model.units import KIB
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.session import FetchFailed, Finished, running
from tests.fakes.torrents import LOCAL, events_of, make

pytestmark = pytest.mark.anyio


class RangeServer:
    """Answers ranged GETs for one file, and counts them."""

    def __init__(self, content: bytes) -> None:
        self.content, self.requests, self.port = content, 0, 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, self.connection)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            yield f"http://127.0.0.1:{port}/model.gguf"
            group.cancel_scope.cancel()

    async def connection(self, stream: anyio.abc.SocketStream) -> None:
        head = b""
        async with stream:
            try:
                while True:
                    while b"\r\n\r\n" not in head:
                        head += await stream.receive()
                    request, _, head = head.partition(b"\r\n\r\n")
                    await stream.send(self.answer(request))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    def answer(self, request: bytes) -> bytes:
        self.requests += 1
        asked = re.search(rb"(?i)range: bytes=(\d+)-(\d+)", request)
        assert asked is not None
        first, last = int(asked[1]), int(asked[2])
        body = self.content[first : last + 1]
        size = f"Content-Range: bytes {first}-{last}/{len(self.content)}\r\nContent-Length: {len(body)}\r\n"
        return b"HTTP/1.1 206 Partial Content\r\n" + size.encode() + b"\r\n" + body


def with_web_seed(metainfo: Metainfo, url: str) -> Metainfo:
    torrent = lt.bdecode(metainfo.raw)
    assert isinstance(torrent, dict)
    return parse(bytes(lt.bencode({**torrent, b"url-list": url.encode()})))  # type: ignore[dict-item]


async def test_a_web_seed_is_enough_when_it_is_allowed(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 600 * KIB, 64 * KIB)
    server = RangeServer(sample.content)
    async with (
        server.serving() as url,
        running(msgspec.structs.replace(LOCAL, http_web_seeds=True)) as session,
        session.fetch(with_web_seed(sample.metainfo, url), tmp_path) as fetch,
    ):
        with anyio.fail_after(30):
            assert (await events_of(fetch))[-1] == Finished()

    assert (tmp_path / "model.gguf").read_bytes() == sample.content


async def test_plain_http_is_never_asked_by_default(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 600 * KIB, 64 * KIB)
    server = RangeServer(sample.content)
    async with (
        server.serving() as url,
        running(LOCAL) as session,
        session.fetch(with_web_seed(sample.metainfo, url), tmp_path, patience_s=1.5) as fetch,
    ):
        assert isinstance((await events_of(fetch))[-1], FetchFailed)

    assert server.requests == 0
