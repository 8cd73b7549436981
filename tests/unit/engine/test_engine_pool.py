"""The pool without llama.cpp: one start for all, room made by age, nothing forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from hali.engine.fitting import Fitted
from hali.engine.options import EngineOptions, EngineStats
from hali.engine.pool import EnginePool, PoolLimits
from hali.engine.process import EngineProcess
from hali.model.activity import ActivityEvent
from hali.model.errors import Cancelled, EngineCrashed, EngineFailed, ModelLoadFailed, NotFound, Overloaded
from hali.model.generation import Chunk, Done, EngineInfo, GenerateRequest, GenerationEvent, Usage
from hali.runtime.activity import Activity
from hali.wire.http import status_of
from tests.waiting import until

REQUEST = GenerateRequest(prompt="x")
DEADLINE_S = 10.0


class FakeEngine:
    """An engine that answers one chunk when `gate` opens."""

    made: list[FakeEngine]
    fail_with: Exception | None = None
    rss = 100

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.info: EngineInfo | None = None
        self.progress = 0.0
        self.loaded, self.gate = anyio.Event(), anyio.Event()
        self.starts = self.stops = 0
        self.alive = False
        type(self).made.append(self)

    async def start(self, path: Path, options: EngineOptions) -> EngineInfo:
        self.starts += 1
        self.options = options
        await self.loaded.wait()
        if self.fail_with is not None:
            raise self.fail_with
        self.alive = True
        self.info = EngineInfo(self.model_id, 1, 64, 1, 10, 2, 0, 2, "llama")
        return self.info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerationEvent]:
        if not self.alive:
            raise EngineCrashed("gone")
        yield Chunk("hi", 1)
        await self.gate.wait()
        yield Done("stop", Usage(1, 1, 0.1, 0.2))

    async def stop(self, *, drain: bool = False) -> None:
        self.stops += 1
        self.alive = False

    def stats(self) -> EngineStats:
        return EngineStats(rss_bytes=self.rss)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    monkeypatch.setattr(FakeEngine, "made", [], raising=False)
    return FakeEngine.made


def pool(activity: Activity | None = None, **limits: Any) -> EnginePool:
    launch = cast(Callable[[str], EngineProcess], FakeEngine)
    chosen = PoolLimits(**{"keep_alive_s": None, "turn_s": 0.05, **limits})
    return EnginePool(limits=chosen, launch=launch, fit=fit, activity=activity)


async def fit(path: Path, options: EngineOptions, room: int | None) -> Fitted:
    """A model takes 100 bytes, with a context of 512 tokens 60."""
    small = EngineOptions(n_ctx=512)
    return Fitted(small, 60, False) if room is not None and room < 100 else Fitted(options, 100, True)


async def load(engines: EnginePool, fakes: list[FakeEngine], name: str) -> FakeEngine:
    before = len(fakes)
    async with anyio.create_task_group() as group:
        group.start_soon(engines.load, name, Path(name))
        await until(lambda: len(fakes) > before and fakes[-1].starts == 1)
        fakes[-1].loaded.set()
    return fakes[-1]


async def test_requests_that_come_together_share_one_start(fakes: list[FakeEngine]) -> None:
    async with pool() as engines, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(engines.load, "m", Path("m"))
        await until(lambda: len(fakes) == 1 and fakes[0].starts == 1)
        assert [status.state for status in engines.list()] == ["loading"]
        fakes[0].loaded.set()
        await until(lambda: engines.info("m") is not None)
    assert len(fakes) == 1
    assert fakes[0].stops == 1


async def test_who_asked_first_may_give_up_while_others_wait(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        with anyio.move_on_after(0.01):
            await engines.load("m", Path("m"))
        fakes[0].loaded.set()
        assert (await engines.load("m", Path("m"))).model_id == "m"
        assert fakes[0].starts == 1


async def test_an_engine_ends_though_who_stops_it_hangs_up(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        fake = await load(engines, fakes, "m")
        stop = fake.stop
        with anyio.CancelScope() as scope:

            async def hung_up(*, drain: bool = False) -> None:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
                await stop(drain=drain)

            fake.stop = hung_up  # type: ignore[method-assign]
            await engines.stop("m")
        assert (engines.list(), fake.stops) == ([], 1)


async def test_a_machine_that_gives_no_more_processes_costs_the_request_not_the_pool(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:

        async def ask() -> None:
            with pytest.raises(EngineFailed, match=r"could not be started: .*Resource temporarily unavailable"):
                await engines.load("m", Path("m"))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(lambda: bool(fakes))
            fakes[0].fail_with = BlockingIOError(11, "Resource temporarily unavailable")
            fakes[0].loaded.set()
        assert (await load(engines, fakes, "m")).alive


async def test_a_failed_start_fails_all_who_waited_and_the_next_request_tries_again(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        errors = []

        async def ask() -> None:
            with pytest.raises(ModelLoadFailed) as caught:
                await engines.load("m", Path("m"))
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
            await until(lambda: bool(fakes))
            fakes[0].fail_with = ModelLoadFailed("bad file")
            fakes[0].loaded.set()
        assert len(errors) == 2
        assert engines.list() == []
        await load(engines, fakes, "m")
        assert len(fakes) == 2


async def test_after_a_crash_the_next_request_starts_a_new_engine(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        (await load(engines, fakes, "m")).alive = False
        assert engines.info("m") is None
        assert engines.list() == []
        await load(engines, fakes, "m")
        assert [fake.starts for fake in fakes] == [1, 1]


async def test_viewers_are_told_once_of_each_engine_that_came_went_or_died(fakes: list[FakeEngine]) -> None:
    activity = Activity()
    with activity.events.subscribe() as events:
        async with pool(activity) as engines:
            (await load(engines, fakes, "m@ab")).alive = False
            await load(engines, fakes, "m@ab")  # before anybody noticed
            await until(lambda: fakes[0].stops == 1)
            await engines.stop("m@ab")
            FakeEngine.fail_with = ModelLoadFailed("no")
            try:
                with pytest.raises(ExceptionGroup):
                    await load(engines, fakes, "n@cd")
            finally:
                FakeEngine.fail_with = None
            await load(engines, fakes, "o@ef")
        told = [await anext(events) for _ in range(activity.seq)]
    assert [(event.kind, event.fields) for event in told if isinstance(event, ActivityEvent)] == [
        ("engine.loaded", {"model": "m", "memory_bytes": 100}),
        ("engine.loaded", {"model": "m", "memory_bytes": 100}),
        ("engine.died", {"model": "m"}),
        ("engine.unloaded", {"model": "m"}),
        ("engine.loaded", {"model": "o", "memory_bytes": 100}),
        ("engine.unloaded", {"model": "o"}),
    ]


async def test_the_idle_engine_longest_unused_makes_room(fakes: list[FakeEngine]) -> None:
    async with pool(max_engines=2) as engines:
        first = await load(engines, fakes, "a")
        second = await load(engines, fakes, "b")
        await engines.load("a", Path("a"))  # "a" was used after "b"
        await load(engines, fakes, "c")
        assert (first.stops, second.stops) == (0, 1)
        assert [status.model_id for status in engines.list()] == ["a", "c"]


async def test_a_busy_engine_is_never_stopped_for_another(fakes: list[FakeEngine]) -> None:
    async with pool(max_engines=1) as engines:
        busy = await load(engines, fakes, "a")
        replies = engines.generate("a", Path("a"), REQUEST)
        assert await anext(replies) == Chunk("hi", 1)
        assert engines.list()[0].active == 1
        assert engines.list()[0].idle_s is None
        with pytest.raises(Overloaded) as caught:
            await engines.load("b", Path("b"))
        assert caught.value.retryable
        busy.gate.set()
        assert isinstance(await anext(replies), Done)
        await replies.aclose()
        await load(engines, fakes, "b")
        assert busy.stops == 1


async def test_memory_limits_make_room_too_but_one_model_may_always_try(fakes: list[FakeEngine]) -> None:
    async with pool(max_engines=9, memory_bytes=199) as engines:
        first = await load(engines, fakes, "a")
        await load(engines, fakes, "b")
        assert first.stops == 1
        assert [(status.model_id, status.reserved_bytes) for status in engines.list()] == [("b", 100)]
    async with pool(memory_bytes=200) as engines:
        await load(engines, fakes, "a")
        await load(engines, fakes, "b")
        assert [status.model_id for status in engines.list()] == ["a", "b"]
    async with pool(memory_bytes=10) as engines:
        assert (await load(engines, fakes, "a")).options == EngineOptions(n_ctx=512)


async def test_who_needs_room_waits_for_the_replies_of_others_and_they_come_back(fakes: list[FakeEngine]) -> None:
    ended: list[str] = []

    async def ask(engines: EnginePool, name: str) -> None:
        async for _ in engines.generate(name, Path(name), REQUEST):
            pass
        ended.append(name)

    async with pool(memory_bytes=150, turn_s=DEADLINE_S) as engines, anyio.create_task_group() as group:
        group.start_soon(ask, engines, "a")
        await until(lambda: len(fakes) == 1)
        fakes[0].loaded.set()
        await until(lambda: engines.list()[0].active == 1 and engines.list()[0].state == "ready")
        group.start_soon(ask, engines, "b")
        await until(lambda: engines.list()[0].state == "stopping")
        engines.keep("a", 3600)  # whoever asks about it or stops it still finds it
        group.start_soon(ask, engines, "a")  # a new request for the one that leaves: its turn is after b's
        await until(lambda: len(fakes) == 3)
        assert [fake.starts for fake in fakes] == [1, 0, 0] and fakes[0].stops == 0
        for fake in fakes:
            fake.loaded.set()
            fake.gate.set()
        await until(lambda: len(ended) == 3)
        assert ended == ["a", "b", "a"]
        assert [fake.stops for fake in fakes] == [1, 1, 0]


async def test_an_engine_stays_as_long_as_it_was_told(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        fake = await load(engines, fakes, "m")
        engines.keep("m", 3600)
        left = engines.list()[0].expires_in_s
        assert left is not None and 3500 < left <= 3600
        replies = engines.generate("m", Path("m"), REQUEST)
        await anext(replies)
        engines.keep("m", 0)
        assert engines.list()[0].expires_in_s is None and fake.stops == 0  # not while it is used
        await replies.aclose()
        await until(lambda: fake.stops == 1)
        with pytest.raises(NotFound):
            engines.keep("m", 1)


async def test_an_engine_nobody_uses_is_stopped_after_its_time(fakes: list[FakeEngine]) -> None:
    async with pool(keep_alive_s=0.05) as engines:
        fake = await load(engines, fakes, "m")
        await until(lambda: fake.stops == 1)
        assert engines.list() == []


async def test_an_engine_in_use_outlives_its_time(fakes: list[FakeEngine]) -> None:
    async with pool(keep_alive_s=0.05) as engines:
        fake = await load(engines, fakes, "m")
        replies = engines.generate("m", Path("m"), REQUEST)
        await anext(replies)
        await anyio.sleep(0.2)  # four times its time: nothing must happen, so there is no condition to wait for
        assert fake.stops == 0
        await replies.aclose()
        await until(lambda: fake.stops == 1)


async def test_stop_ends_a_loading_engine_and_who_waits_for_it_hears_so(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:

        async def ask() -> None:
            with pytest.raises(Cancelled) as told:
                await engines.load("m", Path("m"))
            assert status_of(told.value) == 503 and told.value.details["retry_after_s"] >= 1

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(lambda: bool(fakes) and fakes[0].starts == 1)
            await engines.stop("m")
        assert engines.list() == []


async def test_stopping_what_does_not_run_is_not_found(fakes: list[FakeEngine]) -> None:
    async with pool() as engines:
        with pytest.raises(NotFound):
            await engines.stop("m")


async def test_what_people_are_told_names_the_model_not_its_engine(fakes: list[FakeEngine]) -> None:
    with pytest.raises(EngineCrashed, match="the engine of tiny:1b is not running"):
        await anext(EngineProcess("tiny:1b@abababababab").generate(REQUEST))
    async with pool() as engines:
        with pytest.raises(NotFound, match=r"no engine runs for tiny:1b\Z"):
            await engines.stop("tiny:1b@abababababab")


async def test_leaving_the_pool_stops_all_also_after_an_error(fakes: list[FakeEngine]) -> None:
    async def owner() -> None:
        async with pool() as engines:
            await load(engines, fakes, "a")
            await load(engines, fakes, "b")
            raise ValueError("of the owner")

    with pytest.raises(ExceptionGroup):
        await owner()
    assert [fake.stops for fake in fakes] == [1, 1]


async def test_a_cancelled_owner_leaves_no_engine(fakes: list[FakeEngine]) -> None:
    with anyio.CancelScope() as scope:
        async with pool() as engines:
            await load(engines, fakes, "a")
            scope.cancel()
            await anyio.sleep_forever()
    assert fakes[0].stops == 1
