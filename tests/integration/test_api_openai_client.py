"""What the official openai client makes of our answers, over real HTTP; the router follows a script, so that all of it comes."""

from __future__ import annotations

import base64
import dataclasses
import json

import anyio
import openai
import pydantic
import pytest

from hali.api import ApiDeps, ApiKey
from hali.model.errors import EngineCrashed, EngineFailed, HaliError, NotFound, Overloaded, UsageError
from hali.model.generation import Candidate, Chunk, Done, Embed, TokenLogprob, ToolCall, ToolCalled, Usage
from tests.fakes.pictures import png
from tests.serving import answering
from tests.unit.api.conftest import TINY, MemoryCatalog, ScriptedRouter

HI = [{"role": "user", "content": "weather in Paris?"}]
USAGE = Usage(7, 5, 0.1, 0.2, cached_tokens=3, reasoning_tokens=2)
STOP, CALLED = Done("stop", USAGE), Done("tool_calls", USAGE)
PARIS = ToolCall("call_1", "weather", '{"city":"Paris"}')
ROME = ToolCall("call_2", "weather", '{"city":"Rome"}')
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PNG = png(2, 2)


class City(pydantic.BaseModel):
    """What a reply is parsed into."""

    name: str
    people: int


class Weather(pydantic.BaseModel):
    """Arguments of a call."""

    model_config = pydantic.ConfigDict(title="weather")
    city: str


@pytest.fixture
def router() -> ScriptedRouter:
    return ScriptedRouter()


@pytest.fixture
def deps(router) -> ApiDeps:
    return ApiDeps(catalog=MemoryCatalog(), router=router)


async def test_tools_are_called_answered_and_gone_on_from(deps, router):
    async with answering(deps) as client:
        router.scripts = [[ToolCalled(0, PARIS, 5), ToolCalled(1, ROME, 4), CALLED], [Chunk("Rain, sun.", 3), STOP]]
        tools = [openai.pydantic_function_tool(Weather, name="weather")]
        first = await client.chat.completions.create(model=TINY.id, messages=HI, tools=tools)
        message = first.choices[0].message
        assert [(call.id, call.function.name) for call in message.tool_calls] == [
            ("call_1", "weather"),
            ("call_2", "weather"),
        ]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in message.tool_calls]
        second = await client.chat.completions.create(model=TINY.id, messages=[*HI, message, *results], tools=tools)
        assert second.choices[0].message.content == "Rain, sun."
        told = router.asked[1][1].messages
        assert told[1].tool_calls == (PARIS, ROME)
        assert [turn.tool_call_id for turn in told[2:]] == ["call_1", "call_2"]


async def test_streamed_calls_are_put_together_and_parsed(deps, router):
    async with answering(deps) as client:
        router.script = [Chunk("Wait.", 2), ToolCalled(0, PARIS, 5), ToolCalled(1, ROME, 4), CALLED]
        tools = [openai.pydantic_function_tool(Weather, name="weather")]
        async with client.chat.completions.stream(model=TINY.id, messages=HI, tools=tools) as stream:
            kinds = [event.type async for event in stream]
            choice = (await stream.get_final_completion()).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Wait."
        assert [call.function.parsed_arguments.city for call in choice.message.tool_calls] == ["Paris", "Rome"]
        assert kinds.count("tool_calls.function.arguments.done") == 2


async def test_a_reply_to_a_schema_is_parsed_into_its_class(deps, router):
    async with answering(deps) as client:
        router.script = [Chunk('{"name":"Paris",', 5), Chunk('"people":2100000}', 5), STOP]
        chat = await client.chat.completions.parse(model=TINY.id, messages=HI, response_format=City)
        assert chat.choices[0].message.parsed == City(name="Paris", people=2_100_000)
        response = await client.responses.parse(model=TINY.id, input="a city", text_format=City)
        assert response.output_parsed == City(name="Paris", people=2_100_000)
        for _, request in router.asked:
            assert request.format.schema["properties"].keys() == {"name", "people"}


async def test_logprobs_thoughts_and_usage_have_their_fields(deps, router):
    async with answering(deps) as client:
        token = TokenLogprob(Candidate(1, b"a", -0.5), (Candidate(1, b"a", -0.5), Candidate(2, b"b", -1.5)))
        router.script = [Chunk("Hm", 1, reasoning=True), Chunk("a", 1, logprobs=(token,)), STOP]
        reply = await client.chat.completions.create(model=TINY.id, messages=HI, logprobs=True, top_logprobs=2)
        (told,) = reply.choices[0].logprobs.content
        assert (told.token, told.logprob, told.bytes) == ("a", -0.5, [97])
        assert [top.token for top in told.top_logprobs] == ["a", "b"]
        assert reply.choices[0].message.reasoning_content == "Hm"
        assert reply.usage.prompt_tokens_details.cached_tokens == 3
        assert reply.usage.completion_tokens_details.reasoning_tokens == 2
        old = await client.completions.create(model=TINY.id, prompt="x", logprobs=2)
        assert old.choices[0].logprobs.top_logprobs == [{"a": -0.5, "b": -1.5}]


async def test_several_replies_arrive_whole_and_streamed(deps, router):
    async with answering(deps) as client:
        router.scripts = [[Chunk("a", 1), STOP], [Chunk("b", 1), STOP]] * 2
        reply = await client.chat.completions.create(model=TINY.id, messages=HI, n=2)
        assert [choice.message.content for choice in reply.choices] == ["a", "b"]
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, 10)
        async with client.chat.completions.stream(model=TINY.id, messages=HI, n=2) as stream:
            final = await stream.get_final_completion()
        assert [choice.message.content for choice in final.choices] == ["a", "b"]


async def test_images_reach_the_engine(deps, router):
    async with answering(deps) as client:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
        await client.chat.completions.create(model=TINY.id, messages=[{"role": "user", "content": [part]}])
        assert router.asked[0][1].messages[0].images == (PNG,)


async def test_embeddings_arrive_in_the_clients_default_of_base64_and_as_numbers(deps):
    async with answering(deps) as client:
        for encoding in (openai.omit, "float"):
            reply = await client.embeddings.create(model=TINY.id, input=["a", "b"], encoding_format=encoding)
            assert [each.embedding for each in reply.data] == [[1.0, 0.0], [1.0, 1.0]]
        assert reply.usage.prompt_tokens == 6


# --- errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("too long", code="context_length"), openai.BadRequestError),
        (NotFound("gone"), openai.NotFoundError),
        (Overloaded("slowly", code="rate_limit", details={"retry_after_s": 3}), openai.RateLimitError),
        (Overloaded("full", details={"retry_after_s": 3}), openai.InternalServerError),
        (EngineFailed("odd"), openai.InternalServerError),
    ],
)
async def test_errors_are_the_clients_exceptions_on_every_endpoint(deps, router, error: HaliError, kind):
    async with answering(deps) as client:
        router.script = [error]
        router.answers = {Embed: error}
        for stream in (False, True):
            with pytest.raises(kind):
                await client.chat.completions.create(model=TINY.id, messages=HI, stream=stream)
            with pytest.raises(kind):
                await client.completions.create(model=TINY.id, prompt="x", stream=stream)
            with pytest.raises(kind):
                await client.responses.create(model=TINY.id, input="x", stream=stream)
        with pytest.raises(kind) as told:
            await client.embeddings.create(model=TINY.id, input="x")
        assert told.value.type


async def test_an_error_in_the_middle_is_an_exception_or_a_failed_response(deps, router):
    async with answering(deps) as client:
        router.script = [Chunk("Hel", 1), EngineCrashed("died")]
        for stream in (
            await client.chat.completions.create(model=TINY.id, messages=HI, stream=True),
            await client.completions.create(model=TINY.id, prompt="x", stream=True),
        ):
            with pytest.raises(openai.APIError) as crashed:
                _ = [chunk async for chunk in stream]
            assert (crashed.value.code, crashed.value.message) == ("engine_crashed", "died")
        events = [event async for event in await client.responses.create(model=TINY.id, input="x", stream=True)]
        assert events[-1].type == "response.failed"
        assert events[-1].response.error.message == "died"


# --- responses


async def test_a_streamed_response_is_what_the_client_puts_together(deps, router):
    async with answering(deps) as client:
        router.script = [Chunk("Hm", 1, reasoning=True), Chunk("Hel", 1), Chunk("lo", 1), ToolCalled(0, PARIS), CALLED]
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
        async with client.responses.stream(model=TINY.id, input="hi", tools=tools) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert final.output_text == "Hello"
        assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
        assert json.loads(final.output[2].arguments) == {"city": "Paris"}
        assert (final.usage.input_tokens, final.usage.output_tokens_details.reasoning_tokens) == (7, 2)
        assert (await client.responses.retrieve(final.id)).output_text == "Hello"


async def test_a_call_in_a_response_is_answered_in_the_next(deps, router):
    async with answering(deps) as client:
        router.scripts = [[ToolCalled(0, PARIS, 5), CALLED], [Chunk("Rain.", 1), STOP]]
        first = await client.responses.create(model=TINY.id, input="weather?")
        result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "rain"}
        second = await client.responses.create(model=TINY.id, input=[result], previous_response_id=first.id)
        assert second.output_text == "Rain."
        listed = await client.responses.input_items.list(second.id, order="asc")
        assert [item.type async for item in listed] == ["message", "function_call", "function_call_output"]
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)


async def test_the_whole_conversation_may_be_sent_again_as_it_came(deps, router):
    async with answering(deps) as client:
        router.scripts = [
            [Chunk("Hm", 1, reasoning=True), Chunk("Wait.", 1), ToolCalled(0, PARIS, 5), CALLED],
            [Chunk("Rain.", 1), STOP],
        ]
        items = [{"role": "user", "content": "weather?"}]
        first = await client.responses.create(model=TINY.id, input=items, store=False)
        items += [item.model_dump() for item in first.output]
        items.append({"type": "function_call_output", "call_id": "call_1", "output": "rain"})
        await client.responses.create(model=TINY.id, input=items, store=False)
        _, turn, result = router.asked[1][1].messages
        assert (turn.reasoning, turn.content, turn.tool_calls) == ("Hm", "Wait.", (PARIS,))
        assert (result.role, result.content) == ("tool", "rain")


async def test_a_response_in_the_background_is_polled_followed_and_cancelled(deps, router):
    gate = anyio.Event()
    async with answering(deps) as client:
        router.scripts = [[Chunk("Hel", 1), gate, Chunk("lo", 1), STOP], [Chunk("Hel", 1), anyio.Event()]]
        response = await client.responses.create(model=TINY.id, input="hi", background=True)
        assert response.status == "queued"
        stream = await client.responses.retrieve(response.id, stream=True, starting_after=1)
        assert (await anext(stream)).sequence_number == 2
        gate.set()
        assert [event.type async for event in stream][-1] == "response.completed"
        assert (await client.responses.retrieve(response.id)).output_text == "Hello"
        endless = await client.responses.create(model=TINY.id, input="hi", background=True, stream=True)
        created = await anext(endless)
        cancelled = await client.responses.cancel(created.response.id)
        assert cancelled.status == "cancelled"
        assert [event.type async for event in endless][-1] != "response.completed"
        while router.running:
            await anyio.sleep(0.001)


async def test_a_response_belongs_to_the_key_that_made_it(deps):
    keys = (ApiKey("ann", "sk-ann"), ApiKey("bob", "sk-bob"))
    async with answering(dataclasses.replace(deps, keys=keys, require_key=True)) as client:
        ann, bob = client.with_options(api_key="sk-ann"), client.with_options(api_key="sk-bob")
        response = await ann.responses.create(model=TINY.id, input="hi")
        with pytest.raises(openai.NotFoundError):
            await bob.responses.retrieve(response.id)
        with pytest.raises(openai.AuthenticationError):
            await client.responses.retrieve(response.id)
        assert (await ann.responses.retrieve(response.id)).id == response.id


async def test_the_end_of_the_server_ends_what_is_made_in_the_background(deps, router):
    router.script = [Chunk("Hel", 1), anyio.Event()]
    async with answering(deps) as client:
        response = await client.responses.create(model=TINY.id, input="hi", background=True)
        while not router.running:
            await anyio.sleep(0.001)
    assert router.running == 0
    assert deps.responses.get(response.id, None).writer.response["status"] == "failed"
