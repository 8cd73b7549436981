"""Logprobs, formats and tools by the real engine with SmolLM2, asked by the official openai client."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import openai
import pydantic
import pytest

from tests.serving import COUNT, OneFile, serving

pytestmark = pytest.mark.model

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]

SHORT = [{"role": "user", "content": "Hi"}]


class City(pydantic.BaseModel):
    """What a reply is parsed into."""

    name: str = pydantic.Field(max_length=20)
    capital: bool


@pytest.fixture(scope="module")
def catalog(smollm2: Path) -> OneFile:
    return OneFile(smollm2)


async def test_logprobs_of_a_greedy_reply_are_those_of_the_likeliest_tokens(catalog):
    async with serving(catalog) as stack:
        reply = await stack.client.chat.completions.create(
            model="smol", messages=CAPITAL, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
        )
        told = reply.choices[0].logprobs.content
        assert len(told) == reply.usage.completion_tokens
        assert "".join(each.token for each in told) == reply.choices[0].message.content
        for each in told:
            logprobs = [top.logprob for top in each.top_logprobs]
            assert logprobs == sorted(logprobs, reverse=True)
            assert each.logprob == logprobs[0]
            assert 0 < sum(map(math.exp, logprobs)) <= 1 + 1e-5
        old = await stack.client.completions.create(
            model="smol", prompt="The capital of France is", temperature=0, max_tokens=6, logprobs=2
        )
        legacy = old.choices[0].logprobs
        assert "".join(legacy.tokens) == old.choices[0].text
        assert legacy.text_offset == [len("".join(legacy.tokens[:place])) for place in range(len(legacy.tokens))]


async def test_the_best_of_several_is_the_likeliest(catalog):
    async with serving(catalog) as stack:
        options = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 6, "seed": 3}
        best = await stack.client.completions.create(**options, best_of=4, logprobs=0)
        every = await stack.client.completions.create(**options, n=4, logprobs=0)
        means = [sum(choice.logprobs.token_logprobs) / 6 for choice in every.choices]
        assert sum(best.choices[0].logprobs.token_logprobs) / 6 == pytest.approx(max(means), abs=0.2)
        assert best.usage.completion_tokens == every.usage.completion_tokens


async def test_a_reply_keeps_to_a_schema_whichever_way_it_is_asked_for(catalog):
    async with serving(catalog) as stack:
        client, options = stack.client, {"model": "smol", "max_tokens": 80, "seed": 1}
        chat = await client.chat.completions.parse(messages=CAPITAL, response_format=City, **options)
        assert isinstance(chat.choices[0].message.parsed, City)
        response = await client.responses.parse(
            model="smol", input="What is the capital of France?", text_format=City, max_output_tokens=80
        )
        assert isinstance(response.output_parsed, City)
        schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
        schema["additionalProperties"] = False  # or there might be no end of them
        told = await client.chat.completions.create(messages=COUNT, extra_body={"guided_json": schema}, **options)
        assert json.loads(told.choices[0].message.content)["n"] in (1, 2)


async def test_a_reply_is_one_of_the_choices_or_a_text_of_the_grammar(catalog):
    async with serving(catalog) as stack:
        create = stack.client.chat.completions.create
        options = {"model": "smol", "messages": CAPITAL, "max_tokens": 20}
        choices = ["Paris", 'a "quoted\\" one', "naïve 詩"]
        reply = await create(**options, n=3, extra_body={"guided_choice": choices})
        assert {choice.message.content for choice in reply.choices} <= set(choices)
        reply = await create(**options, extra_body={"guided_choice": choices[1:2]})
        assert reply.choices[0].message.content == choices[1]
        reply = await create(**options, extra_body={"guided_choice": choices[2:]})
        assert reply.choices[0].message.content == choices[2]
        reply = await create(**options, extra_body={"guided_regex": r"^(\d{3}|[a-z]{2,4}) \+詩$"})
        assert re.fullmatch(r"(\d{3}|[a-z]{2,4}) \+詩", reply.choices[0].message.content, re.ASCII)
        reply = await create(**options, extra_body={"grammar": "root ::= [0-9]{3}"})
        assert len(reply.choices[0].message.content) == 3 and reply.choices[0].message.content.isdigit()


async def test_a_reply_has_at_least_so_many_tokens(catalog):
    async with serving(catalog) as stack:
        options = {"model": "smol", "messages": SHORT, "temperature": 0, "max_tokens": 40}
        free = await stack.client.chat.completions.create(**options)
        more = await stack.client.chat.completions.create(**options, extra_body={"min_tokens": 30})
        assert free.usage.completion_tokens < 30 <= more.usage.completion_tokens


class Weather(pydantic.BaseModel):
    """Arguments of a call."""

    city: str = pydantic.Field(max_length=20)


async def test_a_tool_that_must_be_called_is_called_with_arguments_of_its_schema(catalog):
    tool = openai.pydantic_function_tool(Weather, name="weather", description="The weather in a city.")
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    async with serving(catalog) as stack:
        create = stack.client.chat.completions.create
        options = {"model": "smol", "tools": [tool], "temperature": 0, "max_tokens": 80}
        reply = await create(messages=messages, tool_choice="required", **options)
        (choice,) = reply.choices
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert call.function.name == "weather"
        assert Weather.model_validate_json(call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
        answer = await create(
            messages=[*messages, choice.message, result], tool_choice="none", **{**options, "max_tokens": 8}
        )
        assert answer.choices[0].message.content
        assert answer.choices[0].message.tool_calls is None
        named = {"type": "function", "function": {"name": "weather"}}
        async with stack.client.chat.completions.stream(messages=messages, tool_choice=named, **options) as stream:
            final = await stream.get_final_completion()
        (streamed,) = final.choices[0].message.tool_calls
        assert streamed.function.parsed_arguments == Weather.model_validate_json(call.function.arguments)


async def test_a_call_in_a_response_is_an_item_that_the_next_one_answers(catalog):
    tool = {"type": "function", "name": "weather", "parameters": Weather.model_json_schema(), "strict": True}
    async with serving(catalog) as stack:
        create = stack.client.responses.create
        options = {"model": "smol", "tools": [tool], "temperature": 0, "max_output_tokens": 80}
        first = await create(input="The weather in Paris?", tool_choice="required", **options)
        (call,) = first.output
        assert (call.type, call.name) == ("function_call", "weather")
        assert Weather.model_validate_json(call.arguments)
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}
        options["max_output_tokens"] = 8
        second = await create(input=[result], previous_response_id=first.id, tool_choice="none", **options)
        assert second.output_text
