"""The listening socket of the API."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hali.api.binding import Bind, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_no_connection_holds_back_the_second_part_of_an_answer_until_the_first_is_acknowledged(host: str) -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        told.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    sock = listen(Bind(host, 0))
    async with await asyncio.start_server(accept, sock=sock) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        assert await told != 0
        writer.close()
        await writer.wait_closed()
