"""What all dialects have in common, whatever words they have for it."""

from __future__ import annotations

import base64

import httpx
import pytest

from hali.api.mcp_tools import TOOLS
from hali.cli.mcp_remote import RemoteToolbox
from hali.model.errors import Failed
from hali.model.generation import MAX_STOPS, MEDIA, Chunk, Done, Usage
from tests.fakes.pictures import png

TURNS = [{"role": "user", "content": "hi"}]
MODEL = "acme/tiny"
CALLS = {"chat": {"model": MODEL, "prompt": "hi"}, "pull": {"model": MODEL}}
ASKS = {
    "/v1/chat/completions": ({"messages": TURNS, "stream": False}, lambda stops: {"stop": stops}),
    "/v1/completions": ({"prompt": "hi", "stream": False}, lambda stops: {"stop": stops}),
    "/v1/responses": ({"input": "hi", "stream": False}, lambda stops: {"stop": stops}),
    "/v1/messages": ({"messages": TURNS, "max_tokens": 9, "stream": False}, lambda stops: {"stop_sequences": stops}),
    "/api/chat": ({"messages": TURNS, "stream": False}, lambda stops: {"options": {"stop": stops}}),
    "/api/generate": ({"prompt": "hi", "stream": False}, lambda stops: {"options": {"stop": stops}}),
}
CANCELLED = [Chunk("Hel", 1), Done("cancelled", Usage(1, 1, 0.1, 0.2))]


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize(
    ("script", "status", "why"),
    [([Chunk("Hel", 1)], 500, "the generation ended without a result"), (CANCELLED, 503, "the model was stopped")],
    ids=["without an end", "cancelled"],
)
async def test_half_a_reply_never_passes_for_a_whole_one(client, router, path, script, status, why):
    body, _ = ASKS[path]
    router.script = script
    whole = await client.post(path, json={"model": MODEL, **body})
    assert whole.status_code == status and "error" in whole.json() and why in whole.text
    assert ("retry-after" in whole.headers) == (status == 503)
    streamed = await client.post(path, json={"model": MODEL, **body, "stream": True})
    assert streamed.status_code == 200 and "Hel" in streamed.text
    last = streamed.text.strip().splitlines()[-1]
    assert '"error"' in last and why in last and "[DONE]" not in streamed.text


@pytest.mark.parametrize("path", ASKS)
async def test_more_stop_strings_than_the_engine_takes_are_refused_before_it_is_asked(client, router, path):
    body, field = ASKS[path]
    stops = [f"stop {number}" for number in range(MAX_STOPS + 1)]
    assert (await client.post(path, json={"model": MODEL, **body, **field(stops)})).status_code == 400
    assert router.asked == []
    assert (await client.post(path, json={"model": MODEL, **body, **field(stops[1:])})).status_code == 200
    assert len(router.asked[0][1].sampling.stop) == MAX_STOPS


DESCRIBED = {"name": "t", "description": f"says {MEDIA}"}
NESTED = {"tools": [{"type": "function", "function": {**DESCRIBED, "parameters": {"type": "object"}}}]}
FLAT = {"tools": [{"type": "function", **DESCRIBED, "parameters": {"type": "object"}}]}
PARAMETERS = {
    "/v1/chat/completions": ("tools[0].function.parameters", lambda schema: _tools(schema, nested=True)),
    "/v1/responses": ("tools[0].parameters", lambda schema: _tools(schema, nested=False)),
    "/v1/messages": ("tools[0].input_schema", lambda schema: {"tools": [{"name": "t", "input_schema": schema}]}),
    "/api/chat": ("tools[0].function.parameters", lambda schema: _tools(schema, nested=True)),
}


def _tools(schema: object, *, nested: bool) -> dict[str, object]:
    function = {"name": "t", "parameters": schema}
    return {"tools": [{"type": "function", "function": function} if nested else {"type": "function", **function}]}


@pytest.mark.parametrize("path", PARAMETERS)
async def test_parameters_of_a_tool_are_those_of_an_object(client, router, path):
    where, of_schema = PARAMETERS[path]
    body = {"model": MODEL, **ASKS[path][0]}
    for schema in ({"type": "string"}, {"type": ["object", "null"]}, {"type": None}):
        reply = await client.post(path, json={**body, **of_schema(schema)})
        assert reply.status_code == 400 and where in reply.text, reply.text
    for schema in ([], True, "object"):
        assert (await client.post(path, json={**body, **of_schema(schema)})).status_code == 400
    assert router.asked == []
    for schema in ({}, {"type": "object"}, {"properties": {}, "additionalProperties": False}):
        assert (await client.post(path, json={**body, **of_schema(schema)})).status_code == 200


DATA = base64.b64encode(png(2, 2)).decode()
URL = f"data:image/png;base64,{DATA}"
SEEN = {
    "/v1/chat/completions": ([{"type": "image_url", "image_url": {"url": URL}}], NESTED),
    "/v1/responses": ([{"type": "input_image", "image_url": URL}], FLAT),
    "/v1/messages": (
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}],
        {"tools": [{**DESCRIBED, "input_schema": {"type": "object"}}], "max_tokens": 9},
    ),
    "/api/chat": ("hi", NESTED),
}


@pytest.mark.parametrize("path", SEEN)
async def test_a_tool_that_spells_the_marker_of_an_image_is_refused_where_there_is_one(client, router, path):
    content, fields = SEEN[path]
    turn = {"role": "user", "content": content, **({"images": [DATA]} if path == "/api/chat" else {})}
    said = {"input": [turn]} if path == "/v1/responses" else {"messages": [turn]}
    reply = await client.post(path, json={"model": MODEL, **said, **fields})
    assert reply.status_code == 400 and "no tool beside images may contain" in reply.text
    assert router.asked == []


@pytest.mark.parametrize("tool", ["chat", "list_models", "pull", "status"])
async def test_a_daemon_that_is_gone_is_told_by_every_tool_of_mcp(tool):
    def gone(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(gone), base_url="http://127.0.0.1") as http:
        with pytest.raises(Failed, match="the connection to the daemon broke: refused"):
            await TOOLS[tool].run(RemoteToolbox(http), TOOLS[tool].arguments(CALLS.get(tool, {})))
