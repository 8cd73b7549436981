"""Replies in a wanted format, with a real vocabulary and the real model: whatever is drawn fits, and it ends."""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from hali.engine import constraint as module
from hali.engine.backend import Model
from hali.engine.chat import Prompter
from hali.engine.constraint import Constraint, Formats
from hali.engine.loop import Loop
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import HaliError, UsageError
from hali.model.generation import (
    Chunk,
    Done,
    GenerateRequest,
    GenerationEvent,
    Message,
    ReplyFormat,
    SamplingParams,
)
from tests.fakes import tiny_models
from tests.schemas import random_schema
from tests.vocabulary import Vocabulary

pytestmark = pytest.mark.model

ENOUGH = 600  # tokens; the longest instance of a random schema is shorter
DEADLINE_S = 60.0
FORMATS_CHECKED = jsonschema.FormatChecker(["date", "ipv4", "uuid"])


@pytest.fixture(scope="module")
def vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    found = Vocabulary(smollm2)
    yield found
    found.close()


@pytest.fixture(scope="module")
def formats(vocabulary: Vocabulary) -> Formats:
    return Formats(vocabulary)


def made(formats: Formats, **wanted: Any) -> Constraint:
    found = formats.constraint(ReplyFormat(**wanted))
    assert found is not None
    return found


def drawn(vocabulary: Vocabulary, limits: Constraint, seed: int) -> str:
    """A reply of tokens drawn blindly from those that are allowed."""
    rng = np.random.default_rng(seed)
    data = b""
    for _ in range(ENOUGH):
        token = int(rng.choice(np.flatnonzero(limits.allowed())))
        if vocabulary.is_end(token):
            return data.decode()
        limits.take(token)
        data += vocabulary.piece(token)
        if limits.complete:
            return data.decode()
    raise AssertionError(f"no end after {ENOUGH} tokens: {data[-200:]!r}")


def fits(text: str, schema: Any) -> None:
    jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator, format_checker=FORMATS_CHECKED)


def takes(limits: Constraint, tokens: list[int]) -> bool:
    """Whether the whole text may be the reply."""
    for token in tokens:
        if not limits.allows(token):
            return False
        limits.take(token)
    return limits.complete or bool(limits.allowed()[2])


# --- schemas


@pytest.mark.parametrize("seeds", [range(at, at + 50) for at in range(0, 200, 50)], ids=str)
def test_whatever_is_drawn_under_a_schema_is_an_instance(
    vocabulary: Vocabulary, formats: Formats, seeds: range
) -> None:
    for seed in seeds:
        schema = random_schema(random.Random(seed))
        fits(drawn(vocabulary, made(formats, schema=schema), seed), schema)


@pytest.fixture
def sentencepiece(tmp_path: Path) -> Iterator[Vocabulary]:
    """One that puts a space in front of every text."""
    found = Vocabulary(tiny_models.llama().write(tmp_path / "tiny.gguf"))
    assert found.piece(found.tokenize("{")[0]) == b" "
    yield found
    found.close()


def test_a_vocabulary_that_puts_a_space_in_front_of_texts_keeps_to_schemas_and_grammars(
    sentencepiece: Vocabulary,
) -> None:
    formats = Formats(sentencepiece)
    for seed in range(25):
        schema = random_schema(random.Random(seed))
        fits(drawn(sentencepiece, made(formats, schema=schema), seed), schema)
    forced = 'root ::= "{\\"the hell\\": " [0-9] "}"'
    assert drawn(sentencepiece, made(formats, grammar=forced), 1).startswith('{"the hell": ')


def _replies(path: Path, seeds: range) -> dict[int, list[GenerationEvent]]:
    """Of the real model, eight at a time, one random schema each."""
    model = Model(path, EngineOptions(n_ctx=1024, n_kv=8192, threads=1), NativeLog(), lambda _: None)
    events: dict[int, list[GenerationEvent]] = {seed: [] for seed in seeds}

    def fail(ident: bytes, error: HaliError) -> None:
        raise AssertionError(f"seed {int(ident)}: {error}")

    loop = Loop(model, Prompter(model), 8, lambda ident, _, event: events[int(ident)].append(event), fail)
    for seed in seeds:
        sampling = SamplingParams(temperature=0.8, seed=seed, max_tokens=ENOUGH)
        wanted = ReplyFormat(schema=random_schema(random.Random(seed)))
        loop.open(
            b"%016d" % seed, GenerateRequest((Message("user", "Answer in JSON."),), sampling=sampling, format=wanted)
        )
    while loop.busy:
        loop.admit()
        loop.step()
    model.close()
    return events


def _all_fit(path: Path, seeds: range) -> None:
    for seed, events in _replies(path, seeds).items():
        done = events[-1]
        assert isinstance(done, Done) and done.reason == "stop", f"seed {seed} did not end by itself"
        text = "".join(event.text for event in events if isinstance(event, Chunk))
        fits(text, random_schema(random.Random(seed)))


def test_each_reply_of_the_model_to_a_random_schema_is_an_instance(smollm2: Path) -> None:
    _all_fit(smollm2, range(25))


@pytest.mark.long
def test_each_reply_of_the_model_to_two_hundred_random_schemas_is_an_instance(smollm2: Path) -> None:
    _all_fit(smollm2, range(200))


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        (True, ['{"a": [1, "b"]}', "null"], ["a"]),
        ({"type": "string", "format": "path"}, ['"/a/b"'], ["1"]),
        ({"properties": {"format": {"const": "path"}}}, ['{"format":"path"}'], ['{"format":"x"}']),
        ({"type": "string", "format": "date-time"}, ['"2024-02-29T10:00:00Z"'], ['"2024-02-30"', '"now"']),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"日本"', '"abc"'], ['"a"', '"abcd"']),
        ({"type": "integer", "exclusiveMinimum": 9, "maximum": 12}, ["10", "12"], ["9", "13", "1e1"]),
        ({"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 2}, ["[1]", "[1, 1]"], ["[]", "[1,1,1]"]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": ["null", "array"], "items": {"$ref": "#"}}}}, ["[[null],[]]"], ["[1]"]),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, ['{\n  "a": 1\n}'], ["{}"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_allows_its_instances_and_nothing_else(
    vocabulary: Vocabulary, formats: Formats, schema: Any, yes: list[str], no: list[str]
) -> None:
    for text in yes:
        assert takes(made(formats, schema=schema), vocabulary.tokenize(text)), text
    for text in no:
        assert not takes(made(formats, schema=schema), vocabulary.tokenize(text)), text


def test_white_space_between_tokens_of_json_ends(vocabulary: Vocabulary, formats: Formats) -> None:
    limits = made(formats, schema={"type": "array", "items": {"type": "null"}})
    limits.take(vocabulary.tokenize("[")[0])
    for _ in range(ENOUGH):
        allowed = limits.allowed()
        blank = [
            t for t in np.flatnonzero(allowed) if not vocabulary.is_end(int(t)) and vocabulary.piece(int(t)).isspace()
        ]
        if not blank:
            return
        limits.take(int(blank[0]))
    raise AssertionError("it goes on for ever")


def _nested(deep: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(deep):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (False, "nothing is an instance"),
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "text"}, "text"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"$ref": "http://192.0.2.1/schema"}, "192.0.2.1"),
        ({"type": "string", "pattern": "("}, "unclosed"),
        ({"type": "string", "format": "uri-template"}, "uri-template"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 1}]}, "oneOf"),
        ({"$ref": "#"}, "NoExtension"),
        ({"enum": ["x" * module.MAX_SCHEMA_BYTES]}, "bytes"),
        (_nested(900), "cannot be used: it is nested too deeply"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_schema_that_cannot_be_had_is_refused_with_the_reason(formats: Formats, schema: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        formats.constraint(ReplyFormat(schema=schema))
    assert caught.value.code == "schema"


def test_a_schema_that_is_too_long_is_refused_before_it_is_rewritten(
    formats: Formats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "closed", lambda _: pytest.fail("rewritten"))
    with pytest.raises(UsageError, match="bytes"):
        formats.constraint(ReplyFormat(schema={"anyOf": [{}] * module.MAX_SCHEMA_BYTES}))


def test_a_schema_and_a_grammar_together_are_refused(formats: Formats) -> None:
    with pytest.raises(UsageError, match="not both"):
        formats.constraint(ReplyFormat(schema=True, grammar='root ::= "a"'))


def test_a_format_is_compiled_once_and_each_reply_begins_anew(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Formats(vocabulary)
    schema = {"enum": ["ab", "ac"]}
    first = made(own, schema=schema)
    monkeypatch.setattr(own, "_compile", lambda *_: pytest.fail("compiled again"))
    for token in vocabulary.tokenize('"ab'):
        first.take(token)
    assert takes(made(own, schema=schema), vocabulary.tokenize('"ac"'))


# --- what could kill or stop the worker


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a"},
        {"type": "object", "patternProperties": {"a": {}}},
        {"type": "string", "format": "date"},
        {"allOf": [{"type": "string"}, {"maxLength": 3}]},
        {"type": "integer", "multipleOf": 7},
        {"type": "array", "items": {"type": "number", "multipleOf": 0.5}},
        {"enum": ["x" * module._SMALL]},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_schema_that_may_be_expensive_is_tried_in_another_process_first(
    formats: Formats, monkeypatch: pytest.MonkeyPatch, schema: Any
) -> None:
    monkeypatch.setattr(module, "survives", lambda _: False)
    monkeypatch.setattr(formats, "_known", OrderedDict())
    with pytest.raises(UsageError, match="too complex"):
        formats.constraint(ReplyFormat(schema=schema))


def test_a_plain_schema_costs_no_other_process(formats: Formats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "survives", lambda _: pytest.fail("tried"))
    monkeypatch.setattr(formats, "_known", OrderedDict())
    made(formats, schema={"type": "object", "properties": {"a": {"type": "number", "minimum": 0.1, "maximum": 1e9}}})


def _rules(count: int, each: str) -> str:
    rules = [each.format(at, at + 1) for at in range(count)]
    return "\n".join(["root ::= r0", *rules, f'r{count} ::= "a"'])


CHAIN = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(20_000)}
HOSTILE = {
    "references as deep as a stack": {"schema": {"$defs": {**dict(list(CHAIN.items())[:5000]), "d5000": {}}, "$ref": "#/$defs/d0"}},
    "more than may be sent": {"schema": {"$defs": {**CHAIN, "d20000": {}}, "$ref": "#/$defs/d0"}},
    "patterns that multiply": {"schema": {"allOf": [{"type": "string", "pattern": f".*a.{{{n}}}"} for n in range(3, 20)]}},
    "a divisor as large as it may be": {"schema": {"type": "integer", "multipleOf": 999_983}},
    "divisors that multiply": {"schema": {"anyOf": [{"type": "integer", "multipleOf": n} for n in (99_991, 99_989)]}},
    "a word too many": {"schema": {"enum": [str(n) for n in range(30_000)]}},
    "rules as deep as a stack": {"grammar": _rules(8000, "r{0} ::= r{1}")},
    "both ways, sixty times": {"grammar": _rules(60, "r{0} ::= r{1} | r{1}")},
    "brackets as deep as a stack": {"grammar": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000},
    "repetitions of repetitions": {"grammar": 'root ::= (((("a"{0,9999}){0,9999}){0,9999}){0,9999})'},
    "repetitions that overlap": {"grammar": "root ::= ((([a-z]{0,99}){0,99}){0,99}){0,99}"},
    "hidden left recursion": {"grammar": 'root ::= b root "x" | "y"\nb ::= c c\nc ::= "" | "z"'},
    "no end": {"grammar": 'root ::= "a" root'},
    "nothing": {"grammar": "root ::= root"},
}  # fmt: skip


async def test_hostile_schemas_and_grammars_are_answered_and_the_worker_lives(smollm2: Path) -> None:
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S * 2):
        info = await engine.start(smollm2, EngineOptions(n_ctx=512))
        try:
            for name, wanted in HOSTILE.items():
                request = GenerateRequest(
                    prompt="a", sampling=SamplingParams(max_tokens=8, seed=1), format=ReplyFormat(**wanted)
                )
                try:
                    events = [event async for event in engine.generate(request)]
                    assert isinstance(events[-1], Done), name
                except UsageError as error:
                    assert error.code in ("schema", "grammar"), name
            request = GenerateRequest(prompt="Once", sampling=SamplingParams(max_tokens=3, temperature=0))
            assert [event async for event in engine.generate(request)]
            assert engine.pid == info.pid
            assert engine.stats().samplers == 0
        finally:
            await engine.stop()
