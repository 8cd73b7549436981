"""The loop with a model that only counts: every way out gives everything back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

pytest.importorskip("llama_cpp")

from hali.engine import loop as module
from hali.engine import opening, telling
from hali.engine.backend import ABORTED, NO_SLOT, Model
from hali.engine.chat import Prompt, Prompter
from hali.engine.loop import Loop
from hali.engine.output import Dialect
from hali.engine.reasoning import Marks
from hali.engine.room import MAX_QUEUED
from hali.engine.schedule import Slice
from hali.engine.telling import Drawn
from hali.engine.vision import Picture
from hali.model.errors import EngineFailed, HaliError
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, SamplingParams, Usage

END = 0


class FakeSampler:
    alive = 0

    def __init__(self, *_: object, free_until: int | None = None) -> None:
        FakeSampler.alive += 1

    def sample(self, ctx: Any, row: int) -> int:
        return int(ctx.says(ctx.positions[row]))

    def drawn(self) -> Drawn:
        return Drawn()

    def close(self) -> None:
        FakeSampler.alive -= 1


class FakeModel:
    """Keeps the positions of each sequence, and refuses what llama.cpp would refuse."""

    def __init__(self, n_ctx: int = 64, n_kv: int = 128) -> None:
        self.n_ctx, self.n_kv, self.n_batch, self.n_vocab, self.ctx = n_ctx, n_kv, 32, 100, self
        self.says: Callable[[int], int] = lambda position: 65  # the token after a position
        self.positions: list[int] = []  # of the rows of the last decode
        self.abort = [b"\0"]
        self.held: dict[int, int] = {}
        self.batch = SimpleNamespace(row_of_last={})
        self.partial_forget = True
        self.tiled = False
        self.clears = 0
        self.during: Callable[[], int] = lambda: 0  # called inside each decode; its code is the result
        self.shapes: list[list[int]] = []

    def decode(self, slices: Sequence[Slice], tokens: Callable[[int], list[int]], start: Callable[[int], int]) -> int:
        code = self.during()
        self.shapes.append([part.rows for part in slices])
        for part in slices:
            assert start(part.key) == self.held.get(part.key, 0), "positions have no gap"
            assert len(tokens(part.key)) >= start(part.key) + part.count
            assert start(part.key) + part.rows <= self.n_ctx
        if code in (0, ABORTED):  # an aborted decode leaves cells behind
            for part in slices:
                self.held[part.key] = start(part.key) + part.rows
        assert sum(self.held.values()) <= self.n_kv
        self.positions, self.batch.row_of_last = [], {}
        for part in slices:
            self.batch.row_of_last[part.key] = len(self.positions) + part.count - 1
            self.positions += range(start(part.key), start(part.key) + part.rows)
        return code

    def forget(self, key: int, start: int = 0) -> bool:
        if start and not self.partial_forget:
            return False
        self.held[key] = min(self.held.get(key, 0), start)
        return True

    def clear(self) -> None:
        self.held = {}
        self.clears += 1

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


class FakePrompter:
    def prompt(self, request: GenerateRequest) -> Prompt:
        return Prompt([9] * int(request.prompt or "1"), ())


class Rig:
    """A loop, what it emitted (and the usage told with each first event) and what it failed."""

    def __init__(self, model: FakeModel, n_seq_max: int = 4, **options: Any) -> None:
        self.model = model
        self.events: dict[bytes, list[GenerationEvent]] = {}
        self.begun: dict[bytes, Usage] = {}
        self.errors: dict[bytes, HaliError] = {}
        self.loop = Loop(
            cast(Model, model), cast(Prompter, FakePrompter()), n_seq_max, self._emit, self._fail, **options
        )

    def _emit(self, ident: bytes, step: int, event: GenerationEvent) -> None:
        assert step == len(self.events.setdefault(ident, []))
        if not isinstance(event, Done):
            assert (event.usage is None) == (step > 0), "the first event tells the usage so far, and no other"
            if event.usage is not None:
                self.begun[ident] = event.usage
            event = msgspec.structs.replace(event, usage=None)
        self.events[ident].append(event)

    def _fail(self, ident: bytes, error: HaliError) -> None:
        self.errors[ident] = error

    def open(self, ident: bytes, prompt: int, **sampling: Any) -> None:
        self.loop.open(ident, GenerateRequest(prompt=str(prompt), sampling=SamplingParams(**sampling)))

    def run(self, steps: int = 10_000) -> None:
        while self.loop.busy and steps:
            self.loop.admit()
            self.loop.step()
            steps -= 1

    def text(self, ident: bytes) -> str:
        return "".join(event.text for event in self.events[ident] if isinstance(event, Chunk))

    def done(self, ident: bytes) -> Done:
        last = self.events[ident][-1]
        assert isinstance(last, Done)
        return last

    def nothing_held(self) -> bool:
        stats = self.loop.stats()
        assert not any(self.model.held.values())
        return (stats.sessions, stats.queued, stats.kv_used, stats.samplers) == (
            0,
            0,
            0,
            0,
        ) and stats.sequences_free == 4


@pytest.fixture(autouse=True)
def _fake_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Sampler", FakeSampler)
    monkeypatch.setattr(opening, "Sampler", FakeSampler)
    monkeypatch.setattr(FakeSampler, "alive", 0)


def test_a_bug_in_the_opening_of_one_request_costs_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 5, max_tokens=2)
    rig.loop.open(b"b", GenerateRequest(prompt="no number"))  # which is one in this test's own prompter
    rig.run()
    assert rig.text(b"a") == "AA"
    assert isinstance(rig.errors[b"b"], EngineFailed) and rig.errors[b"b"].code == "internal"
    assert "no number" in capfd.readouterr().err
    assert rig.nothing_held()


def test_alone_the_shapes_are_chunks_of_the_batch_then_single_tokens() -> None:
    rig = Rig(FakeModel(n_ctx=100))
    rig.open(b"a", 70, max_tokens=3)
    rig.run()
    assert rig.model.shapes == [[32], [32], [6], [1], [1]]
    assert rig.done(b"a").reason == "length"
    assert rig.nothing_held()


@pytest.mark.parametrize(("tiled", "shapes"), [(False, [[1, 31], [1, 9]]), (True, [[1], [31], [1], [9]])])
def test_replies_and_prompts_take_turns_where_both_at_once_cost_more(tiled: bool, shapes: list[list[int]]) -> None:
    rig = Rig(FakeModel(n_ctx=100))
    rig.model.tiled = tiled
    rig.loop._chunk._row_s = 1e-9  # as many rows as fit
    rig.open(b"a", 5, max_tokens=9)
    rig.run(1)
    rig.open(b"b", 40, max_tokens=1)
    rig.run(len(shapes))
    assert rig.model.shapes[1:] == shapes
    rig.run()
    assert rig.text(b"a") == "A" * 9
    assert rig.text(b"b") == "A"


def test_a_text_that_waits_for_the_next_one_is_told_before_a_prompt_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "TOLD_EVERY_S", 1e9)
    rig = Rig(FakeModel())
    rig.open(b"a", 5, max_tokens=9)
    rig.run(4)
    assert rig.events[b"a"] == [Chunk("A", 1)]  # the first is told at once
    rig.open(b"b", 5, max_tokens=1)
    rig.loop.admit()
    assert rig.events[b"a"] == [Chunk("A", 1), Chunk("AAA", 3)]
    rig.run()
    assert rig.events[b"a"][2] == Chunk("A" * 5, 5)
    assert rig.done(b"a").reason == "length"


def test_the_first_event_tells_how_long_the_prompt_is_and_what_was_said_so_far() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 5, max_tokens=9)
    rig.run()
    begun, done = rig.begun[b"a"], rig.done(b"a").usage
    assert (begun.prompt_tokens, begun.completion_tokens, begun.ttft_s) == (done.prompt_tokens, 1, done.ttft_s)
    assert 0 < begun.total_s < done.total_s


@pytest.mark.parametrize("way", ["cancelled", "failed", "put back"])
def test_no_text_is_lost_by_whoever_leaves(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(telling, "TOLD_EVERY_S", 1e9)
    rig = Rig(FakeModel())
    rig.open(b"a", 5, max_tokens=50)
    rig.open(b"b", 5, max_tokens=50)
    rig.run(3)
    if way == "cancelled":
        rig.loop.cancel(b"b")
    elif way == "failed":
        rig.model.during = failing
        rig.run(1)
    else:
        rig.model.during = lambda: NO_SLOT
        rig.run(1)
    assert rig.text(b"b") == "AAA"


def failing() -> int:
    raise EngineFailed("llama_decode failed")


def test_who_comes_into_an_empty_cache_finds_it_as_new() -> None:
    rig = Rig(FakeModel(n_kv=1000))
    for idents in ((b"a", b"b"), (b"c",)):
        for ident in idents:
            rig.open(ident, 5, max_tokens=3)
        rig.run()
    assert rig.model.clears == 2


def test_a_stopped_decode_is_computed_again_for_the_others() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 20, max_tokens=5)
    rig.open(b"b", 20, max_tokens=5)

    def interrupt() -> int:
        rig.loop.interrupt(b"b")
        return ABORTED if rig.model.abort[0] == b"\1" else 0

    rig.model.during = interrupt
    rig.run(steps=1)
    rig.model.during = lambda: 0
    rig.loop.cancel(b"b")
    rig.run()
    assert rig.model.shapes[1] == [20], "the first batch again, without the cancelled one"
    assert rig.done(b"a").usage.completion_tokens == 5
    assert rig.done(b"b").reason == "cancelled"
    assert rig.nothing_held()


def test_a_model_that_cannot_go_back_part_of_the_way_begins_again() -> None:
    rig = Rig(FakeModel())
    rig.model.partial_forget = False
    rig.open(b"a", 40, max_tokens=2)
    codes = iter([0, ABORTED])
    rig.model.during = lambda: next(codes, 0)
    rig.run()
    assert rig.model.shapes == [[32], [8], [32], [8], [1]]
    assert rig.nothing_held()


def test_an_order_to_cancel_that_comes_before_the_decode_saves_it() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 20)
    rig.loop.interrupt(b"a")
    rig.run(steps=1)
    assert rig.model.shapes == []
    rig.loop.cancel(b"a")
    assert rig.nothing_held()


def test_single_rows_are_not_interrupted_in_company_but_are_alone() -> None:
    for others in ((), (b"b",)):
        rig = Rig(FakeModel())
        for ident in (b"a", *others):
            rig.open(ident, 1, max_tokens=5)
        rig.run(steps=2)
        rig.model.during = lambda rig=rig: (rig.loop.interrupt(b"a"), 0)[1]
        rig.run(steps=1)
        assert rig.model.abort[0] == (b"\0" if others else b"\1")


def test_a_failed_decode_fails_its_sessions_and_no_others() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 20, max_tokens=2)

    def fail() -> int:
        raise EngineFailed("llama_decode failed with -3")

    rig.model.during = fail
    rig.run(steps=1)
    assert "-3" in str(rig.errors[b"a"])
    assert rig.nothing_held()
    rig.model.during = lambda: 0
    rig.open(b"b", 20, max_tokens=2)
    rig.run()
    assert rig.done(b"b").reason == "length"


def test_when_llama_cpp_finds_no_room_the_youngest_waits() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 10, max_tokens=3)
    rig.open(b"b", 10, max_tokens=3)
    codes = iter([NO_SLOT])
    rig.model.during = lambda: next(codes, 0)
    rig.run()
    assert rig.loop.stats().preempted == 1
    assert {rig.done(ident).usage.completion_tokens for ident in (b"a", b"b")} == {3}
    assert rig.nothing_held()


def test_when_there_is_no_room_even_for_one_it_fails_and_the_loop_lives() -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 10)
    rig.model.during = lambda: NO_SLOT
    rig.run(steps=1)
    assert rig.errors[b"a"].code == "kv_full"
    assert rig.nothing_held()


def test_a_waiting_session_can_be_cancelled() -> None:
    rig = Rig(FakeModel(n_kv=1000), n_seq_max=4)
    for number in range(5):
        rig.open(b"%d" % number, 5, max_tokens=20)
    rig.run(steps=2)
    assert rig.loop.stats().queued == 1
    rig.loop.cancel(b"4")
    assert rig.done(b"4").usage.ttft_s is None
    rig.loop.cancel_all()
    assert rig.nothing_held()


def test_cancelling_what_has_ended_does_nothing() -> None:
    rig = Rig(FakeModel())
    rig.loop.cancel(b"unknown")
    assert rig.nothing_held()


def test_an_endless_queue_is_refused() -> None:
    rig = Rig(FakeModel())
    for number in range(MAX_QUEUED + 1):
        rig.open(b"%d" % number, 5)
    assert list(rig.errors) == [b"%d" % MAX_QUEUED]
    assert rig.errors[b"%d" % MAX_QUEUED].retryable


def test_what_was_put_back_continues_where_it_was() -> None:
    rig = Rig(FakeModel(n_ctx=60, n_kv=100))
    rig.open(b"a", 5)
    rig.open(b"b", 5)
    rig.run()
    assert rig.loop.stats().preempted > 0
    for ident in (b"a", b"b"):
        done = rig.done(ident)
        assert done.reason == "length"
        assert done.usage.completion_tokens == 55
        assert len(rig.text(ident)) == 55, "each token once"
    assert rig.nothing_held()


class ThinkingModel(FakeModel):
    """Every token is a special one."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return b"<think>" if special else b""


def test_marks_that_are_special_tokens_reach_the_reader_and_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    thinking = Prompt([9], (), dialect=Dialect(Marks("<think>", "</think>")))
    rig = Rig(ThinkingModel())
    for ident, prompt in ((b"a", thinking), (b"b", Prompt([9], ()))):
        monkeypatch.setattr(FakePrompter, "prompt", lambda _, __, prompt=prompt: prompt)
        rig.open(ident, 1, max_tokens=2)
    rig.run()
    assert rig.events[b"a"][0] == Chunk("<think>", 2, reasoning=True)
    assert rig.done(b"a").usage.reasoning_tokens == 2
    assert rig.events[b"b"] == [rig.done(b"b")]


def test_a_prompt_that_ends_with_an_image_is_refused_and_its_image_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    picture = Picture(1, 2, None)
    picture.close = lambda: closed.append(picture)  # type: ignore[method-assign]
    monkeypatch.setattr(FakePrompter, "prompt", lambda *_: Prompt([9, -5, -5], (), pictures=(picture,)))
    rig = Rig(FakeModel())
    rig.open(b"a", 1)
    rig.run()
    assert "ends with an image" in str(rig.errors[b"a"])
    assert closed == [picture]
    assert rig.nothing_held()


def test_a_session_that_has_no_token_to_come_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(FakeModel())
    rig.open(b"a", 20, max_tokens=2)
    rig.open(b"b", 20, max_tokens=2)
    doomed = rig.loop._room.waiting[0].sampler

    def sample(self: FakeSampler, ctx: Any, row: int) -> int:
        if self is doomed:
            raise EngineFailed("the model computed no numbers", code="nan")
        return 65

    monkeypatch.setattr(FakeSampler, "sample", sample)
    rig.run()
    assert rig.errors[b"a"].code == "nan"
    assert rig.done(b"b").usage.completion_tokens == 2
    assert rig.nothing_held()


def test_what_was_guessed_right_needs_no_decode_of_its_own() -> None:
    rig = Rig(FakeModel(), speculation="always")
    rig.open(b"a", 8, max_tokens=20)
    rig.run()
    assert rig.text(b"a") == "A" * 20
    assert len(rig.model.shapes) < 8
    stats = rig.loop.stats()
    assert stats.drafted == stats.accepted == 20 - len(rig.model.shapes)
    assert rig.nothing_held()


@pytest.mark.parametrize("seed", range(8))
def test_guesses_change_nothing_of_what_is_said(seed: int) -> None:
    random = Random(seed)
    period = [random.randrange(65, 70) for _ in range(random.randrange(2, 6))]
    surprises = {at: random.randrange(60, 90) for at in range(200) if random.random() < 0.15}
    surprises[random.randrange(40, 160)] = END
    said = {}
    for mode in ("off", "always"):
        rig = Rig(FakeModel(n_ctx=120, n_kv=200), speculation=mode)
        rig.model.says = lambda position: surprises.get(position, period[position % len(period)])
        for ident, prompt in ((b"a", 5), (b"b", 30), (b"c", 11)):
            rig.open(ident, prompt)
        rig.run()
        said[mode] = {ident: (rig.text(ident), rig.done(ident).reason) for ident in rig.events}
        assert rig.nothing_held()
    assert rig.loop.stats().accepted > 0
    assert said["off"] == said["always"]


class FakeRetained:
    """Keeps nothing, and notes what it was asked to keep."""

    def __init__(self) -> None:
        self.tree = SimpleNamespace(tokens=0, held=0, evicted=0)
        self.hits = self.hit_tokens = 0
        self.asked: list[int] = []

    def reusable(self, tokens: list[int]) -> int:
        return 0

    kept = reusable

    def attach(self, key: int, tokens: list[int], length: int) -> int:
        return 0

    def keep(self, key: int, tokens: list[int]) -> None:
        self.asked.append(len(tokens))


def test_prompts_are_kept_once_read_and_texts_when_they_end_or_step_back_but_not_when_cancelled() -> None:
    retained = FakeRetained()
    rig = Rig(FakeModel(), retained=retained)
    rig.open(b"a", 10, max_tokens=4)
    rig.run()
    assert retained.asked == [10, 13], "the last token of a reply was never computed"
    rig.open(b"b", 20, max_tokens=4)
    rig.run(steps=1)
    rig.loop.cancel(b"b")
    assert retained.asked == [10, 13]
    assert rig.nothing_held()
