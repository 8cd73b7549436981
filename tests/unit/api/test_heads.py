"""The head of an answer goes out with what comes behind it, before anything else, and never stays."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from hali.api.heads import holding_heads

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """What a transport was told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")


def held() -> tuple[Wire, asyncio.Transport]:
    wire = Wire()
    return wire, holding_heads(cast(asyncio.Transport, wire), asyncio.get_running_loop())


async def test_head_and_body_are_one_write_and_a_second_answer_begins_anew() -> None:
    wire, transport = held()
    for body in (b"one", b"two"):
        transport.write(HEAD)
        transport.write(body)
    transport.write(b"more")
    assert wire.told == [HEAD + b"one", HEAD + b"two", b"more"]
    await asyncio.sleep(0)
    assert len(wire.told) == 3


async def test_a_head_alone_goes_out_at_the_end_of_the_turn_and_before_the_connection_closes() -> None:
    wire, transport = held()
    transport.write(HEAD)
    assert wire.told == []
    await asyncio.sleep(0)
    assert wire.told == [HEAD]
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert wire.told == [HEAD, HEAD, "close"]


async def test_a_body_that_looks_like_a_head_loses_nothing() -> None:
    wire, transport = held()
    for data in (HEAD, HEAD, HEAD, b""):
        transport.write(data)
    assert b"".join(data for data in wire.told if isinstance(data, bytes)) == HEAD * 3


async def test_an_aborted_connection_is_told_nothing_more() -> None:
    wire, transport = held()
    transport.write(HEAD)
    transport.abort()
    await asyncio.sleep(0)
    assert wire.told == ["abort"]
