"""The HTTP server on real sockets: deadlines, caps, ports, keys, draining. Tokens come from a double."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest

from hali.api import ApiDeps, ApiKey, ApiLimits, ApiServer, Bind
from hali.api import server as api_server
from hali.api.binding import DEFAULT_PORT
from hali.model.errors import ConfigError, NotFound, PortInUse, UsageError
from hali.model.generation import Chunk, Done, Embeddings, GenerationEvent, Usage
from hali.pipeline import RouterStats, ServedModel
from tests.waiting import until

MODEL = ServedModel("tiny:1m:base:q4_0", "ab" * 32, Path("/models/tiny.gguf"), 1_700_000_000, 1000)
DONE = Done("stop", Usage(prompt_tokens=7, completion_tokens=2, ttft_s=0.1, total_s=0.2))
ASK = {"model": MODEL.id, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
QUICK = ApiLimits(header_s=1, body_s=1, write_s=1, drain_s=0.3, keep_alive_s=1)  # one loop runs server and client
PATIENCE_S = 10  # for what should take well under a second


class OneModel:
    """The catalogue."""

    def list(self) -> list[ServedModel]:
        return [MODEL]

    def find(self, name: str) -> ServedModel:
        if name != MODEL.id:
            raise NotFound(f"no model {name}")
        return MODEL


class ScriptedRouter:
    """Each generation: `chunks`, then it waits for `hold` if there is one, then Done."""

    def __init__(self) -> None:
        self.chunks = [Chunk("Hel", 1), Chunk("lo", 1)]
        self.hold: anyio.Event | None = None
        self.running = 0

    async def generate(
        self, model, request, *, key=None, deadline=None, weight=1.0
    ) -> AsyncGenerator[GenerationEvent, None]:
        self.running += 1
        try:
            for chunk in self.chunks:
                await anyio.lowlevel.checkpoint()
                yield chunk
            if self.hold is not None:
                await self.hold.wait()
            yield DONE
        finally:
            self.running -= 1

    def stats(self) -> RouterStats:
        return RouterStats(True, self.running, 0, 0, 0, 0, 0)


@pytest.fixture
def router() -> ScriptedRouter:
    return ScriptedRouter()


@pytest.fixture
def deps(router) -> ApiDeps:
    return ApiDeps(catalog=OneModel(), router=router, limits=QUICK)


@asynccontextmanager
async def serving(deps: ApiDeps, bind: Bind | None = None) -> AsyncIterator[ApiServer]:
    server = ApiServer(deps, bind or Bind(port=0))
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: server.run(task_status=task_status))
        yield server
        group.cancel_scope.cancel()
    assert server.address is None
    assert len(server.connections) == 0


@asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[anyio.abc.SocketStream]:
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        yield stream


async def read_to_end(stream: anyio.abc.SocketStream) -> bytes:
    """Everything until the server closes; a reset counts as closed."""
    received = b""
    with anyio.fail_after(PATIENCE_S):
        try:
            while True:
                received += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return received


def head(server: ApiServer, method: str, path: str, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.address.removeprefix('http://')}", *more, "", ""]
    return "\r\n".join(lines).encode()


def chat_request(server: ApiServer, body: bytes = json.dumps(ASK).encode()) -> bytes:
    more = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return head(server, "POST", CHAT, *more) + body


async def drip(stream: anyio.abc.SocketStream, data: bytes) -> None:
    """Send one byte every 20 ms until the server has had enough."""
    try:
        for n in range(len(data)):
            await stream.send(data[n : n + 1])
            await anyio.sleep(0.02)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


# --- slow clients


@pytest.mark.parametrize("first", [b"", b"GET / HT"])
async def test_a_connection_that_does_not_finish_its_headers_is_evicted(deps, first):
    async with serving(deps) as server, connected(server) as stream:
        if first:
            await stream.send(first)
        assert await read_to_end(stream) == b""
        await until(lambda: len(server.connections) == 0)


async def test_dripping_headers_do_not_move_the_deadline(deps):
    async with serving(deps) as server, connected(server) as stream, anyio.create_task_group() as group:
        group.start_soon(drip, stream, head(server, "GET", "/health", "X-Drip: " + "x" * 10_000))
        assert await read_to_end(stream) == b""
        group.cancel_scope.cancel()


async def test_dripping_the_headers_of_a_second_request_is_evicted_too(deps):
    async with serving(deps) as server, connected(server) as stream, anyio.create_task_group() as group:
        await stream.send(head(server, "GET", "/health"))
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        group.start_soon(drip, stream, head(server, "GET", "/health", "X-Drip: " + "x" * 10_000))
        assert b"200" not in await read_to_end(stream)
        group.cancel_scope.cancel()


async def test_a_dripping_body_is_evicted(deps, router):
    async with serving(deps) as server, connected(server) as stream, anyio.create_task_group() as group:
        await stream.send(head(server, "POST", CHAT, "Content-Type: application/json", "Content-Length: 100000"))
        group.start_soon(drip, stream, b" " * 100_000)
        assert await read_to_end(stream) == b""
        group.cancel_scope.cancel()
        assert router.running == 0


async def test_a_refused_request_cannot_drip_its_body_either(deps):
    async with serving(deps) as server, connected(server) as stream, anyio.create_task_group() as group:
        await stream.send(head(server, "POST", CHAT, "Content-Type: text/plain", "Content-Length: 100000"))
        assert (await stream.receive()).startswith(b"HTTP/1.1 415")
        group.start_soon(drip, stream, b" " * 100_000)
        await read_to_end(stream)
        group.cancel_scope.cancel()


async def test_a_client_that_does_not_read_is_evicted_and_its_generation_ends(deps, router):
    router.chunks = [Chunk("x" * 65536, 1)] * 1000  # far more than the sockets buffer
    async with serving(deps) as server, connected(server) as stream:
        body = json.dumps({**ASK, "stream": True}).encode()
        await stream.send(
            head(server, "POST", CHAT, "Content-Type: application/json", f"Content-Length: {len(body)}") + body
        )
        await until(lambda: router.running == 1)
        await until(lambda: router.running == 0)
        await until(lambda: len(server.connections) == 0)


async def test_a_reply_that_is_done_but_not_taken_does_not_keep_the_connection(deps, router):
    router.chunks = [Chunk("x" * 65536, 1)] * 200
    async with serving(deps) as server, connected(server) as stream:
        body = json.dumps(ASK).encode()
        more = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
        await stream.send(head(server, "POST", CHAT, *more) + body)
        await until(lambda: len(server.connections) == 0)


async def test_a_slow_engine_is_not_a_slow_client(deps, router):
    """All client deadlines pass while the reply is made; the connection stays."""
    router.hold = anyio.Event()
    async with serving(deps) as server, httpx.AsyncClient(base_url=server.address) as client:
        async with client.stream("POST", CHAT, json={**ASK, "stream": True}) as response:
            lines = response.aiter_lines()
            assert "role" in await anext(lines)
            await anyio.sleep(2 * QUICK.header_s)  # not synchronisation: the time itself is what is tested
            router.hold.set()
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"


# --- many clients


async def test_when_all_are_being_served_only_control_routes_are_and_above_the_reserve_nothing(deps, router):
    router.hold = anyio.Event()
    limits = ApiLimits(per_loopback=2, reserved=1, header_s=60)
    async with (
        serving(dataclasses.replace(deps, limits=limits)) as server,
        connected(server) as one,
        connected(server) as two,
    ):
        for stream in (one, two):
            await stream.send(chat_request(server))
        await until(lambda: router.running == 2)
        async with connected(server) as third:
            await third.send(head(server, "GET", "/health"))
            assert (await third.receive()).startswith(b"HTTP/1.1 200")
            await third.send(head(server, "GET", "/v1/models/" + MODEL.id))
            refused = await third.receive()
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in refused
        router.hold.set()
        assert (await one.receive()).startswith(b"HTTP/1.1 200")


async def test_a_newcomer_takes_the_place_of_who_keeps_us_waiting_longest(deps, router):
    router.hold = anyio.Event()
    limits = ApiLimits(per_loopback=3, reserved=1, header_s=60)
    limited = dataclasses.replace(deps, limits=limits)
    async with (
        serving(limited) as server,
        connected(server) as served,
        connected(server) as idle,
        connected(server) as later,
    ):
        await served.send(chat_request(server))
        await until(lambda: router.running == 1 and len(server.connections) == 3)
        await later.send(b"GET / HT")
        async with connected(server) as newcomer:
            assert await read_to_end(idle) == b""
            await newcomer.send(head(server, "GET", "/v1/models/" + MODEL.id))
            assert (await newcomer.receive()).startswith(b"HTTP/1.1 200")
            router.hold.set()
            assert (await served.receive()).startswith(b"HTTP/1.1 200")
            await later.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            assert (await later.receive()).startswith(b"HTTP/1.1 403")


async def test_replies_that_nobody_reads_hold_a_bounded_amount_of_memory(deps, router):
    router.chunks = [Chunk("x" * 1_000_000, 1)]
    limits = ApiLimits(unread_bytes=1_500_000, write_s=60)
    async with (
        serving(dataclasses.replace(deps, limits=limits)) as server,
        connected(server) as first,
        connected(server) as second,
    ):
        await first.send(chat_request(server))
        await until(lambda: server.connections.unread > 0)
        await second.send(chat_request(server))
        await until(lambda: len(server.connections) == 1)  # the first had to go
        assert server.connections.unread < limits.unread_bytes
        assert len(await second.receive()) > 0


async def test_an_answer_larger_than_all_may_have_unread_is_taken_whole(deps, router):
    async def ask(*_, **__):
        return Embeddings((struct.pack("<384f", *[0.123456789] * 384),) * 2048, 2048)

    router.ask = ask
    small = dataclasses.replace(deps, limits=ApiLimits(unread_bytes=1024 * 1024))
    async with serving(small) as server, httpx.AsyncClient(base_url=server.address, timeout=30) as client:
        reply = await client.post("/api/embed", json={"model": "tiny:1m:base:q4_0", "input": ["a"] * 2048})
        assert len(reply.json()["embeddings"]) == 2048 and len(reply.content) > 8 * 1024 * 1024


async def test_a_body_that_comes_in_earnest_has_more_time_than_one_that_drips(deps):
    limits = ApiLimits(body_s=1, body_rate=1000)
    async with serving(dataclasses.replace(deps, limits=limits)) as server, connected(server) as stream:
        whole = json.dumps({**ASK, "user": "x" * 4000}).encode()
        await stream.send(chat_request(server, whole)[: -len(whole)])
        for at in range(0, len(whole), 500):
            await stream.send(whole[at : at + 500])
            await anyio.sleep(0.2)  # not synchronisation: nearly twice the 1 s in all, at twice the rate
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")


async def test_two_hundred_dripping_connections_do_not_keep_a_healthy_one_out(deps):
    async with serving(deps) as server, anyio.create_task_group() as group:

        async def attack() -> None:
            async with connected(server) as stream:
                await drip(stream, head(server, "GET", "/health", "X-Drip: " + "x" * 10_000))

        for _ in range(200):
            group.start_soon(attack)
        await until(lambda: len(server.connections) >= 150)
        async with httpx.AsyncClient(base_url=server.address) as client:
            assert (await client.post(CHAT, json=ASK)).status_code == 200
        await until(lambda: len(server.connections) <= 1)
        group.cancel_scope.cancel()


# --- bytes that are not HTTP, and HTTP that is odd


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 300,
        b'{"method":"status"}\n\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http_get_a_400_with_all_headers(deps, junk):
    async with serving(deps) as server, connected(server) as stream:
        await stream.send(junk)
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"x-content-type-options: nosniff" in answer
        assert b"access-control" not in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


async def test_an_absolute_target_of_another_host_is_not_served(deps):
    async with serving(deps) as server, connected(server) as stream:
        await stream.send(head(server, "GET", "http://evil.example/v1/models", "Connection: close"))
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("path", ["/v1/models?x=1", "/health", "", "?x=1"])
async def test_an_absolute_target_of_our_own_is_its_path(deps, path):
    async with serving(deps) as server, connected(server) as stream:
        await stream.send(head(server, "GET", f"{server.address}{path}", "Connection: close"))
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200 ")


async def test_a_foreign_host_is_refused_by_the_real_server(deps):
    async with serving(deps) as server, httpx.AsyncClient(base_url=server.address) as client:
        port = server.address.rpartition(":")[2]
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/health", headers={"host": f"localhost:{port}"})).status_code == 200
        assert (await client.get("/health", headers={"host": f"evil.example:{port}"})).status_code == 403


async def test_a_declared_size_over_the_limit_is_refused_before_the_body_is_sent(deps):
    async with serving(deps) as server, connected(server) as stream:
        await stream.send(head(server, "POST", CHAT, "Content-Type: application/json", "Content-Length: 9000000"))
        assert (await stream.receive()).startswith(b"HTTP/1.1 413")


async def test_a_large_body_gets_its_413_and_the_connection_can_be_used_again(deps):
    limits = ApiLimits(body_bytes=100_000)
    limited = dataclasses.replace(deps, limits=limits)
    async with serving(limited) as server, httpx.AsyncClient(base_url=server.address) as client:
        reply = await client.post(CHAT, content=b" " * 5_000_000, headers={"content-type": "application/json"})
        assert reply.status_code == 413
        assert (await client.post(CHAT, json=ASK)).status_code == 200


# --- ports and addresses


@asynccontextmanager
async def taken(port: int) -> AsyncIterator[int]:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            pass  # somebody else has it: just as good
        yield sock.getsockname()[1] or port


async def test_the_next_free_port_is_used_when_the_default_is_taken(deps):
    async with taken(DEFAULT_PORT), serving(deps, Bind()) as server:
        assert int(server.address.rpartition(":")[2]) > DEFAULT_PORT


async def test_a_chosen_port_that_is_taken_is_an_error(deps):
    async with taken(0) as port:
        with pytest.raises(PortInUse, match=str(port)):
            await ApiServer(deps, Bind(port=port)).run()


async def test_two_servers_live_side_by_side(deps):
    async with serving(deps, Bind()) as one, serving(dataclasses.replace(deps), Bind()) as two:
        assert one.address != two.address
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{one.address}/health")).status_code == 200
            assert (await client.get(f"{two.address}/health")).status_code == 200


async def test_the_port_is_free_again_after_the_end(deps):
    async with serving(deps) as server:
        port = int(server.address.rpartition(":")[2])
        async with httpx.AsyncClient(base_url=server.address) as client:
            await client.get("/health")
    async with serving(dataclasses.replace(deps), Bind(port=port)):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
async def test_without_a_key_nothing_but_loopback_is_listened_on(deps, host):
    with pytest.raises(ConfigError, match="requires a key"):
        await ApiServer(deps, Bind(host, 0)).run()


@pytest.mark.parametrize(
    ("host", "error"), [("example.com", UsageError), ("192.0.2.1", ConfigError), ("not an address", UsageError)]
)
async def test_a_name_or_an_address_that_is_not_ours_is_not_listened_on(deps, host, error):
    keys = (ApiKey("me", "sk-secret"),)
    with pytest.raises(error, match=host):
        await ApiServer(dataclasses.replace(deps, keys=keys), Bind(host, 0)).run()


async def test_a_wildcard_address_asks_for_the_key_on_loopback_too(deps):
    keyed = dataclasses.replace(deps, keys=(ApiKey("me", "sk-secret"),))
    async with serving(keyed, Bind("0.0.0.0", 0)) as server, httpx.AsyncClient(base_url=server.address) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers={"authorization": "Bearer sk-secret"})).status_code == 200


async def test_ipv6_loopback_works(deps):
    async with serving(deps, Bind("::1", 0)) as server, httpx.AsyncClient(base_url=server.address) as client:
        assert server.address.startswith("http://[::1]:")
        assert (await client.get("/health")).status_code == 200


# --- the end


async def read_stream(address: str, lines: list[str]) -> None:
    """Ask for a streamed reply and keep its lines."""
    async with (
        httpx.AsyncClient(base_url=address) as client,
        client.stream("POST", CHAT, json={**ASK, "stream": True}) as response,
    ):
        lines.extend([line async for line in response.aiter_lines() if line])


async def test_open_replies_are_drained(deps, router):
    router.hold = anyio.Event()
    limits = ApiLimits(drain_s=PATIENCE_S)
    lines: list[str] = []
    async with anyio.create_task_group() as clients:
        server = ApiServer(dataclasses.replace(deps, limits=limits), Bind(port=0))
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: server.run(task_status=task_status))
            clients.start_soon(read_stream, server.address, lines)
            await until(lambda: router.running == 1)
            group.cancel_scope.cancel()
            clients.start_soon(_later, router.hold)
    assert lines[-1] == "data: [DONE]"


async def _later(event: anyio.Event) -> None:
    await anyio.sleep(0.2)  # the server is told to stop before the reply ends; either order must be whole
    event.set()


async def test_replies_that_take_too_long_end_with_an_error_event(deps, router):
    router.hold = anyio.Event()
    lines: list[str] = []
    async with anyio.create_task_group() as clients, serving(deps) as server:
        clients.start_soon(read_stream, server.address, lines)
        await until(lambda: router.running == 1)
    assert "stopping" in json.loads(lines[-1].removeprefix("data: "))["error"]["message"]
    assert router.running == 0


async def test_a_client_that_hangs_does_not_hold_up_the_end(deps, router, caplog):
    router.chunks = [Chunk("x" * 65536, 1)] * 1000
    limits = ApiLimits(drain_s=0.2, write_s=60)
    async with AsyncExitStack() as outlives_the_server:
        with anyio.fail_after(PATIENCE_S):
            async with serving(dataclasses.replace(deps, limits=limits)) as server:
                stream = await outlives_the_server.enter_async_context(connected(server))
                body = json.dumps({**ASK, "stream": True}).encode()
                more = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
                await stream.send(head(server, "POST", CHAT, *more) + body)
                await until(lambda: router.running == 1)
    assert "timeout graceful shutdown exceeded" not in caplog.text  # uvicorn had no task left to cancel


async def test_a_client_that_leaves_ends_its_generation(deps, router):
    router.hold = anyio.Event()
    async with serving(deps) as server:
        async with (
            httpx.AsyncClient(base_url=server.address) as client,
            client.stream("POST", CHAT, json={**ASK, "stream": True}) as response,
        ):
            await anext(response.aiter_lines())
            assert router.running == 1
        await until(lambda: router.running == 0)


async def test_a_server_that_sleeps_ends_at_once_when_it_shall(deps, monkeypatch):
    monkeypatch.setattr(api_server, "DATE_S", 3 * PATIENCE_S)
    with anyio.fail_after(PATIENCE_S):
        async with serving(deps) as served, httpx.AsyncClient(base_url=served.address) as client:
            assert (await client.get("/health")).status_code == 200
