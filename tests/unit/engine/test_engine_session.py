"""What becomes of sampled tokens."""

from __future__ import annotations

from typing import Any

import pytest

from hali.engine.output import Dialect, ReplyReader
from hali.engine.reasoning import Marks
from hali.engine.schedule import Work
from hali.engine.session import Session
from hali.engine.telling import Drawn
from hali.model.generation import Candidate, Chunk, Done, SamplingParams, TokenLogprob, Usage


class NoSampler:
    def __init__(self, *told: Drawn) -> None:
        self._told = list(told)

    def drawn(self) -> Drawn:
        return self._told.pop(0) if self._told else Drawn()

    def sample(self, ctx: Any, row: int) -> int:
        raise AssertionError("not asked here")

    def close(self) -> None:
        return None


def session(
    n_ctx: int = 100, sampler: NoSampler | None = None, reader: ReplyReader | None = None, **sampling: Any
) -> Session:
    times = iter(range(100))
    return Session(
        b"s" * 16,
        [1, 2, 3],
        SamplingParams(**sampling),
        stops=("<eos>",),
        n_ctx=n_ctx,
        sampler=sampler or NoSampler(),
        reader=reader,
        clock=lambda: float(next(times)),
    )


def test_a_token_becomes_a_chunk() -> None:
    assert session().accept(7, b"hi", False) == [Chunk("hi", 1)]


def test_tokens_without_text_are_counted_with_the_next_text() -> None:
    one = session()
    llama = "🦙".encode()
    assert one.accept(7, llama[:2], False) == []
    assert one.accept(8, llama[2:], False) == [Chunk("🦙", 2)]


def test_the_models_own_end_is_a_stop_and_is_not_counted() -> None:
    one = session()
    one.accept(7, b"hi", False)
    assert one.accept(2, b"", True) == [Done("stop", Usage(3, 1, 1.0, 2.0))]


def test_a_stop_string_of_the_chat_format_ends_the_reply() -> None:
    assert session().accept(7, b"hi<eos>", False) == [Chunk("hi", 1), Done("stop", Usage(3, 1, 1.0, 2.0))]


def test_max_tokens_ends_with_length_and_gives_out_what_was_held_back() -> None:
    one = session(max_tokens=2, stop=("END",))
    assert one.accept(7, b"the", False) == [Chunk("the", 1)]
    events = one.accept(8, b" EN", False)
    assert events[0] == Chunk(" EN", 1)
    assert isinstance(events[1], Done) and events[1].reason == "length"


def test_max_tokens_does_not_cut_a_character() -> None:
    one, llama = session(max_tokens=1), "🦙".encode()
    assert [one.accept(7, llama[at : at + 1], False) for at in range(3)] == [[], [], []]
    events = one.accept(8, llama[3:], False)
    assert events[0] == Chunk("🦙", 4)
    assert isinstance(events[1], Done) and events[1].reason == "length"


def test_a_full_context_does() -> None:
    one = session(n_ctx=4, max_tokens=1)
    assert isinstance(one.accept(7, b"a\xf0", False)[-1], Done)


def test_the_context_bounds_a_reply_without_max_tokens() -> None:
    one = session(n_ctx=5)
    one.accept(7, b"a", False)
    assert isinstance(one.accept(8, b"b", False)[-1], Done)


def test_a_reply_cancelled_before_its_first_token_has_no_ttft() -> None:
    assert session().finish("cancelled") == [Done("cancelled", Usage(3, 0, None, 1.0))]


def test_a_session_that_was_put_back_computes_all_its_text_again() -> None:
    one = session()
    one.key, one.done = 4, 3
    one.accept(7, b"a", False)
    assert one.work() == Work(4, 3, 1, decoding=True, frees=3)
    one.done = 0
    assert one.work() == Work(4, 0, 4, decoding=False, frees=0)


def test_the_stop_string_that_ended_the_reply_is_told_but_not_one_of_the_chat_format() -> None:
    assert session(stop=("no", "END")).accept(7, b"hi END", False)[-1] == Done("stop", Usage(3, 1, 1.0, 2.0), "END")
    assert session(stop=("END",)).accept(7, b"hi<eos>", False)[-1] == Done("stop", Usage(3, 1, 1.0, 2.0))


def test_a_stop_string_does_not_count_before_min_tokens() -> None:
    one = session(stop=("END",), min_tokens=1)
    assert one.accept(7, b"aEND", False) == [Chunk("aEND", 1)]
    events = one.accept(8, b"bEND", False)
    assert events[0] == Chunk("b", 1) and isinstance(events[1], Done) and events[1].stop == "END"


def test_a_stop_string_that_begins_before_min_tokens_and_ends_after_counts() -> None:
    one = session(stop=("END",), min_tokens=1)
    assert one.accept(7, b"aEN", False) == [Chunk("a", 1)]
    assert isinstance(one.accept(8, b"D", False)[-1], Done)


def test_a_reply_whose_format_is_complete_ends_without_another_token() -> None:
    one = session(sampler=NoSampler(Drawn(complete=True)))
    events = one.accept(7, b"}", False)
    assert events[0] == Chunk("}", 1) and isinstance(events[1], Done) and events[1].reason == "stop"


def test_logprobs_go_out_with_the_text_of_their_tokens() -> None:
    logprobs = [TokenLogprob(Candidate(token, b"", -1.0)) for token in range(4)]
    one = session(sampler=NoSampler(*map(Drawn, logprobs)), stop=("END",))
    assert one.accept(0, b"the E", False) == [Chunk("the ", 1, logprobs=(logprobs[0],))]
    assert one.accept(1, b"N", False) == []
    assert one.accept(2, b"V", False) == [Chunk("ENV", 2, logprobs=(logprobs[1], logprobs[2]))]
    assert isinstance(one.accept(3, b"END", False)[-1], Done), "and none for what the stop string swallowed"


def test_logprobs_of_tokens_that_became_no_text_go_out_at_the_end() -> None:
    logprobs = [TokenLogprob(Candidate(token, b"", -1.0)) for token in range(4)]
    cut = session(sampler=NoSampler(*map(Drawn, logprobs)), max_tokens=3)
    events = [event for piece in (b"a", b"\x80", b"") for event in cut.accept(0, piece, False)]
    assert events[:-1] == [Chunk("a", 1, logprobs=(logprobs[0],)), Chunk("", 2, logprobs=tuple(logprobs[1:3]))]
    stopped = session(sampler=NoSampler(*map(Drawn, logprobs)), stop=("END",))
    events = [event for piece in (b"a", b"\xe2", b"EN", b"D") for event in stopped.accept(0, piece, False)]
    told = [logprob for event in events[:-1] if isinstance(event, Chunk) for logprob in event.logprobs]
    assert told == logprobs[:2], "and none for what the stop string swallowed"


@pytest.mark.parametrize(("end", "told"), [(b"</think>", 0), (b"</think>a", 1)])
def test_the_end_of_thoughts_is_no_token_of_an_answer_that_did_not_come(end: bytes, told: int) -> None:
    logprobs = [TokenLogprob(Candidate(token, b"", -1.0)) for token in range(3)]
    reader = Dialect(marks=Marks("<think>", "</think>"), inside=True).reader()
    one = session(sampler=NoSampler(*map(Drawn, logprobs)), reader=reader, max_tokens=2)
    events = [event for piece in (b"hm", end) for event in one.accept(0, piece, False)]
    answer = [event for event in events if isinstance(event, Chunk) and not event.reasoning]
    assert sum(len(event.logprobs) for event in answer) == told


def test_bytes_that_are_no_text_do_not_put_the_end_of_thoughts_into_the_answer() -> None:
    logprobs = [TokenLogprob(Candidate(token, b"", -1.0)) for token in range(4)]
    reader = Dialect(marks=Marks("<think>", "</think>"), inside=True).reader()
    one = session(sampler=NoSampler(*map(Drawn, logprobs)), reader=reader)
    events = [event for piece in (b"hm", b"\x80\x80", b"</think>", b"a") for event in one.accept(0, piece, False)]
    assert events[-1] == Chunk("a", 3, logprobs=(logprobs[3],))


def test_usage_tells_the_wait_before_the_first_row_and_what_was_not_computed() -> None:
    one = session()
    one.begin()
    one.begin()
    one.cached = 2
    usage = one.finish("stop")[-1]
    assert isinstance(usage, Done)
    assert (usage.usage.queue_s, usage.usage.cached_tokens, usage.usage.total_s) == (1.0, 2, 2.0)
