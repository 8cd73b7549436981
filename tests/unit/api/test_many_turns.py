"""Answers of tools find their calls without a look at all others: a body has room for 200,000 of each."""

from __future__ import annotations

from typing import Any

from hali.api.ollama_prompt import chat_request
from hali.api.ollama_request import Call, ChatBody, ChatMessage, Function
from hali.api.openai_messages import ChatMessage as OpenAIMessage
from hali.api.openai_messages import FunctionCalled, messages_of

MANY = 200


class Counted(str):
    """A text that counts how often it is compared."""

    __hash__ = str.__hash__
    compared = 0

    def __eq__(self, other: Any) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


def test_ollamas_answers_find_their_calls_at_once() -> None:
    calls = [Call(Function(name="f"), id=f"c{n}") for n in range(MANY)]
    answers = [ChatMessage("tool", "a", tool_call_id=Counted(f"c{n}")) for n in reversed(range(MANY))]
    Counted.compared = 0
    asked = chat_request(ChatBody("m", messages=[ChatMessage("assistant", tool_calls=calls), *answers]))
    assert asked.messages is not None
    assert [message.tool_call_id for message in asked.messages[1:]] == [f"c{n}" for n in reversed(range(MANY))]
    assert Counted.compared < 10 * MANY


def test_openais_answers_of_functions_find_their_calls_at_once() -> None:
    calls = [OpenAIMessage("assistant", function_call=FunctionCalled("f")) for _ in range(MANY)]
    answers = [OpenAIMessage("function", "a", name=Counted("f")) for _ in range(MANY)]
    Counted.compared = 0
    made = messages_of([*calls, *answers])
    assert {message.tool_call_id for message in made[MANY:]} == {f"call_{MANY - 1}"}
    assert Counted.compared < 10 * MANY
