"""What a reply must look like, under the names of OpenAI, llama.cpp and vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hali.api.refusals import invalid, unsupported
from hali.api.regex_grammar import grammar_of, spelled
from hali.model.generation import ReplyFormat

Schema = dict[str, Any] | bool
MAX_CHOICES = 128 * 1024  # characters of all texts, and the number of them: engines take no longer grammar
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


class NamedSchema(msgspec.Struct):
    """A JSON schema with a name, which says nothing to the model."""

    name: str | None = None
    schema: Schema | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct):
    """`text`, `json_object` or `json_schema`; `schema` beside `type` is how llama.cpp and the responses API say it."""

    type: str
    json_schema: NamedSchema | None = None
    schema: Schema | None = None
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class StructuredOutputs(msgspec.Struct):
    """vLLM's newer way to say it."""

    json: Schema | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class FormatFields(msgspec.Struct, kw_only=True):
    """The fields of a body, of which at most one may ask for something."""

    response_format: ResponseFormat | None = None
    json_schema: Schema | None = None  # llama.cpp
    grammar: str | None = None  # llama.cpp
    guided_json: Schema | str | None = None  # vLLM, this and the following
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None


def reply_format(body: FormatFields) -> ReplyFormat | None:
    """What the engine is told, None = anything; `UsageError` naming the field for what it cannot hold to, or two at once."""
    asked = list(_asked(body))
    if len(asked) > 1:
        raise invalid(asked[1][0], f"cannot be combined with {asked[0][0]}")
    return asked[0][1] if asked else None


def _asked(body: FormatFields) -> Iterator[tuple[str, ReplyFormat]]:
    """(field, what it asks for) for all that do."""
    if body.response_format and (told := of_response_format(body.response_format, "response_format")):
        yield "response_format", told
    if body.json_schema is not None:
        yield "json_schema", ReplyFormat(schema=body.json_schema)
    if body.grammar:
        yield "grammar", ReplyFormat(grammar=body.grammar)
    vllm = StructuredOutputs(body.guided_json, body.guided_regex, body.guided_choice, body.guided_grammar)
    yield from _structured(vllm, "guided_")
    if body.structured_outputs:
        yield from _structured(body.structured_outputs, "structured_outputs.")


def of_response_format(asked: ResponseFormat, where: str) -> ReplyFormat | None:
    """What `response_format` (chat) or `text.format` (responses) asks for."""
    if asked.type == "text":
        return None
    if asked.type == "json_object":
        return ReplyFormat(schema=_ANY_OBJECT if asked.schema is None else asked.schema)
    if asked.type != "json_schema":
        raise unsupported(where, f"type {asked.type[:40]!r} is not supported, only text, json_object, json_schema")
    schema = asked.json_schema.schema if asked.json_schema else asked.schema
    if schema is None:
        raise invalid(f"{where}.json_schema.schema" if asked.json_schema else where, "the schema is missing")
    return ReplyFormat(schema=schema)


def _structured(asked: StructuredOutputs, prefix: str) -> Iterator[tuple[str, ReplyFormat]]:
    if asked.json is not None:
        yield f"{prefix}json", ReplyFormat(schema=_schema(asked.json, f"{prefix}json"))
    if asked.regex is not None:
        yield f"{prefix}regex", ReplyFormat(grammar=_regex(asked.regex, f"{prefix}regex"))
    if asked.choice is not None:
        if not asked.choice:
            raise invalid(f"{prefix}choice", "is empty: nothing could be answered")
        if len(asked.choice) + sum(map(len, asked.choice)) > MAX_CHOICES:
            raise invalid(f"{prefix}choice", f"is too long: at most {MAX_CHOICES} characters in all")
        yield f"{prefix}choice", ReplyFormat(grammar=one_of(asked.choice))
    if asked.grammar:
        yield f"{prefix}grammar", ReplyFormat(grammar=asked.grammar)
    if asked.json_object:
        yield f"{prefix}json_object", ReplyFormat(schema=_ANY_OBJECT)


def _schema(sent: Schema | str, where: str) -> Schema:
    """A schema that may have been sent as its JSON text."""
    if not isinstance(sent, str):
        return sent
    try:
        return msgspec.json.decode(sent, type=Schema)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise invalid(where, "is not the JSON text of a schema") from None


def _regex(pattern: str, where: str) -> str:
    try:
        return grammar_of(pattern)
    except ValueError as error:
        raise unsupported(where, f"hali cannot hold a reply to {error}") from None


def one_of(texts: list[str]) -> str:
    """A GBNF grammar of exactly these texts."""
    return "root ::= " + " | ".join(f'"{"".join(map(spelled, text))}"' for text in texts)
