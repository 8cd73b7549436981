"""POST /v1/responses: what is taken, what the engine is asked, what is answered, whole and as events."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from hali.api import ApiKey, ApiLimits
from hali.api.keys import digest_of
from hali.daemon.keys import fill
from hali.model.errors import EngineCrashed, Overloaded, UsageError
from hali.model.generation import (
    MEDIA,
    Candidate,
    Chunk,
    Done,
    Message,
    ReplyFormat,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCalled,
    Usage,
)
from hali.store.api_keys import KeyRecord
from tests.fakes.pictures import png
from tests.unit.api.sse import named_events_of

PATH = "/v1/responses"
PNG = base64.b64encode(png(2, 2)).decode()
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
HI = {"model": "tiny:1m:base:q4_0", "input": "hi"}
USAGE = Usage(7, 5, 0.1, 0.2, cached_tokens=3, reasoning_tokens=2)
CALL = ToolCall("call_1", "weather", '{"city":"Paris"}')
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


async def made(client, **fields) -> dict:
    response = await client.post(PATH, json={**HI, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def kinds(events: list[dict]) -> list[str]:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return [event["type"].removeprefix("response.") for event in events]


# --- what is asked


async def test_a_text_is_a_message_of_the_user(client, router):
    await made(client, instructions="be kind")
    assert router.asked[0][1].messages == (Message("system", "be kind"), Message("user", "hi"))


async def test_items_are_turns_and_what_an_assistant_does_in_a_row_is_one(client, router):
    items = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "look"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": CALL.arguments},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": ""},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "sun"}]},
        {"role": "assistant", "content": "Rain."},
        {"role": "user", "content": "thanks"},
    ]
    await made(client, input=items)
    assert router.asked[0][1].messages == (
        Message("system", "be kind"),
        Message("user", "weather?"),
        Message("assistant", "Wait.", tool_calls=(CALL, ToolCall("call_2", "weather", "{}")), reasoning="look"),
        Message("tool", "rain", tool_call_id="call_1"),
        Message("tool", "sun", tool_call_id="call_2"),
        Message("assistant", "Rain."),
        Message("user", "thanks"),
    )


async def test_two_messages_of_an_assistant_are_two_turns_and_a_thought_begins_a_new_one(client, router):
    said = [{"role": "assistant", "content": text} for text in "ab"]
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    await made(client, input=[*said, thought, said[0], thought])  # the last thought came to nothing
    assert router.asked[0][1].messages == (
        Message("assistant", "a"),
        Message("assistant", "b"),
        Message("assistant", "a", reasoning="hm"),
    )


async def test_an_image_goes_to_its_place(client, router):
    await made(client, input=[{"role": "user", "content": [IMAGE, {"type": "input_text", "text": "?"}]}])
    assert router.asked[0][1].messages == (Message("user", f"{MEDIA}?", images=(base64.b64decode(PNG),)),)


async def test_every_field_reaches_the_engine(client, router):
    schema = {"type": "object"}
    await made(
        client,
        temperature=0.3,
        top_p=0.5,
        max_output_tokens=9,
        top_k=4,
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "x", "schema": schema}},
        reasoning={"effort": "low"},
        top_logprobs=2,
    )
    asked = router.asked[0][1]
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.top_k) == (0.3, 0.5, 9, 4)
    assert asked.tools == (Tool("weather", None, {"type": "object"}, strict=True),)
    assert (asked.tool_choice, asked.tool_name, asked.parallel_tool_calls) == ("required", "weather", False)
    assert (asked.format, asked.logprobs) == (ReplyFormat(schema), 2)
    assert asked.template_kwargs == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [IMAGE]}]}, "input[1].content"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "1"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search_preview"}]}, "tools[0].type"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True, "store": False}, "background"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": "x" * 513}}, "metadata[...]"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"text": {"format": {"type": "json_object"}}, "grammar": "root ::= x"}, "text.format"),
        ({"temperature": 3}, "temperature"),
    ],
)
async def test_a_wrong_field_is_named(client, router, fields, param):
    response = await client.post(PATH, json={**HI, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert router.asked == []


# --- what is answered


async def test_what_was_asked_is_repeated_without_what_was_not_said(client, router):
    clock = {"type": "function", "name": "clock", "parameters": {"type": "object", "default": None}}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "clock"}]}
    response = await made(client, tools=[clock], tool_choice=choice, top_logprobs=2)
    assert (response["tool_choice"], response["tools"], response["top_logprobs"]) == (choice, [clock], 2)


async def test_a_whole_response_has_what_clients_read(client, router):
    router.script = [Chunk("Hm", 1, reasoning=True), Chunk("Hel", 1), Chunk("lo", 1), Done("stop", USAGE)]
    response = await made(client, instructions="be kind", metadata={"a": "b"}, tools=[WEATHER])
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"], response["error"]) == ("response", "completed", None)
    assert (response["model"], response["instructions"]) == ("tiny:1m:base:q4_0", "be kind")
    assert (response["metadata"], response["tools"], response["tool_choice"]) == ({"a": "b"}, [WEATHER], "auto")
    thought, message = response["output"]
    assert (thought["type"], thought["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "Hm"}])
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


async def test_the_events_of_a_text_are_openais(client, router):
    router.script = [Chunk("Hel", 1), Chunk("lo", 1), Done("stop", USAGE)]
    events = named_events_of(await client.post(PATH, json={**HI, "stream": True}))
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert [event["delta"] for event in events[4:6]] == ["Hel", "lo"]
    assert events[6]["text"] == "Hello"
    assert events[8]["item"] == events[9]["response"]["output"][0]
    assert len({event["item_id"] for event in events[3:8]}) == 1


async def test_thoughts_text_and_calls_are_items_one_after_the_other(client, router):
    router.script = [
        Chunk("Hm", 1, reasoning=True),
        Chunk("Wait.", 1),
        ToolCalled(0, CALL, 5),
        Done("tool_calls", USAGE),
    ]
    events = named_events_of(await client.post(PATH, json={**HI, "tools": [WEATHER], "stream": True}))
    assert kinds(events)[2:] == [
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert [event["output_index"] for event in events[2:-1]] == [0] * 6 + [1] * 6 + [2] * 4
    call = output[2]
    assert (call["call_id"], call["name"], call["arguments"]) == ("call_1", "weather", CALL.arguments)


async def test_a_reply_that_was_cut_is_incomplete(client, router):
    router.script = [Chunk("Hel", 1), Done("length", USAGE)]
    events = named_events_of(await client.post(PATH, json={**HI, "stream": True}))
    response = events[-1]["response"]
    assert (events[-1]["type"], response["status"]) == ("response.incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


async def test_an_empty_reply_is_an_empty_message(client, router):
    router.script = [Done("stop", USAGE)]
    (message,) = (await made(client))["output"]
    assert message["content"][0]["text"] == ""


@pytest.mark.parametrize("fields", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 0}])
async def test_logprobs_come_where_they_are_asked_for(client, router, fields):
    router.script = [Chunk("a", 1, logprobs=(TokenLogprob(Candidate(1, b"a", -0.5)),)), Done("stop", USAGE)]
    (message,) = (await made(client, **fields))["output"]
    assert message["content"][0]["logprobs"] == [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
    assert router.asked[0][1].logprobs == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("long", code="context_length"), 400), (EngineCrashed("died"), 503)]
)
async def test_an_error_before_the_first_token_has_its_status_and_leaves_nothing(
    client, deps, router, stream, error, status
):
    router.script = [error]
    response = await client.post(PATH, json={**HI, "stream": stream})
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert len(deps.responses) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineCrashed("died"), "server_error"),
        (UsageError("the context is full"), "invalid_prompt"),
        (Overloaded("slowly", code="rate_limit"), "rate_limit_exceeded"),
        (Done("cancelled", USAGE), "server_error"),
    ],
)
async def test_an_error_in_the_middle_is_a_failed_response(client, router, error, code):
    router.script = [Chunk("Hel", 1), error]
    events = named_events_of(await client.post(PATH, json={**HI, "stream": True}))
    assert kinds(events)[-3:] == ["content_part.done", "output_item.done", "failed"]
    response = events[-1]["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", code)
    assert response["output"][0]["content"][0]["text"] == "Hel"
    assert (await client.get(f"{PATH}/{response['id']}")).json() == response


async def test_a_reply_without_a_last_word_is_an_error(client, router):
    router.script = [Chunk("Hel", 1)]
    assert (await client.post(PATH, json=HI)).status_code == 500
    assert named_events_of(await client.post(PATH, json={**HI, "stream": True}))[-1]["type"] == "response.failed"


# --- what is kept


async def test_a_response_can_be_fetched_gone_on_from_and_deleted(client, router):
    first = await made(client, instructions="be kind")
    assert (await client.get(f"{PATH}/{first['id']}")).json() == first
    second = await made(client, input="and?", previous_response_id=first["id"])
    assert router.asked[1][1].messages == (
        Message("user", "hi"),
        Message("assistant", "Hello"),
        Message("user", "and?"),
    )
    assert second["previous_response_id"] == first["id"]
    deleted = (await client.delete(f"{PATH}/{first['id']}")).json()
    assert deleted == {"id": first["id"], "object": "response", "deleted": True}
    assert (await client.get(f"{PATH}/{first['id']}")).json()["error"]["code"] == "response_not_found"
    await made(client, input="still?", previous_response_id=second["id"])  # has its own copy of the conversation
    assert len(router.asked[2][1].messages) == 5


async def test_a_conversation_grows_no_longer_than_a_request_may_be(deps, client_of):
    client = client_of(dataclasses.replace(deps, limits=ApiLimits(body_bytes=4000)))
    first = await made(client, input="x" * 2500)
    response = await client.post(PATH, json={**HI, "input": "y" * 2500, "previous_response_id": first["id"]})
    assert (response.status_code, response.json()["error"]["param"]) == (413, "previous_response_id")


async def test_kept_items_are_referred_to_by_their_ids_as_the_ai_sdk_does(client, router):
    router.script = [
        Chunk("Hm", 1, reasoning=True),
        Chunk("Wait.", 1),
        ToolCalled(0, CALL, 5),
        Done("tool_calls", USAGE),
    ]
    asked = {"type": "message", "id": "msg_mine", "role": "user", "content": "weather?"}
    output = (await made(client, input=[asked], tools=[WEATHER]))["output"]
    meant = [
        {"type": "item_reference", "id": "msg_mine"},
        *({"id": item["id"]} for item in output),
    ]  # as OpenAI's types
    result = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    second = await made(client, input=[*meant, result])
    assert router.asked[1][1].messages == (
        Message("user", "weather?"),
        Message("assistant", "Wait.", tool_calls=(CALL,), reasoning="Hm"),
        Message("tool", "rain", tool_call_id="call_1"),
    )
    listed = (await client.get(f"{PATH}/{second['id']}/input_items?order=asc")).json()["data"]
    assert [item["id"] for item in listed[:-1]] == ["msg_mine", *(item["id"] for item in output)]


async def test_an_item_that_is_not_kept_or_is_there_already_cannot_be_referred_to(deps, client_of):
    client = client_of(dataclasses.replace(deps, keys=(ApiKey("ann", "sk-ann"),)))
    first, unkept = await made(client), await made(client, store=False)

    async def refused(item: dict, key: str = "other", **fields: object) -> tuple[int, str]:
        items = [{"role": "user", "content": "x"}, {"type": "item_reference", "id": item["id"]}]
        headers = {"authorization": f"Bearer {key}"}
        response = await client.post(PATH, json={**HI, "input": items, **fields}, headers=headers)
        return response.status_code, response.json()["error"]["param"]

    assert await refused(unkept["output"][0]) == (404, "input[1].id")
    assert await refused(first["output"][0], key="sk-ann") == (404, "input[1].id")
    assert await refused(first["output"][0], previous_response_id=first["id"]) == (400, "input[1].id")


async def test_a_conversation_of_kept_items_is_no_longer_than_a_request_may_be(deps, client_of):
    client = client_of(dataclasses.replace(deps, limits=ApiLimits(body_bytes=4000)))
    items = [{"role": "user", "id": f"msg_{letter}", "content": letter * 2500} for letter in "ab"]
    for item in items:
        await made(client, input=[item])
    response = await client.post(PATH, json={**HI, "input": [{"id": item["id"]} for item in items]})
    assert (response.status_code, response.json()["error"]["param"]) == (413, "input")


async def test_the_tokens_of_an_input_are_counted_with_what_it_goes_on_from(client, router):
    first = await made(client)
    body = {**HI, "input": "and?", "previous_response_id": first["id"]}
    counted = (await client.post(f"{PATH}/input_tokens", json=body)).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": 2}
    ((_, query),) = router.queries
    assert [message.content for message in query.request.messages] == ["hi", "Hello", "and?"]
    assert len(router.asked) == 1


async def test_calls_and_thoughts_are_part_of_what_is_gone_on_from(client, router):
    router.script = [Chunk("Hm", 1, reasoning=True), ToolCalled(0, CALL, 5), Done("tool_calls", USAGE)]
    first = await made(client, tools=[WEATHER])
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    await made(client, input=[output], previous_response_id=first["id"], tools=[WEATHER])
    assert router.asked[1][1].messages[1:] == (
        Message("assistant", "", tool_calls=(CALL,), reasoning="Hm"),
        Message("tool", "rain", tool_call_id="call_1"),
    )


async def test_what_is_not_to_be_kept_is_not(client, deps):
    response = await made(client, store=False)
    assert response["store"] is False
    assert len(deps.responses) == 0


async def test_a_streamed_response_is_kept_before_its_last_event(deps, client_of, router):
    response = await client_of(deps).post(PATH, json={**HI, "stream": True})
    last = named_events_of(response)[-1]["response"]
    assert (await client_of(deps).get(f"{PATH}/{last['id']}")).json() == last


async def test_one_key_cannot_touch_the_responses_of_another(deps, client_of):
    keys = (ApiKey("ann", "sk-ann"), ApiKey("bob", "sk-bob"))
    client = client_of(dataclasses.replace(deps, keys=keys))
    ann, bob, nobody = ({"authorization": f"Bearer {secret}"} for secret in ("sk-ann", "sk-bob", "other"))
    name = (await client.post(PATH, json=HI, headers=ann)).json()["id"]
    for other in (bob, nobody):
        assert (await client.get(f"{PATH}/{name}", headers=other)).status_code == 404
        assert (await client.get(f"{PATH}/{name}/input_items", headers=other)).status_code == 404
        assert (await client.post(f"{PATH}/{name}/cancel", json={}, headers=other)).status_code == 404
        assert (await client.delete(f"{PATH}/{name}", headers=other)).status_code == 404
        goes_on = {**HI, "previous_response_id": name}
        assert (await client.post(PATH, json=goes_on, headers=other)).status_code == 400
    assert (await client.get(f"{PATH}/{name}", headers=ann)).status_code == 200


async def test_a_later_key_of_the_same_name_cannot_see_the_responses_of_a_revoked_one(deps, client_of):
    client = client_of(deps)
    records = [
        KeyRecord("ann", digest_of(secret), ("inference",), 1, None, None, None, 0, None) for secret in (b"1", b"2")
    ]
    fill(deps.ring, records[:1])
    name = (await client.post(PATH, json=HI, headers={"x-api-key": "1"})).json()["id"]
    assert (await client.get(f"{PATH}/{name}", headers={"x-api-key": "1"})).status_code == 200
    deps.ring.drop("ann")
    fill(deps.ring, records[1:])
    assert (await client.get(f"{PATH}/{name}", headers={"x-api-key": "2"})).status_code == 404


async def test_the_input_is_listed_page_by_page(client):
    first = await made(client, input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}])
    second = await made(client, input="three", previous_response_id=first["id"])
    path = f"{PATH}/{second['id']}/input_items"
    whole = (await client.get(path, params={"order": "asc"})).json()
    assert [item["content"][0]["text"] for item in whole["data"]] == ["one", "two", "Hello", "three"]
    assert [item["type"] for item in whole["data"]] == ["message"] * 4
    assert whole["data"][0]["content"] == [{"type": "input_text", "text": "one"}]
    assert whole["data"][2]["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][3]["id"])
    assert whole["has_more"] is False
    page = (await client.get(path, params={"limit": 3})).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["three", "Hello", "two"]
    assert page["has_more"] is True
    rest = (await client.get(path, params={"after": page["last_id"]})).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["one"]


async def test_items_that_were_sent_with_one_id_are_paged_through_one_by_one(client):
    said = [{"id": "msg_1", "role": "user", "content": text} for text in ("one", "two")]
    first = await made(client, input=said)
    second = await made(client, input=said[:1], previous_response_id=first["id"])
    path, after, found = f"{PATH}/{second['id']}/input_items", {}, []
    for _ in range(4):
        page = (await client.get(path, params={"order": "asc", "limit": 1, **after})).json()
        found += page["data"]
        after = {"after": page["last_id"]}
    assert [item["content"][0]["text"] for item in found] == ["one", "two", "Hello", "one"]
    assert page["has_more"] is False and found[0]["id"] == "msg_1"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=msg_none"])
async def test_a_wrong_page_is_refused(client, query):
    name = (await made(client))["id"]
    response = await client.get(f"{PATH}/{name}/input_items?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, query.partition("=")[0])


async def test_only_what_is_made_in_the_background_can_be_cancelled_or_followed(client):
    name = (await made(client))["id"]
    assert (await client.post(f"{PATH}/{name}/cancel", json={})).status_code == 400
    assert (await client.get(f"{PATH}/{name}?stream=true")).status_code == 400
