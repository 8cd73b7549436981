"""The guarded protocol where sockets would hide what happens: small replies that nobody takes."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest
import uvicorn
from uvicorn.server import ServerState

from hali.api import ApiLimits
from hali.api.connections import Connections, Evictions
from hali.api.http import GuardedProtocol, protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class StuckTransport(asyncio.Transport):
    """Keeps what is written, as if the peer had stopped reading, far below the mark at which writing is paused."""

    def __init__(self) -> None:
        super().__init__({"peername": ["192.0.2.1", 5]})
        self.written = b""
        self.closing = self.aborted = False

    def write(self, data) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        """Nothing is ever paused here."""

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


async def app(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def connect(limits: ApiLimits, connections: Connections) -> tuple[GuardedProtocol, StuckTransport]:
    config = uvicorn.Config(app, http=protocol(limits, connections), ws="none", lifespan="off", log_config=None)
    made = protocol(limits, connections)(config, ServerState(), {}, asyncio.get_running_loop())
    transport = StuckTransport()
    made.connection_made(transport)
    return made, transport


async def test_a_small_reply_that_is_not_taken_is_dropped_with_its_connection():
    connections = Connections(ApiLimits())
    made, transport = connect(ApiLimits(write_s=0.05), connections)
    made.data_received(REQUEST)
    with anyio.fail_after(5):
        while not transport.aborted:
            await anyio.sleep(0.005)
    assert transport.written.endswith(b"ok")
    made.connection_lost(None)
    assert len(connections) == 0


async def test_the_loss_of_a_connection_stops_its_timers():
    connections = Connections(ApiLimits())
    made, transport = connect(ApiLimits(header_s=0.02, write_s=0.02), connections)
    made.data_received(b"GET / HT")
    made.connection_lost(None)
    await anyio.sleep(0.1)  # five times the deadline: the timer would have fired
    assert not transport.aborted


def test_slots_are_counted_by_address_and_in_all():
    limits = ApiLimits(connections=5, per_address=2, per_loopback=3, reserved=1)
    counted = Connections(limits)
    assert [counted.enter("192.0.2.1") for _ in range(4)] == ["open", "open", "reserved", "none"]
    assert [counted.enter("127.0.0.1") for _ in range(4)] == ["open", "open", "reserved", "none"]
    assert counted.enter("192.0.2.2") == "none"
    counted.leave(None, "192.0.2.1")
    assert counted.enter("192.0.2.2") == "reserved"
    for address in ["192.0.2.1"] * 2 + ["127.0.0.1"] * 3 + ["192.0.2.2"]:
        counted.leave(None, address)
    assert len(counted) == 0 and not counted._of


def chunked(path: str) -> bytes:
    """A request whose body is no chunked one."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"no size of a chunk\r\n"


@pytest.mark.parametrize(
    ("sent", "shape"),
    [
        (chunked("/api/chat"), {"error"}),
        (chunked("/v1/messages"), {"type", "error"}),
        (chunked("/mcp"), {"jsonrpc", "id", "error"}),
        (b"nonsense\r\n\r\n", {"error"}),
    ],
)
async def test_bytes_that_are_no_http_are_refused_in_the_words_of_the_path_where_there_is_one(sent, shape):
    made, transport = connect(ApiLimits(), Connections(ApiLimits()))
    made.data_received(sent)
    with anyio.fail_after(5):
        while b"400 Bad Request" not in transport.written:
            await anyio.sleep(0.005)
    body = transport.written.partition(b"400 Bad Request")[2].partition(b"\r\n\r\n")[2]
    assert set(json.loads(body)) == shape
    made.connection_lost(None)


def test_who_owes_longest_gives_way_at_the_cap_of_its_address_or_of_all():
    counted: Connections[str] = Connections(ApiLimits(connections=3, per_address=2, reserved=1))
    for name, address in (("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.2")):
        assert counted.gives_way(address) is None
        assert counted.enter(address) == "open"
        counted.owes(name, address)
    assert counted.gives_way("192.0.2.3") == "a"
    assert counted.gives_way("192.0.2.2") == "b"
    counted.owes_nothing("a")
    counted.owes("b", "192.0.2.2")  # it owes something else now, and later than c
    assert counted.gives_way("192.0.2.3") == "c"
    for name in ("b", "c"):
        counted.owes_nothing(name)
    assert counted.gives_way("192.0.2.3") is None


def test_evictions_are_logged_at_once_and_then_now_and_then_in_sum():
    counted = Evictions()
    assert counted.add("slow headers", 0.0) == {"slow headers": 1}
    assert [counted.add("slow headers", at) for at in (0.1, 9.0)] == [None, None]
    assert counted.add("slow body", 10.5) == {"slow headers": 2, "slow body": 1}
