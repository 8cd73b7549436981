"""Whatever JSON a client sends to Anthropic's, Ollama's and llama-server's endpoints, it is taken or refused by name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.api import anthropic_prompt, ollama_prompt
from hali.api.anthropic_request import Countable, MessagesRequest
from hali.api.bodies import decode
from hali.api.mcp_tools import TOOLS
from hali.api.ollama_keep import stay_of
from hali.api.ollama_request import ChatBody, GenerateBody
from hali.model.errors import UsageError
from hali.model.generation import MEDIA, GenerateRequest
from tests.fakes.pictures import png

PNG = base64.b64encode(png(2, 2)).decode()
WORDS = ["auto", "any", "tool", "none", "user", "assistant", "system", "text", "image", "base64", "url", "tool_use"]
WORDS += [
    "tool_result",
    "thinking",
    "enabled",
    "custom",
    "json_schema",
    "json",
    "c1",
    "weather",
    MEDIA,
    PNG,
    "0s",
    "5m",
    "low",
]
NAMES = [
    "type",
    "role",
    "content",
    "name",
    "text",
    "source",
    "data",
    "url",
    "id",
    "tool_use_id",
    "input",
    "input_schema",
]
NAMES += ["thinking", "images", "tool_calls", "function", "arguments", "tool_name", "parameters", "is_error", "display"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
near = st.recursive(
    st.sampled_from(WORDS) | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


HI = {"role": "user", "content": "hi"}


def block(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


words, ids = st.sampled_from(WORDS), st.sampled_from(["c1", "c2"])
text = block("text", text=words)
image = block("image", source=block("base64", data=st.just(PNG)))
result = block(
    "tool_result", tool_use_id=ids, content=words | st.lists(text | image, max_size=2), is_error=st.booleans()
)
use = block("tool_use", id=ids, name=words, input=st.dictionaries(words, values, max_size=2))
thought = block("thinking", thinking=words, signature=words)


def turn(role: str, *blocks: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    content = words | st.lists(st.one_of(*blocks), max_size=4)
    return st.fixed_dictionaries({"role": st.just(role), "content": content})


user, assistant = turn("user", text, image, result), turn("assistant", text, use, thought)
turns = st.lists(user | assistant | turn("system", text), max_size=5).map(lambda said: [*said, HI])
calls = st.lists(st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": words})}), max_size=2)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": words},
        optional={"images": st.lists(st.just(PNG), max_size=2), "tool_calls": calls, "tool_name": words},
    ),
    max_size=5,
)

BODIES: list[tuple[type, Callable[[Any], GenerateRequest], dict[str, object], st.SearchStrategy[Any]]] = [
    (MessagesRequest, anthropic_prompt.generate_request, {"model": "m", "max_tokens": 9}, turns),
    (Countable, anthropic_prompt.generate_request, {"model": "m"}, turns),
    (ChatBody, ollama_prompt.chat_request, {"model": "m"}, messages),
    (GenerateBody, ollama_prompt.generate_request, {"model": "m", "prompt": "hi"}, messages),
]


@pytest.mark.parametrize(("kind", "make", "right", "said"), BODIES, ids=lambda value: getattr(value, "__name__", ""))
@given(data=st.data())
def test_a_body_is_taken_or_refused_by_name(kind, make, right, said, data) -> None:
    odd = st.dictionaries(st.sampled_from(kind.__struct_fields__), near, min_size=1, max_size=3)
    fields = data.draw(st.just({}) | odd)  # half of the bodies are odd only in what is said
    body = {**right, "messages": data.draw(said), **fields}
    try:
        made = make(decode(msgspec.json.encode(body), kind))
    except UsageError as refused:
        assert str(refused)
        return
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=GenerateRequest) == made
    )  # can be sent to the engine
    assert (made.messages is None) != (made.prompt is None)
    said_ = made.messages or ()
    images = sum(len(message.images) for message in said_)
    assert images in (0, sum(message.content.count(MEDIA) for message in said_))
    for message in said_:
        assert message.role != "tool" or (message.tool_call_id and message.name is not None)


@pytest.mark.parametrize("name", TOOLS)
@given(
    given_=st.dictionaries(
        st.sampled_from(["model", "prompt", "system", "max_tokens", "wait_s", "x"]), near, max_size=4
    )
)
def test_arguments_of_tools_are_taken_or_refused_by_name(name, given_) -> None:
    tool = TOOLS[name]
    try:
        call = tool.arguments(given_)
    except UsageError as refused:
        assert name in str(refused)
        return
    assert set(given_) <= set(tool.schema().get("properties", {}))
    assert all(getattr(call, key) == value for key, value in given_.items())


@given(st.floats(allow_nan=False) | st.from_regex(r"-?([0-9]{1,3}(\.[0-9]+)?(h|m|s|ms|µs))+") | st.text(max_size=9))
def test_a_stay_is_a_time_or_refused(keep_alive) -> None:
    try:
        stay = stay_of(keep_alive)
    except UsageError as refused:
        assert "keep_alive" in str(refused)
        return
    assert stay is not None and (stay.seconds is None or 0 <= stay.seconds < 1e10)
