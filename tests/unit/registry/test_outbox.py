"""The outbox keeps what is to be told, in order; the service delivers it, patiently, and never twice on purpose."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hali.model.errors import NoSpace, NotFound
from hali.registry import delivery, outbox
from hali.registry.delivery import RegistryOutbox
from hali.registry.outbox import Outbox
from hali.store.database import Database
from hali.transfer.http_retry import HttpPolicy
from tests.fakes.scripted_http import Reply, ScriptedServer

URL = "http://a"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "hali.db")
    yield made
    made.close()


@pytest.fixture
def box(database: Database) -> Outbox:
    return Outbox(database)


def put(database: Database, box: Outbox, *events: tuple[str, str, bytes], registry: str = URL) -> None:
    with database.transaction() as db:
        for kind, subject, body in events:
            box.put(db, registry, kind, subject, body)  # type: ignore[arg-type]


def waiting(box: Outbox) -> list[tuple[str, str]]:
    return [(event.kind, event.subject) for event in box.events() if event.state == "waiting"]


def test_events_come_in_order_of_writing_and_a_newer_word_takes_the_place_of_an_older(
    database: Database, box: Outbox
) -> None:
    put(database, box, ("publish", "a", b"1"), ("report", "a", b"2"), ("publish", "b", b"3"), ("publish", "a", b"4"))
    found = []
    while (event := box.next(URL)) is not None:
        found.append(event.body)
        box.done(event)
    assert found == [b"2", b"3", b"4"]


def test_what_follows_an_event_takes_its_place(database: Database, box: Outbox) -> None:
    put(database, box, ("publish", "a", b"1"), ("rotate", "k", b"2"))
    event = box.next(URL)
    assert event is not None
    box.later(event, 5, "busy")
    box.done(event, "ingest")
    assert waiting(box) == [("ingest", "a"), ("rotate", "k")]
    following = box.next(URL)
    assert following is not None
    assert (following.body, following.attempts, following.not_before, following.error) == (b"", 0, 0, None)


def test_a_month_or_a_clock_that_jumps_makes_it_forget_reports_alone(
    database: Database, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = [("publish", "a", b"1"), ("ingest", "b", b""), ("profile", "k", b"3"), ("rotate", "k", b"4")]
    put(database, box, *signed, ("report", "a", b"5"), ("revoke", "k", b"6"))
    now = time.time()
    monkeypatch.setattr(outbox.time, "time", lambda: now + 40 * 86_400)
    event = box.next(URL)
    assert event is not None
    assert event.body == b"1"
    assert [kind for kind, _ in waiting(box)] == ["publish", "ingest", "profile", "rotate", "revoke"]


def test_an_event_is_written_if_and_only_if_its_job_is_forgotten(database: Database, box: Outbox) -> None:
    database.add_job("j", "pull", "{}")
    put_one: Callable[[sqlite3.Connection], None] = lambda db: box.put(db, URL, "report", "a", b"x")  # noqa: E731

    def fail(db: sqlite3.Connection) -> None:
        put_one(db)
        raise ValueError

    with pytest.raises(ValueError):
        database.remove_job("j", fail)
    assert (waiting(box), len(database.jobs())) == ([], 1)
    database.remove_job("j", put_one)
    assert (waiting(box), len(database.jobs())) == ([("report", "a")], 0)


def test_events_survive_a_reopened_database(tmp_path: Path) -> None:
    first = Database(tmp_path / "d")
    put(first, Outbox(first), ("publish", "a", b"1"))
    first.close()
    again = Database(tmp_path / "d")
    assert waiting(Outbox(again)) == [("publish", "a")]
    again.close()


def test_a_full_outbox_forgets_the_oldest_reports_first(
    database: Database, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_ROWS", 3)
    put(database, box, ("publish", "p", b""), ("report", "1", b""), ("report", "2", b""), ("rotate", "r", b""))
    assert waiting(box) == [("publish", "p"), ("report", "2"), ("rotate", "r")]
    put(database, box, ("publish", "q", b""), ("publish", "s", b""))
    assert waiting(box) == [("rotate", "r"), ("publish", "q"), ("publish", "s")]


def test_what_is_too_old_is_forgotten(database: Database, box: Outbox) -> None:
    put(database, box, ("report", "old", b""), ("report", "new", b""))
    with database.transaction() as db:
        db.execute("UPDATE outbox SET created_at = 1 WHERE subject = 'old'")
    event = box.next(URL)
    assert event is not None and event.subject == "new"


# ---- delivery


async def ingest_body(infohash: str) -> bytes:
    if infohash == "gone":
        raise NotFound("no such model")
    if infohash == "full":
        raise NoSpace("the database cannot be written")
    return b'{"torrent":"of ' + infohash.encode() + b'"}'


@asynccontextmanager
async def delivering(box: Outbox, *urls: str) -> AsyncIterator[None]:
    service = RegistryOutbox(box, urls, ingest_body)
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: service.run(task_status=task_status))
        yield
        group.cancel_scope.cancel()


async def settled(box: Outbox, count: int = 0) -> None:
    with anyio.fail_after(20):
        while len([e for e in await anyio.to_thread.run_sync(box.events) if e.state == "waiting"]) > count:
            await anyio.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        delivery, "PATIENCE", HttpPolicy(backoff_first=0.01, backoff_cap=0.05, retry_after_cap=86_400.0)
    )


def store(database: Database, box: Outbox, url: str, *events: tuple[str, str, bytes]) -> Callable[[], None]:
    return lambda: put(database, box, *events, registry=url)


async def in_thread(work: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(work)


async def test_a_publication_is_followed_by_its_torrent_unless_that_is_there(database: Database, box: Outbox) -> None:
    with ScriptedServer(Reply(), Reply(404), Reply(), Reply(), Reply(200)) as server:
        async with delivering(box, server.url):
            await in_thread(store(database, box, server.url, ("publish", "a", b"{1}")))
            await settled(box)
            await in_thread(store(database, box, server.url, ("publish", "b", b"{2}")))
            await settled(box)
    assert [(sent.method, sent.path, sent.body) for sent in server.sent] == [
        ("POST", "/publish", b"{1}"),
        ("HEAD", "/ingest/a", b""),
        ("POST", "/ingest", b'{"torrent":"of a"}'),
        ("POST", "/publish", b"{2}"),
        ("HEAD", "/ingest/b", b""),
    ]


async def test_a_broken_or_busy_registry_is_tried_again_with_the_same_bytes(database: Database, box: Outbox) -> None:
    with ScriptedServer(Reply(500), Reply(503), Reply(429), Reply(200, b"x" * 200_000), Reply(200)) as server:
        await in_thread(store(database, box, server.url, ("report", "a", b"{1}"), ("report", "b", b"{2}")))
        async with delivering(box, server.url):
            await settled(box)
    bodies = [sent.body for sent in server.sent]
    assert bodies[:4] == [b"{1}"] * 4
    assert bodies[-1] == b"{2}"


async def test_retry_after_is_honoured(database: Database, box: Outbox) -> None:
    with ScriptedServer(Reply(429, headers=(("retry-after", "3600"),))) as server:
        await in_thread(store(database, box, server.url, ("report", "a", b"{1}")))
        async with delivering(box, server.url):
            with anyio.fail_after(20):
                while not (event := (await anyio.to_thread.run_sync(box.events))[0]).attempts:
                    await anyio.sleep(0.01)
    assert 3599 <= event.not_before - event.created_at <= 3700
    assert (len(server.sent), event.state) == (1, "waiting")


async def test_a_pause_written_by_a_clock_far_ahead_postpones_nothing(database: Database, box: Outbox) -> None:
    with ScriptedServer() as server:
        await in_thread(store(database, box, server.url, ("profile", "a", b"{1}")))
        (event,) = await anyio.to_thread.run_sync(box.events)
        await in_thread(lambda: box.later(event, 40 * 86_400, "down"))
        async with delivering(box, server.url):
            await settled(box)
    assert len(server.sent) == 1


async def test_a_final_refusal_is_kept_to_be_shown_and_does_not_stop_the_rest(database: Database, box: Outbox) -> None:
    no = Reply(422, b'{"error":{"code":"bad_signature","message":"not\\nso"}}')
    with ScriptedServer(no) as server:
        await in_thread(store(database, box, server.url, ("profile", "a", b"{1}"), ("report", "b", b"{2}")))
        async with delivering(box, server.url):
            await settled(box)
    (event,) = await anyio.to_thread.run_sync(box.events)
    assert (event.kind, event.state) == ("profile", "refused")
    assert event.error is not None and event.error.endswith("not?so")


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("publish", Reply(409, b'{"error":{"code":"replayed","message":""}}')),  # the reply to the first try was lost
        ("report", Reply(404, b'{"error":{"code":"not_listed","message":""}}')),  # it keeps nothing of it
    ],
)
async def test_what_the_registry_has_or_does_not_want_is_done(
    kind: str, reply: Reply, database: Database, box: Outbox
) -> None:
    with ScriptedServer(reply) as server:
        await in_thread(store(database, box, server.url, (kind, "a", b"{1}")))
        async with delivering(box, server.url):
            await settled(box)
    assert await anyio.to_thread.run_sync(box.events) == []


async def test_a_model_that_is_gone_is_not_handed_over(database: Database, box: Outbox) -> None:
    with ScriptedServer(Reply(404)) as server:
        await in_thread(store(database, box, server.url, ("ingest", "gone", b"")))
        async with delivering(box, server.url):
            await settled(box)
    (event,) = await anyio.to_thread.run_sync(box.events)
    assert (event.state, event.error) == ("refused", "no such model")


async def test_trouble_of_this_machine_is_no_refusal(database: Database, box: Outbox) -> None:
    with ScriptedServer(*[Reply(404)] * 1000) as server:
        await in_thread(store(database, box, server.url, ("ingest", "full", b"")))
        async with delivering(box, server.url):
            with anyio.fail_after(20):
                while (event := (await anyio.to_thread.run_sync(box.events))[0]).attempts < 3:
                    await anyio.sleep(0.01)
    assert (event.state, event.error) == ("waiting", "the database cannot be written")


async def test_a_registry_that_is_down_keeps_no_other_waiting(database: Database, box: Outbox) -> None:
    down = "http://127.0.0.1:9"  # discard; nothing listens
    with ScriptedServer() as server:
        for url in (down, server.url):
            await in_thread(store(database, box, url, ("report", "a", b"{1}")))
        async with delivering(box, down, server.url):
            await settled(box, 1)
    (event,) = await anyio.to_thread.run_sync(box.events)
    assert (event.registry, event.state) == (down, "waiting")


async def test_a_registry_that_always_fails_on_an_event_is_given_up(
    database: Database, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MAX_ANSWERED", 3)
    with ScriptedServer(*[Reply(500)] * 4) as server:
        await in_thread(store(database, box, server.url, ("report", "a", b"{1}"), ("report", "b", b"{2}")))
        async with delivering(box, server.url):
            await settled(box)
    (event,) = await anyio.to_thread.run_sync(box.events)
    assert (event.subject, event.state, len(server.sent)) == ("a", "refused", 5)
