"""The IPC: tokens, framing, errors, many requests a connection."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from hali.daemon import ipc
from hali.daemon.ipc import Emit, IpcServer, Params, field
from hali.model.errors import NotFound

TOKEN = "right"  # a test's token, not a secret


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, **request: Any) -> None:
        self.send(json.dumps({"token": TOKEN} | request).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        with anyio.fail_after(5):
            line = await self.reader.readline()
        assert line, "the server hung up"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def hung_up(self) -> bool:
        with anyio.fail_after(5):
            return await self.reader.read() == b""


async def echo(params: Params, emit: Emit) -> Params:
    return {"got": field(params, "text", str)}


async def count(params: Params, emit: Emit) -> Params:
    for n in range(3):
        await emit({"n": n})
    return {"end": True}


async def missing(params: Params, emit: Emit) -> Params:
    raise NotFound("no such thing", hint="look elsewhere")


async def broken(params: Params, emit: Emit) -> Params:
    raise ZeroDivisionError("a bug")


async def forever(params: Params, emit: Emit) -> Params:
    await anyio.sleep_forever()
    return {}


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    methods = {"echo": echo, "count": count, "missing": missing, "broken": broken, "forever": forever}
    server = IpcServer(methods, TOKEN)
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: server.run(task_status=task_status))
        assert server.address is not None
        reader, writer = await asyncio.open_connection(*server.address)
        yield Peer(reader, writer)
        writer.close()
        group.cancel_scope.cancel()


async def test_requests_are_answered_with_their_ids_even_while_others_take_long(peer: Peer) -> None:
    peer.ask(method="forever", id=1)
    peer.ask(method="echo", id="two", text="x")
    assert await peer.receive() == {"id": "two", "ok": True, "got": "x"}


async def test_events_come_before_the_result(peer: Peer) -> None:
    peer.ask(method="count", id=7)
    got = [await peer.receive() for _ in range(4)]
    assert [message.get("event") for message in got] == [{"n": 0}, {"n": 1}, {"n": 2}, None]
    assert got[-1] == {"id": 7, "ok": True, "end": True}


@pytest.mark.parametrize("token", [None, "", "wrong", 7, ["right"], "right "])
async def test_without_the_right_token_there_is_nothing_but_a_refusal(peer: Peer, token: object) -> None:
    peer.send(json.dumps({"method": "echo", "text": "secret", "token": token, "id": 1}).encode() + b"\n")
    answer = await peer.receive()
    assert answer["error"]["code"] == "refused"
    assert answer.keys() == {"id", "ok", "error"}
    assert await peer.hung_up()


@pytest.mark.parametrize("garbage", [b"\x00\xff\xfe", b"[]", b'"x"', b"{", b"GET / HTTP/1.1\r", b"[" * 5000])
async def test_garbage_gets_a_clear_error_and_the_connection_goes_on(peer: Peer, garbage: bytes) -> None:
    peer.send(garbage + b"\n")
    assert (await peer.receive())["error"]["code"] == "protocol"
    peer.ask(method="echo", id=1, text="still here")
    assert (await peer.receive())["got"] == "still here"


async def test_a_line_of_two_mebibytes_is_refused_and_the_connection_closed(peer: Peer) -> None:
    peer.send(b"x" * 2 * ipc.MAX_LINE + b"\n")
    assert "1048576 bytes" in (await peer.receive())["error"]["message"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"method": "nope"}, "unknown_method"),
        ({"method": 7}, "unknown_method"),
        ({}, "unknown_method"),
        ({"method": "echo"}, "usage"),
        ({"method": "echo", "text": 1}, "usage"),
        ({"method": "missing"}, "not_found"),
        ({"method": "broken"}, "internal"),
    ],
)
async def test_every_failure_has_its_code_and_the_server_lives_on(
    peer: Peer, request_: dict[str, Any], code: str
) -> None:
    peer.ask(id=1, **request_)
    assert (await peer.receive())["error"]["code"] == code
    peer.ask(method="echo", id=2, text="x")
    assert (await peer.receive())["ok"]


async def test_a_client_that_closes_its_side_after_asking_still_gets_its_answer(peer: Peer) -> None:
    peer.send(json.dumps({"method": "count", "token": TOKEN, "id": 1}).encode())  # no newline either
    peer.writer.write_eof()
    assert [(await peer.receive()).get("end") for _ in range(4)][-1]


async def test_who_says_nothing_is_hung_up_on(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "FIRST_LINE_S", 0.01)
    assert peer.writer.get_extra_info("peername") is not None
    reader, writer = await asyncio.open_connection(*peer.writer.get_extra_info("peername")[:2])
    with anyio.fail_after(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_is_reset_in_the_middle_of_a_line_harms_nobody_else(peer: Peer) -> None:
    address = peer.writer.get_extra_info("peername")[:2]
    for data in (b'{"meth', json.dumps({"method": "count", "token": TOKEN, "id": 1}).encode() + b"\n"):
        _, writer = await asyncio.open_connection(*address)
        writer.write(data)
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by RST
        writer.transport.abort()
    peer.ask(method="echo", id=1, text="still here")
    assert (await peer.receive())["got"] == "still here"
