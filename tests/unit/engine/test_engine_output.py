"""Thoughts, answers and calls of a reply become events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.engine.output import Dialect
from hali.engine.reasoning import KNOWN, Marks, ThoughtReader, left_open, recognise
from hali.engine.session import Session
from hali.engine.telling import Drawn
from hali.engine.tool_formats import GENERIC
from hali.model.generation import (
    Candidate,
    Chunk,
    Done,
    GenerationEvent,
    SamplingParams,
    TokenLogprob,
    ToolCall,
    ToolCalled,
)

THINK = KNOWN[0]
BOTH = Dialect(THINK, calls=GENERIC, schemas={"f": {}})
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def read(marks: Marks, inside: bool, *pieces: str) -> tuple[str, str]:
    """(thoughts, answer)."""
    reader = ThoughtReader(marks, inside)
    parts = [part for piece in pieces for part in reader.push(piece)] + reader.finish()
    return "".join(text for text, thought in parts if thought), "".join(text for text, thought in parts if not thought)


@pytest.mark.parametrize(
    ("inside", "reply", "thoughts", "answer"),
    [
        (False, "<think>\nHm.\n\nYes.\n</think>\n\nNo.\n", "Hm.\n\nYes.", "No.\n"),
        (False, "\n<think>Hm.</think>No.", "Hm.", "No."),
        (False, "<think></think>No.", "", "No."),
        (False, "<think>Hm. </thin", "Hm. </thin", ""),
        (False, "<think>\n", "", ""),
        (False, "No. <think>Hm.</think>", "", "No. <think>Hm.</think>"),
        (False, " <thi", "", " <thi"),
        (False, "", "", ""),
        (True, "Hm. <b>\n</think>\nNo.", "Hm. <b>", "No."),
        (True, "\n\n</think>\n\nNo.", "", "No."),
        (True, "Hm.", "Hm.", ""),
    ],
)
def test_thoughts_are_told_from_the_answer(inside: bool, reply: str, thoughts: str, answer: str) -> None:
    assert read(THINK, inside, reply) == (thoughts, answer)
    assert read(THINK, inside, *reply) == (thoughts, answer)


SNIPPETS = ["<think>", "</think>", "<", "</thi", "nk>", "a", " ", "\n", "words", "é🦙"]


@given(st.booleans(), st.lists(st.sampled_from(SNIPPETS)).map("".join), st.data())
def test_how_a_reply_is_cut_makes_no_difference(inside: bool, reply: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(reply)), max_size=8)))
    pieces = [reply[start:end] for start, end in pairwise([0, *cuts, len(reply)])]
    whole = read(THINK, inside, reply)
    assert read(THINK, inside, *pieces) == whole
    kept = "".join("".join(whole).split())
    assert kept in {"".join(text.split()) for text in (reply, _without_marks(reply, inside))}


def _without_marks(reply: str, inside: bool) -> str:
    rest = reply if inside else reply.lstrip().removeprefix("<think>")
    return rest.replace("</think>", "", 1)


def test_marks_are_recognised_by_the_template() -> None:
    assert recognise("{{ content.split('</think>')[-1] }}") == THINK
    assert recognise("[THINK]{{ x }}[/THINK]") == KNOWN[1]
    assert recognise("<|im_start|>") is None
    assert left_open("<|assistant|><think>\n", THINK) and not left_open("<think>\n\n</think>\n\n", THINK)


# --- events


def ids() -> Any:
    numbers = count()
    return lambda: f"call_{next(numbers)}"


def events(dialect: Dialect, *pieces: str) -> list[Chunk | ToolCalled]:
    reader = dialect.reader(ids())
    assert reader is not None
    return [event for piece in pieces for event in reader.read(piece, 1)] + reader.read("", 0, last=True)


def test_calls_are_numbered_and_stand_behind_what_was_said() -> None:
    assert events(BOTH, f"<think>Hm.</think>Well.{CALL}{CALL}") == [
        Chunk("Hm.", 0, reasoning=True),
        Chunk("Well.", 0),
        ToolCalled(0, ToolCall("call_0", "f", "{}")),
        ToolCalled(1, ToolCall("call_1", "f", "{}")),
    ]


def test_a_call_inside_a_thought_is_a_thought() -> None:
    assert events(BOTH, f"<think>{CALL}</think>No.") == [Chunk(CALL, 0, reasoning=True), Chunk("No.", 0)]


def test_ids_are_opaque_and_differ() -> None:
    reader = BOTH.reader()
    assert reader is not None
    found = [event.call.id for event in reader.read(CALL + CALL, 1) if isinstance(event, ToolCalled)]
    assert len(set(found)) == 2 and all(ident.startswith("call_") for ident in found)


def test_a_reply_that_is_text_only_needs_no_reader() -> None:
    assert Dialect().reader() is None


def test_only_marks_of_the_dialect_are_wanted_of_special_tokens() -> None:
    reader = BOTH.reader()
    assert reader is not None
    assert reader.wants("<tool_call>") and reader.wants("</think>") and not reader.wants("<|im_end|>")


# --- gpt-oss

HARMONY = Dialect(calls=GENERIC, harmony=True)
OSS_CALL = '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}'
OSS_CASES: list[tuple[str, list[Any]]] = [
    ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.", [("Hm.", True), ("No.", False)]),
    (f"<|channel|>analysis<|message|>Hm.<|end|>{OSS_CALL}<|call|>", [("Hm.", True), "f"]),
    (f"<|channel|>analysis<|message|>Hm.<|end|>{OSS_CALL}", [("Hm.", True), "f"]),
    (' to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>', ["f"]),
    ("<|channel|>commentary<|message|>Let me see.<|end|>" + OSS_CALL, [("Let me see.", False), "f"]),
    ("<|channel|>commentary to=functions.f<|message|>{a}<|call|>", [("{a}", False)]),
    ("<|channel|>analysis<|message|>Hm <|e", [("Hm <|e", True)]),
    ("Plain < text.", [("Plain < text.", False)]),
    ("<|channel|>fin", []),
    ("", []),
]  # fmt: skip


def told(events: list[Chunk | ToolCalled]) -> list[Any]:
    """(text, thought) with neighbours as one, and names of functions."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, ToolCalled):
            found.append(event.call.name)
        elif found and isinstance(found[-1], tuple) and found[-1][1] == event.reasoning:
            found[-1] = (found[-1][0] + event.text, event.reasoning)
        else:
            found.append((event.text, event.reasoning))
    return found


@pytest.mark.parametrize(("reply", "expected"), OSS_CASES)
def test_messages_of_gpt_oss_are_told_apart(reply: str, expected: list[Any]) -> None:
    assert told(events(HARMONY, reply)) == expected
    assert told(events(HARMONY, *reply)) == expected


def test_gpt_oss_thoughts_are_counted_and_its_marks_wanted() -> None:
    reader = HARMONY.reader()
    assert reader is not None and reader.wants("<|channel|>") and not reader.wants("<think>")
    for piece in ("<|channel|>", "analysis", "<|message|>", "Hm", ".", "<|end|>", "<|start|>"):
        reader.read(piece, 1)
    assert reader.thought_tokens == 4


# --- sessions


class NoSampler:
    def drawn(self) -> Drawn:
        return Drawn()

    def sample(self, ctx: Any, row: int) -> int:
        raise AssertionError("not asked here")

    def close(self) -> None:
        return None


def session(dialect: Dialect, **sampling: Any) -> Session:
    params = SamplingParams(**sampling)
    return Session(b"s" * 16, [1], params, stops=(), n_ctx=99, sampler=NoSampler(), reader=dialect.reader(ids()))


def accepted(one: Session, *pieces: str) -> Iterator[GenerationEvent]:
    for piece in pieces:
        yield from one.accept(7, piece.encode(), False)


def test_a_reply_with_a_call_ends_for_it_and_counts_all_its_tokens() -> None:
    one = session(BOTH)
    found = [*accepted(one, "Hi", " <tool", CALL.removeprefix("<tool"), "\n"), *one.accept(2, b"", True)]
    assert found[:2] == [Chunk("Hi", 1), ToolCalled(0, ToolCall("call_0", "f", "{}"), 2)]
    assert isinstance(found[2], Done) and found[2].reason == "tool_calls" and found[2].usage.completion_tokens == 4


def test_one_call_is_enough_where_parallel_ones_are_not_wanted() -> None:
    one = session(Dialect(calls=GENERIC, parallel=False))
    found = list(accepted(one, CALL + CALL))
    assert [type(event) for event in found] == [ToolCalled, Done]
    assert isinstance(found[1], Done) and found[1].reason == "tool_calls"


def test_a_call_that_max_tokens_cut_is_text() -> None:
    found = list(accepted(session(BOTH, max_tokens=2), "<tool_call>", '{"name"'))
    assert found[0] == Chunk('<tool_call>{"name"', 2)
    assert isinstance(found[1], Done) and found[1].reason == "length"


def test_tokens_of_thoughts_are_counted_with_their_marks() -> None:
    one = session(BOTH)
    found = [*accepted(one, "<think>", "Hm", ".", "</think>", "No", "."), *one.accept(2, b"", True)]
    assert found[0] == Chunk("Hm", 2, reasoning=True)
    done = found[-1]
    assert isinstance(done, Done) and done.reason == "stop"
    assert (done.usage.reasoning_tokens, done.usage.completion_tokens) == (4, 6)


def test_a_special_token_is_spelled_for_the_reader_only() -> None:
    assert session(BOTH).spelled(b"<tool_call>") == b"<tool_call>"
    assert session(BOTH).spelled(b"<|im_end|>") == b"" == session(Dialect()).spelled(b"<tool_call>")


class Telling(NoSampler):
    """Tells a logprob of each token, the number of the token."""

    def __init__(self) -> None:
        self._count = 0

    def drawn(self) -> Drawn:
        self._count += 1
        return Drawn(TokenLogprob(Candidate(7, b"", -float(self._count))))


def test_logprobs_of_a_calls_tokens_are_not_told_with_the_text_behind_it() -> None:
    reader = BOTH.reader(ids())
    one = Session(b"s" * 16, [1], SamplingParams(), stops=(), n_ctx=99, sampler=Telling(), reader=reader)
    called, text = accepted(one, CALL[:20], CALL[20:], "and")
    assert isinstance(called, ToolCalled) and isinstance(text, Chunk)
    assert [told.chosen.logprob for told in text.logprobs] == [-3.0]


def test_logprobs_of_an_answer_begin_where_it_does_and_not_with_the_end_of_the_thoughts() -> None:
    reader = Dialect(THINK, inside=True).reader(ids())
    one = Session(b"s" * 16, [1], SamplingParams(), stops=(), n_ctx=99, sampler=Telling(), reader=reader)
    events = accepted(one, "Hm.", "\n", "</", "think", ">", "\n\n", "So", " it", " is.")
    answer = [event for event in events if isinstance(event, Chunk) and not event.reasoning]
    assert "".join(event.text for event in answer) == "So it is."
    assert [told.chosen.logprob for event in answer for told in event.logprobs] == [-7.0, -8.0, -9.0]


def test_a_token_with_the_end_of_the_thoughts_and_the_begin_of_the_answer_is_of_the_answer() -> None:
    reader = Dialect(THINK, inside=True).reader(ids())
    one = Session(b"s" * 16, [1], SamplingParams(), stops=(), n_ctx=99, sampler=Telling(), reader=reader)
    events = accepted(one, "Hm", "</think>So", "!")
    answer = [event for event in events if isinstance(event, Chunk) and not event.reasoning]
    assert [told.chosen.logprob for event in answer for told in event.logprobs] == [-2.0, -3.0]
