"""Whatever JSON a client sends to OpenAI's endpoints, it is taken or refused by name: no body makes hali stumble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.api.bodies import decode
from hali.api.openai_chat import ChatRequest, generate_requests
from hali.api.openai_completion import CompletionRequest, completion_requests
from hali.api.openai_embedding import EmbeddingRequest, embed_query
from hali.api.openai_format import one_of
from hali.api.openai_items import as_objects, items_of
from hali.api.openai_responses import ResponsesRequest, response_head, response_request
from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
# Words that mean something here, so that random objects come close to right ones.
words = st.sampled_from(
    [
        "auto",
        "none",
        "required",
        "function",
        "tool",
        "user",
        "assistant",
        "system",
        "text",
        "image_url",
        "input_text",
        "json_schema",
        "json_object",
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "call_1",
        "weather",
        "<__media__>",
        "data:image/png;base64,AAAA",
        "{}",
        "[]",
        "stop",
    ]
)
names = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "name",
        "text",
        "image_url",
        "url",
        "id",
        "call_id",
        "output",
        "arguments",
        "function",
        "parameters",
        "tool_calls",
        "schema",
        "mode",
        "json_schema",
        "tools",
        "allowed_tools",
        "format",
        "effort",
        "summary",
        "tool_call_id",
    ]
)
near = st.recursive(
    words | json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


def response_requests(body: ResponsesRequest) -> list[GenerateRequest]:
    items = items_of(body.input)
    msgspec.json.encode((as_objects(items), response_head(body, "model")))
    return [response_request(body, items)]


BODIES: list[tuple[type, Callable[[Any], object], dict[str, object]]] = [
    (ChatRequest, generate_requests, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    (CompletionRequest, completion_requests, {"model": "m", "prompt": "hi"}),
    (EmbeddingRequest, embed_query, {"model": "m", "input": "hi"}),
    (ResponsesRequest, response_requests, {"model": "m", "input": "hi"}),
]


@pytest.mark.parametrize(("kind", "make", "right"), BODIES, ids=lambda value: getattr(value, "__name__", ""))
@given(data=st.data())
def test_a_body_is_taken_or_refused_by_name(kind, make, right, data) -> None:
    fields = data.draw(st.dictionaries(st.sampled_from(kind.__struct_fields__), near, max_size=4))
    try:
        made = make(decode(msgspec.json.encode({**right, **fields}), kind))
    except UsageError as refused:
        assert str(refused)
        return
    encoded = msgspec.msgpack.encode(made)  # what goes to the engine can be sent there
    if isinstance(made, list):
        assert made
        assert msgspec.msgpack.decode(encoded, type=list[GenerateRequest]) == made
        for request in made:
            assert sum(each is not None for each in (request.messages, request.prompt, request.tokens)) == 1


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_grammar_of_choices_spells_every_character_and_nothing_ends_it_early(texts) -> None:
    grammar = one_of(texts)
    assert grammar.isascii() and "\n" not in grammar
    literals = grammar.removeprefix("root ::= ").split(" | ")
    assert len(literals) == len(texts)
    for literal, text in zip(literals, texts, strict=True):
        assert literal[0] == literal[-1] == '"' and '"' not in literal[1:-1]
        assert literal[1:-1].encode().decode("unicode_escape") == text
