"""The registry's connections: who drips a request, does not read, or opens too many, is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import anyio
import pytest
import uvicorn

from hali.model.errors import ExitCode, HaliError
from hali.registry.bounds import Bounds
from hali.registry.http import protocol
from hali.registry.server import listen


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Quiet(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        pass


@asynccontextmanager
async def serving(bounds: Bounds) -> AsyncIterator[int]:
    kind = protocol(bounds)
    config = uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    sock = listen("127.0.0.1:0")
    server = await loop.create_server(lambda: kind(config, state, {}, loop), sock=sock)
    async with server:
        yield sock.getsockname()[1]
    assert not kind.open  # every connection was counted out


async def talk(port: int, *parts: bytes, wait: float = 0.0) -> bytes:
    """Send the parts with pauses; all that comes back until the other side closes."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        found = b""
        try:
            for part in parts:
                await stream.send(part)
                await anyio.sleep(wait)
            with anyio.fail_after(10):
                while True:
                    found += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return found


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_where_the_registry_cannot_listen_a_restart_does_not_help(host: str) -> None:
    with closing(listen("127.0.0.1:0")) as taken, pytest.raises(HaliError, match="cannot listen on") as caught:
        listen(f"{host}:{taken.getsockname()[1]}")
    assert caught.value.exit_code is ExitCode.CONFIG


async def test_an_ordinary_request_is_answered() -> None:
    async with serving(Bounds()) as port:
        assert (await talk(port, HEAD + b"{}")).endswith(b"ok")


@pytest.mark.parametrize("parts", [(b"",), (b"G",), (b"GET / HTTP/1.1\r\n", *[b"x: y\r\n"] * 20), (HEAD, b"{")])
async def test_a_request_that_is_not_complete_in_time_is_cut(parts: tuple[bytes, ...]) -> None:
    async with serving(Bounds(request_s=0.1)) as port:
        assert await talk(port, *parts, wait=0.02) == b""


async def test_the_deadline_holds_for_the_second_request_of_a_connection_too() -> None:
    first = HEAD.replace(b"connection: close\r\n", b"") + b"{}"
    async with serving(Bounds(request_s=0.1)) as port:
        assert (await talk(port, first, b"GET / HT", wait=0.05)).endswith(b"ok")


async def test_one_address_holds_so_many_connections_and_no_more() -> None:
    async with serving(Bounds(per_address=2)) as port:
        async with await anyio.connect_tcp("127.0.0.1", port), await anyio.connect_tcp("127.0.0.1", port):
            assert await talk(port, b"") == b""
        with anyio.fail_after(10):
            while not (await talk(port, HEAD + b"{}")).endswith(b"ok"):
                await anyio.sleep(0.01)
