"""The dashboard's WebSocket on the real server: who gets in, who is thrown out, what each is told. Bare sockets, as no browser would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from hali.api import ApiDeps, ApiKey, ApiLimits, ApiServer, Bind, gate
from hali.api.dashboard_base import Sample, Seats
from hali.api.dashboard_tickets import VALID_S, Tickets
from hali.api.replies import OpenReplies
from tests.fakes.dashboards import MemoryDashboard
from tests.fakes.raw_websocket import CLOSE, HANDSHAKE, PATIENCE_S, PING, PONG, TEXT, RawWebSocket, masked, ticket_of

SECRET = "sk-ann"
JSON, FORM = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
USUAL = ApiLimits(drain_s=5)
# A WebSocket must not fall under the deadlines of requests; a loaded machine needs some of them for a handshake.
QUICK = ApiLimits(header_s=1, body_s=1, write_s=1, keep_alive_s=1, drain_s=5)
BLOCKED = 40  # turns of the server's loop in which it takes nothing
MOST = (
    16 * 1024 * 1024
)  # bytes that are taken at most from a client which does not read; the kernel's buffers have their part


class Clock:
    """Seconds that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A server in a thread of its own, and what it shows."""

    def __init__(self, portal: BlockingPortal, server: ApiServer, deps: ApiDeps) -> None:
        self._portal, self.server, self.deps = portal, server, deps
        self.dashboard = cast(MemoryDashboard, deps.dashboard)
        self.address = server.address or ""
        self.host = self.address.removeprefix("http://")

    def do(self, what: Callable[..., Any], *args: Any) -> Any:
        """Call `what` in the server's event loop."""
        return self._portal.call(what, *args)

    def tell(self, count: int, text: str = "hali is stopping") -> None:
        def all_of_them() -> None:
            for _ in range(count):
                self.dashboard.activity.tell("daemon.stopping", text)

        self.do(all_of_them)

    @contextmanager
    def looking(self, **headers: str) -> Iterator[RawWebSocket]:
        with RawWebSocket(self.address) as client:
            assert client.shake_hands(ticket_of(self.address, **headers)) == 101
            yield client

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.do(true):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@contextmanager
def serving(**changes: Any) -> Iterator[Served]:
    fields = {"catalog": None, "router": None, "limits": USUAL, "dashboard": MemoryDashboard(), **changes}
    deps = ApiDeps(**fields)
    server = ApiServer(deps, Bind(port=0))
    with start_blocking_portal() as portal:
        future, _ = portal.start_task(_run, server)
        yield Served(portal, server, deps)
        future.cancel()
    assert len(server.connections) == 0


async def _run(server: ApiServer, *, task_status: Any) -> None:
    await server.run(task_status=task_status)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """For who is refused: nothing comes of that."""
    with serving() as found:
        yield found


@pytest.fixture
def fresh() -> Iterator[Served]:
    """Where something is told."""
    with serving() as found:
        yield found


def kinds(client: RawWebSocket, count: int) -> list[str]:
    told = client.told()
    return [frame["name"] if (frame := next(told))["t"] == "part" else frame["t"] for _ in range(count)]


# ---- who gets in

FOREIGN = {
    "a foreign origin": ("Host: {own}", "Origin: http://evil.example"),
    "another port's origin": ("Host: {own}", "Origin: http://127.0.0.1:3000"),
    "an origin that begins like ours": ("Host: {own}", "Origin: http://{own}.evil.example"),
    "the origin of a sandboxed frame": ("Host: {own}", "Origin: null"),
    "no origin": ("Host: {own}",),
    "two origins": ("Host: {own}", "Origin: http://{own}", "Origin: http://evil.example"),
    "ours twice": ("Host: {own}", "Origin: http://{own}", "Origin: http://{own}"),
    "a forged host": ("Host: evil.example", "Origin: http://{own}"),
    "a rebound name": ("Host: rebind.evil.example:{port}", "Origin: http://rebind.evil.example:{port}"),
    "a rebound name as host only": ("Host: localtest.me:{port}", "Origin: http://{own}"),
    "another site, by fetch metadata": ("Host: {own}", "Origin: http://{own}", "Sec-Fetch-Site: cross-site"),
}


REFUSED = (400, 403)  # what the WebSocket library refuses by itself is 400


def written(headers: tuple[str, ...], served: Served) -> list[str]:
    return [header.format(own=served.host, port=served.host.rpartition(":")[2]) for header in headers]


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_a_handshake_that_is_not_our_page_s_is_refused_and_costs_no_ticket(
    served: Served, headers: tuple[str, ...]
) -> None:
    ticket = ticket_of(served.address)
    with RawWebSocket(served.address) as client:
        assert client.shake_hands(ticket, written(headers, served)) in REFUSED
    assert served.dashboard.viewers == 0
    with RawWebSocket(served.address) as client:
        assert client.shake_hands(ticket) == 101


@pytest.mark.parametrize("ticket", [None, "", "x", "A" * 43, "%00", "A" * 20_000])
def test_no_ticket_and_one_that_was_never_given_open_nothing(served: Served, ticket: str | None) -> None:
    with RawWebSocket(served.address) as client:
        assert client.shake_hands(ticket) in REFUSED
    assert served.dashboard.viewers == 0


def test_what_is_no_handshake_is_refused_and_keeps_no_place(served: Served) -> None:
    """h11 reads these heads, the WebSocket library does not, or not as a handshake."""
    many = [f"X-{number}: 1" for number in range(500)]
    for more in (["Content-Length: 5"], ["Transfer-Encoding: chunked"], many, ["X: " + "y" * 20_000]):
        with RawWebSocket(served.address) as client:
            own = [f"Host: {served.host}", f"Origin: http://{served.host}", *more]
            assert client.shake_hands(ticket_of(served.address), own) == 400
            served.until(lambda: len(served.server.connections) == 0)


def test_a_ticket_is_used_up_by_the_first_who_shows_it(served: Served) -> None:
    ticket = ticket_of(served.address)
    for status in (101, 403, 403):
        with RawWebSocket(served.address) as client:
            assert client.shake_hands(ticket) == status


def test_a_ticket_that_is_too_old_opens_nothing() -> None:
    clock = Clock()
    with serving(tickets=Tickets(clock=clock)) as served:
        ticket = ticket_of(served.address)
        clock.now += VALID_S
        with RawWebSocket(served.address) as client:
            assert client.shake_hands(ticket) == 403


REQUESTS = {
    "page": ("GET", "/", ("Accept: text/html",)),
    "file": ("GET", "/assets/index.html", ()),
    "ticket": ("POST", "/dashboard/ticket", (JSON, "Content-Length: 2")),
    "button": ("POST", "/dashboard/call/pause", (JSON, "Content-Length: 2")),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("headers", [h for h in FOREIGN.values() if len(h) == 2], ids=lambda h: " ".join(h))
def test_no_other_site_gets_the_page_a_ticket_or_a_button(
    served: Served, request_: tuple[str, str, tuple[str, ...]], headers: tuple[str, ...]
) -> None:
    method, path, more = request_
    with RawWebSocket(served.address) as client:
        assert client.ask(path, [*written(headers, served), *more], method, "{}" if method == "POST" else "") == 403
    assert served.dashboard.called == []


@pytest.mark.parametrize("kind", [FORM, "Content-Type: text/plain", "Accept: */*"])
@pytest.mark.parametrize("path", ["/dashboard/ticket", "/dashboard/call/rm"])
def test_a_cross_site_form_is_refused_also_where_the_browser_sends_no_origin(
    served: Served, path: str, kind: str
) -> None:
    with RawWebSocket(served.address) as client:
        headers = [f"Host: {served.host}", kind, "Content-Length: 2"]
        assert client.ask(path, headers, "POST", "{}") == 415
    assert served.dashboard.called == []


def test_our_own_page_gets_all_of_these(served: Served) -> None:
    """Or the refusals would prove nothing."""
    for method, path, more in REQUESTS.values():
        with RawWebSocket(served.address) as client:
            own = [f"Host: {served.host}", f"Origin: http://{served.host}", *more]
            assert client.ask(path, own, method, "{}" if method == "POST" else "") == 200


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/health", 200), ("/metrics", 200), ("/dashboard", 404)])
def test_on_every_other_path_an_upgrade_is_ignored(served: Served, path: str, status: int) -> None:
    """RFC 9110, 7.8."""
    with RawWebSocket(served.address) as client:
        own = [f"Host: {served.host}", f"Origin: http://{served.host}", *HANDSHAKE]
        assert client.ask(path, own) == status


def test_where_a_key_is_needed_only_it_gives_a_ticket_and_its_end_closes_the_dashboard() -> None:
    with serving(keys=(ApiKey("ann", SECRET),), require_key=True) as served:
        with pytest.raises(AssertionError):
            ticket_of(served.address)
        with served.looking(authorization=f"Bearer {SECRET}") as client:
            served.do(served.deps.ring.drop, "ann")
            while (frame := client.frame())[0] != CLOSE:
                pass
            assert int.from_bytes(frame[1][:2], "big") == 1008


def test_seats_are_limited_and_free_again_when_somebody_leaves() -> None:
    with serving(seats=Seats(2)) as served, ExitStack() as stack:
        first = stack.enter_context(served.looking())
        stack.enter_context(served.looking())
        with RawWebSocket(served.address) as late:
            assert late.shake_hands(ticket_of(served.address)) == 503
        first.socket.close()
        served.until(lambda: served.dashboard.viewers == 1)
        stack.enter_context(served.looking())


# ---- what they are told


def test_hello_comes_first_then_the_replay_then_what_happens_and_all_parts(fresh: Served) -> None:
    fresh.tell(3)
    fresh.do(fresh.dashboard.show, "stats", {"peers": 1})
    with fresh.looking() as client:
        told = client.told()
        assert next(told) == {"t": "hello", **fresh.dashboard.hello()}
        first = [next(told) for _ in range(5)]
        replayed = [frame for frame in first if frame["t"] == "activity"]
        assert [(frame["replay"], frame["event"]["seq"]) for frame in replayed] == [(True, 1), (True, 2), (True, 3)]
        parts = {frame["name"]: frame["value"] for frame in first if frame["t"] == "part"}
        assert parts == {"stats": {"peers": 1}, "rates": []}
        fresh.tell(1, "live")
        event = next(told)
        assert (event["replay"], event["event"]["seq"], event["event"]["text"]) == (False, 4, "live")
        assert event["event"]["toast_level"] == "info" and event["event"]["fields"] == {}


def test_two_who_look_are_told_the_same(fresh: Served) -> None:
    with fresh.looking() as one, fresh.looking() as other:
        fresh.until(lambda: fresh.dashboard.viewers == 2)
        for client in (one, other):
            assert kinds(client, 2) == ["hello", "rates"]
        fresh.tell(2)
        fresh.do(fresh.dashboard.show, "models", ["a"])
        seen = []
        for client in (one, other):
            told = client.told()
            seen.append(sorted(str(next(told)) for _ in range(3)))
        assert seen[0] == seen[1] and "models" in seen[0][-1]


def test_rates_come_whole_once_and_then_each_sample(fresh: Served) -> None:
    samples = (Sample(1.0, 10.0, 20.0), Sample(2.0, 11.0, 21.0))
    fresh.do(fresh.dashboard.rates.set, samples)
    with fresh.looking() as client:
        told = client.told()
        assert next(told)["t"] == "hello"
        assert next(told) == {"t": "part", "name": "rates", "value": [[1, 10, 20], [2, 11, 21]]}
        fresh.do(fresh.dashboard.rates.set, (*samples[1:], Sample(3.0, 12.0, 22.0), Sample(4.0, 13.0, 23.0)))
        assert [next(told)["value"] for _ in range(2)] == [[3, 12, 22], [4, 13, 23]]


def test_who_was_away_sees_the_newest_of_a_part_only(fresh: Served) -> None:
    with fresh.looking() as client:
        assert kinds(client, 2) == ["hello", "rates"]
        big = "x" * 2_000_000  # more than all buffers between us hold
        for number in range(20):
            fresh.do(fresh.dashboard.show, "models", [number, big])
            fresh.do(fresh.dashboard.show, "engines", number)
        told = client.told()
        seen = [(frame["name"], frame["value"]) for frame in (next(told) for _ in range(4))]
        # The first of each was in the writer's hand; of what came meanwhile nothing waits.
        assert [value[0] for name, value in seen if name == "models"] == [0, 19]
        assert [value for name, value in seen if name == "engines"] == [0, 19]


# ---- who is thrown out


@pytest.mark.parametrize("opcode", [TEXT, 2])
def test_a_client_that_says_something_is_no_dashboard(fresh: Served, opcode: int) -> None:
    with fresh.looking() as client:
        client.say(opcode, b"hi")
        while (frame := client.frame())[0] != CLOSE:
            pass
        assert int.from_bytes(frame[1][:2], "big") == 1008
    fresh.until(lambda: fresh.dashboard.viewers == 0)


def test_a_dashboard_outlives_the_deadlines_of_requests() -> None:
    with serving(limits=QUICK) as fresh, fresh.looking() as client:
        time.sleep(2 * QUICK.header_s)
        client.say(PING, b"there?")
        while (frame := client.frame())[0] != PONG:
            pass
        assert frame[1] == b"there?"


def test_a_frozen_client_is_thrown_out_after_its_time_and_its_place_is_free() -> None:
    limits = msgspec.structs.replace(USUAL, socket_write_s=0.5)
    with serving(limits=limits) as fresh, fresh.looking() as frozen:
        fresh.until(lambda: fresh.dashboard.viewers == 1)
        for _ in range(200):  # 256 wait at most, the rest is missed: the kernel's buffers must fill
            fresh.tell(100, "x" * 2000)
        fresh.until(lambda: fresh.dashboard.viewers == 0 and len(fresh.server.connections) == 0)
        with pytest.raises(ConnectionError):
            list(frozen.told())


def test_who_leaves_in_the_middle_of_anything_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken: list[str] = []
    monkeypatch.setattr(gate.log, "error", lambda event, **_: broken.append(event))
    key = {"authorization": f"Bearer {SECRET}"}
    with serving(keys=(ApiKey("ann", SECRET),), require_key=True) as fresh:
        for ticket in (None, "wrong", *(ticket_of(fresh.address, **key) for _ in range(20))):
            with RawWebSocket(fresh.address) as client:
                own = [f"Host: {fresh.host}", f"Origin: http://{fresh.host}", *HANDSHAKE, "", ""]
                client.socket.sendall("\r\n".join([f"GET /dashboard/ws?ticket={ticket} HTTP/1.1", *own]).encode())
                client.reset()
        with fresh.looking(**key) as client:
            fresh.until(lambda: fresh.dashboard.viewers == 1)
            for _ in range(200):
                fresh.tell(100, "x" * 2000)
            fresh.do(fresh.deps.ring.drop, "ann")  # it is to be closed, and does not read
            fresh.until(lambda: fresh.dashboard.viewers == 0)
            client.reset()
        fresh.until(lambda: len(fresh.server.connections) == 0)
    assert broken == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []  # of uvicorn


def test_pings_of_a_client_that_does_not_read_are_not_taken_without_end(fresh: Served) -> None:
    """Each is answered by a pong, which would wait in our memory."""
    with fresh.looking() as client:
        client.socket.setblocking(False)
        pings, sent, blocked = masked(PING, b"x" * 125) * 500, 0, 0
        while blocked < BLOCKED and sent < MOST:
            try:
                sent += client.socket.send(pings[sent % len(pings) :])  # where the last one was cut
                blocked = 0
            except BlockingIOError:
                blocked += 1
                fresh.do(lambda: None)  # the server's loop has turned once more
        assert sent < MOST


class Replies(OpenReplies):
    """Notes that the time of the drain was over."""

    were_cut = False

    def cut(self) -> None:
        self.were_cut = True
        super().cut()


def test_at_the_daemon_s_end_all_are_told_to_come_again_also_while_one_is_frozen() -> None:
    replies = Replies()
    with ExitStack() as stack:
        with serving(replies=replies) as fresh:
            stack.enter_context(fresh.looking())
            for size in [2000] * 200 + [0]:  # what the next one is shown first is small again
                fresh.tell(100, "x" * size)
            reader = stack.enter_context(fresh.looking())
            fresh.until(lambda: fresh.dashboard.viewers == 2)
        while (frame := reader.frame())[0] != CLOSE:
            pass
        assert int.from_bytes(frame[1][:2], "big") == 1012  # service restart
    assert not replies.were_cut  # the drain did not wait for the frozen one
