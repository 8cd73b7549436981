"""The router: whole replies, retry only before the first token, and every permit given back on every path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from hali.model.errors import EngineCrashed, EngineFailed, HaliError, ModelLoadFailed, NotFound, Overloaded, UsageError
from hali.model.generation import Chunk, Embed, GenerateRequest, Tokenize
from hali.pipeline.router import InferenceRouter, RouterLimits
from hali.wire.http import status_of
from tests.waiting import until

ASK = GenerateRequest(prompt="hi")


@asynccontextmanager
async def running(router: InferenceRouter) -> AsyncIterator[InferenceRouter]:
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: router.run(task_status=task_status))
        yield router
        group.cancel_scope.cancel()


async def text_of(router, **options) -> str:
    events = [event async for event in router.generate("tiny", ASK, **options)]
    return "".join(event.text for event in events if isinstance(event, Chunk))


def idle(router, engines) -> bool:
    stats = router.stats()
    return (stats.running, stats.queued, engines.running) == (0, 0, 0)


async def test_a_reply_arrives_whole_and_ends_with_done(catalog, engines, model, done):
    async with running(InferenceRouter(catalog, engines)) as router:
        events = [event async for event in router.generate("tiny", ASK)]
        assert events == [Chunk("Hel", 1), Chunk("lo", 1), done]
        assert engines.acquired == [("tiny:1m:base:q4_0@abababababab", model.path)]
        await until(lambda: idle(router, engines))
        assert router.stats().finished == 1


async def test_an_unknown_model_is_not_found_and_takes_no_permit(catalog, engines):
    async with running(InferenceRouter(catalog, engines)) as router:
        with pytest.raises(NotFound):
            await anext(router.generate("nosuch", ASK))
        assert idle(router, engines)


async def test_before_the_service_runs_requests_are_refused(catalog, engines):
    router = InferenceRouter(catalog, engines)
    assert not router.stats().accepting
    with pytest.raises(Overloaded):
        await anext(router.generate("tiny", ASK))


async def test_no_more_than_the_permitted_number_run_at_once(catalog, engines):
    gate = anyio.Event()
    engines.default = [gate, *engines.default]
    async with running(InferenceRouter(catalog, engines, RouterLimits(running=2))) as router:
        texts: list[str] = []

        async def ask() -> None:
            texts.append(await text_of(router))

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(ask)
            await until(lambda: engines.running == 2 and router.stats().queued == 4)
            gate.set()
        assert texts == ["Hello"] * 6
        assert engines.most == 2
        await until(lambda: idle(router, engines))


async def test_a_crash_before_the_first_token_is_retried_once_and_not_seen(catalog, engines):
    engines.scripts = [[EngineCrashed("died")]]
    async with running(InferenceRouter(catalog, engines)) as router:
        assert await text_of(router) == "Hello"
        assert router.stats().retried == 1


async def test_a_crash_while_loading_is_retried_too(catalog, engines):
    engines.load_errors = [EngineCrashed("died while loading")]
    async with running(InferenceRouter(catalog, engines)) as router:
        assert await text_of(router) == "Hello"


async def test_a_second_crash_is_told(catalog, engines):
    engines.scripts = [[EngineCrashed("one")], [EngineCrashed("two")]]
    async with running(InferenceRouter(catalog, engines)) as router:
        with pytest.raises(EngineCrashed, match="two"):
            await text_of(router)
        assert len(engines.asked) == 2


async def test_after_the_first_token_nothing_is_retried(catalog, engines):
    engines.scripts = [[Chunk("Hel", 1), EngineCrashed("died")]]
    async with running(InferenceRouter(catalog, engines)) as router:
        events = router.generate("tiny", ASK)
        assert await anext(events) == Chunk("Hel", 1)
        with pytest.raises(EngineCrashed):
            await anext(events)
        assert len(engines.asked) == 1
        assert await text_of(router) == "Hello"


async def test_closing_the_generator_stops_the_engine_within_100_ms(catalog, engines):
    engines.default = [Chunk("a", 1), anyio.Event()]
    async with running(InferenceRouter(catalog, engines)) as router:
        async with aclosing(router.generate("tiny", ASK)) as events:
            await anext(events)
            assert engines.running == 1
        with anyio.fail_after(0.1):
            while not idle(router, engines):
                await anyio.lowlevel.checkpoint()
        assert router.stats().cancelled == 1


async def test_a_reader_that_does_not_read_holds_back_only_itself(catalog, engines):
    engines.scripts = [[Chunk("x", 1)] * 1000]
    async with running(InferenceRouter(catalog, engines)) as router, aclosing(router.generate("tiny", ASK)) as slow:
        await anext(slow)
        assert await text_of(router) == "Hello"


async def test_the_engine_is_left_before_its_permit_goes_to_the_next(catalog, engines):
    """The reader stopped reading, so the engine's iterator rests between two events when the reader leaves."""
    engines.scripts = [[Chunk("x", 1)] * 1000]
    async with running(InferenceRouter(catalog, engines, RouterLimits(running=1))) as router:
        slow = router.generate("tiny", ASK)
        await anext(slow)
        async with anyio.create_task_group() as group:
            group.start_soon(text_of, router)
            await until(lambda: router.stats().queued == 1)
            await anyio.wait_all_tasks_blocked()
            await slow.aclose()
        assert engines.most == 1


async def test_a_full_queue_says_when_to_come_back(catalog, engines):
    engines.default = [anyio.Event()]
    limits = RouterLimits(running=1, queued=1)
    async with running(InferenceRouter(catalog, engines, limits)) as router, anyio.create_task_group() as group:
        group.start_soon(text_of, router)
        group.start_soon(text_of, router)
        await until(lambda: router.stats().queued == 1)
        with pytest.raises(Overloaded) as refused:
            await text_of(router)
        assert refused.value.details["retry_after_s"] >= 1
        group.cancel_scope.cancel()


async def test_one_key_cannot_keep_another_out(catalog, engines):
    hold, order = anyio.Event(), []
    engines.scripts = [[hold, *engines.default]]
    async with running(InferenceRouter(catalog, engines, RouterLimits(running=1))) as router:

        async def ask(key: str) -> None:
            await text_of(router, key=key)
            order.append(key)

        async with anyio.create_task_group() as group:
            for n, key in enumerate(["greedy"] * 5 + ["modest"]):
                group.start_soon(ask, key)
                await until(lambda n=n: router.stats().running + router.stats().queued == n + 1)
            hold.set()
        assert "modest" in order[:3]


async def test_under_load_keys_get_turns_by_their_weight(catalog, engines):
    """Two keys that always have requests waiting, with weights 1 and 3."""
    weights, order, keep = {"light": 1.0, "heavy": 3.0}, [], 16
    async with running(InferenceRouter(catalog, engines, RouterLimits(running=2))) as router:

        async def client(key: str) -> None:
            while len(order) < 200:
                await text_of(router, key=key, weight=weights[key])
                order.append(key)

        async with anyio.create_task_group() as group:
            for key in weights:
                for _ in range(keep):
                    group.start_soon(client, key)
    turns = order[keep:200]  # the first come before the queue is full
    assert turns.count("heavy") / turns.count("light") == pytest.approx(3, rel=0.1)


async def test_a_key_whose_share_of_the_queue_is_full_gets_429_and_a_full_queue_503(catalog, engines):
    engines.default = [anyio.Event()]
    limits = RouterLimits(running=1, queued=3, queued_per_key=2)
    async with running(InferenceRouter(catalog, engines, limits)) as router, anyio.create_task_group() as group:
        for n, key in enumerate(["ann", "ann", "ann", "bob"]):
            group.start_soon(lambda key=key: text_of(router, key=key))
            await until(lambda n=n: router.stats().running + router.stats().queued == n + 1)
        for key, code in (("ann", "rate_limit"), ("bob", "overloaded"), ("eve", "overloaded")):
            with pytest.raises(Overloaded) as refused:
                await text_of(router, key=key)
            assert (refused.value.code, status_of(refused.value)) == (code, 429 if key == "ann" else 503)
            assert refused.value.details["retry_after_s"] >= 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize("limit", ["deadline", "queue_wait_s"])
async def test_a_request_whose_turn_does_not_come_in_time_leaves_the_queue(catalog, engines, limit):
    engines.default = [anyio.Event()]
    limits = RouterLimits(running=1, queue_wait_s=0.02 if limit == "queue_wait_s" else 60)
    async with running(InferenceRouter(catalog, engines, limits)) as router, anyio.create_task_group() as group:
        group.start_soon(text_of, router)
        await until(lambda: engines.running == 1)
        deadline = anyio.current_time() + 0.02 if limit == "deadline" else None
        with pytest.raises(Overloaded):
            await text_of(router, deadline=deadline)
        assert router.stats().queued == 0
        group.cancel_scope.cancel()


@pytest.mark.parametrize("limits", [RouterLimits(first_event_s=0.02), RouterLimits(next_event_s=0.02)])
async def test_an_engine_that_falls_silent_is_given_up(catalog, engines, limits):
    silent = [anyio.Event()] if limits.first_event_s < 1 else [Chunk("a", 1), anyio.Event()]
    engines.scripts = [silent]
    async with running(InferenceRouter(catalog, engines, limits)) as router:
        with pytest.raises(EngineFailed) as failed:
            await text_of(router)
        assert failed.value.code == "engine_timeout"
        assert failed.value.details["retry_after_s"] >= 1
        await until(lambda: idle(router, engines))


@pytest.mark.parametrize("said", [[], [Chunk("a", 1)]])
async def test_a_reply_that_its_own_request_gave_no_more_time_says_so_and_not_when_to_come_back(catalog, engines, said):
    engines.scripts = [[*said, anyio.Event()]]
    async with running(InferenceRouter(catalog, engines)) as router:
        with pytest.raises(EngineFailed, match="by the deadline that the request set") as failed:
            await text_of(router, deadline=anyio.current_time() + 0.02)
        assert failed.value.code == "engine_timeout" and "retry_after_s" not in failed.value.details


async def test_an_engine_that_leaves_a_question_unanswered_says_when_to_come_back(catalog, engines, monkeypatch):
    async def never(*_):
        await anyio.sleep_forever()

    monkeypatch.setattr(engines, "ask", never, raising=False)
    async with running(InferenceRouter(catalog, engines, RouterLimits(first_event_s=0.02))) as router:
        with pytest.raises(EngineFailed) as failed:
            await router.ask("tiny", Embed(("a",)))
        assert failed.value.details["retry_after_s"] >= 1


@pytest.mark.parametrize("query", [Embed(("a",)), Tokenize("a")], ids=["computed", "looked up"])
async def test_a_question_is_given_up_by_the_deadline_that_its_request_set(catalog, engines, monkeypatch, query):
    async def never(*_):
        await anyio.sleep_forever()

    monkeypatch.setattr(engines, "ask", never, raising=False)
    async with running(InferenceRouter(catalog, engines)) as router:
        with pytest.raises(EngineFailed, match="by the deadline that the request set"):
            await router.ask("tiny", query, deadline=anyio.current_time() + 0.02)
        assert router.stats().running == 0


async def test_the_end_of_the_service_refuses_the_waiting_and_ends_the_running(catalog, engines):
    engines.default = [Chunk("a", 1), anyio.Event()]
    router = InferenceRouter(catalog, engines, RouterLimits(running=1))
    failures: list[HaliError] = []

    async def ask() -> None:
        try:
            await text_of(router)
        except HaliError as error:
            failures.append(error)

    async with anyio.create_task_group() as group, running(router):
        group.start_soon(ask)
        group.start_soon(ask)
        await until(lambda: (engines.running, router.stats().queued) == (1, 1))
    assert [type(error) for error in failures] == [Overloaded, Overloaded]
    assert not router.stats().accepting
    with pytest.raises(Overloaded):
        await text_of(router)
    assert idle(router, engines)


ENDINGS = {
    "whole": None,
    "usage error": [UsageError("too long")],
    "crash": [Chunk("a", 1), EngineCrashed("died")],
    "two crashes": [EngineCrashed("died")],
    "bug in the engine": [Chunk("a", 1), ZeroDivisionError()],
    "no last word": [Chunk("a", 1)],
    "load failure": "load",
}


@pytest.mark.parametrize("leave_after", [None, 0, 1])
@pytest.mark.parametrize("ending", list(ENDINGS))
async def test_every_permit_comes_back_whatever_happens(catalog, engines, ending, leave_after):
    """More requests than permits, each ending in `ending` or left by its reader: then all permits can be had again."""
    script = ENDINGS[ending]
    if script == "load":
        engines.load_errors = [ModelLoadFailed("bad file") for _ in range(6)]
    elif script is not None:
        engines.scripts = [list(script) for _ in range(12)]
    async with running(InferenceRouter(catalog, engines, RouterLimits(running=2))) as router:

        async def ask() -> None:
            try:
                async with aclosing(router.generate("tiny", ASK)) as events:
                    seen = 0
                    while seen != leave_after:
                        await anext(events)
                        seen += 1
            except (HaliError, StopAsyncIteration):
                return

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(ask)
        await until(lambda: idle(router, engines))
        engines.scripts, engines.load_errors, engines.default = [], [], [gate := anyio.Event(), *engines.default]
        async with anyio.create_task_group() as group:
            group.start_soon(text_of, router)
            group.start_soon(text_of, router)
            await until(lambda: engines.running == 2)
            gate.set()


async def test_a_permit_granted_in_the_instant_of_cancellation_is_not_lost(catalog, engines):
    for turns in range(16):  # the first ends and hands its permit over in one of these turns of the loop
        hold = anyio.Event()
        engines.scripts = [[hold, *engines.default]]
        async with running(InferenceRouter(catalog, engines, RouterLimits(running=1))) as router:
            async with anyio.create_task_group() as first, anyio.create_task_group() as second:
                first.start_soon(text_of, router)
                await until(lambda: engines.running == 1)
                second.start_soon(text_of, router)
                await until(lambda router=router: router.stats().queued == 1)
                hold.set()
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                second.cancel_scope.cancel()
            await until(lambda router=router: idle(router, engines))
            assert await text_of(router) == "Hello"
