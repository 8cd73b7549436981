"""MCP over HTTP: the SDK's own client against the application, in one process; and what the gate makes of it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from hali.api import ApiDeps, ApiKey, build_app
from hali.api.base import LoadedModel
from hali.api.budget import Limits
from hali.model.errors import EngineCrashed, TransferFailed
from hali.model.generation import Chunk, Done, Message, Usage
from tests.unit.api.conftest import DONE, OWN, TINY, leave

ERAS = ["legacy", "auto"]  # with the handshake of 2025, and without
POST = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@asynccontextmanager
async def connected(deps: ApiDeps, era: str, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(build_app(deps))
    async with (
        httpx2.AsyncClient(transport=transport, base_url=OWN, headers=headers) as http,
        Client(streamable_http_client(f"{OWN}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


@pytest.mark.parametrize("era", ERAS)
async def test_the_tools_are_listed_with_their_schemas(deps, era):
    async with connected(deps, era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"chat", "list_models", "pull", "status"}
    assert tools["chat"].input_schema["required"] == ["model", "prompt"]
    assert all(
        tool.input_schema["type"] == "object" and "$ref" not in str(tool.input_schema) for tool in tools.values()
    )
    assert [name for name, tool in tools.items() if not tool.annotations.read_only_hint] == ["pull"]


@pytest.mark.parametrize("era", ERAS)
async def test_chat_asks_the_model_and_answers_with_its_text(deps, router, era):
    router.script = [Chunk("Hm.", 1, reasoning=True), Chunk("It ", 1), Chunk("rains.", 1), DONE]
    call = {"model": "acme/tiny", "prompt": "Oslo?", "system": "Be brief.", "max_tokens": 9, "temperature": 0}
    async with connected(deps, era) as client:
        result = await client.call_tool("chat", call)
    assert not result.is_error and result.content[0].text == "It rains."
    assert result.structured_content["completion_tokens"] == 2
    ((model, request),) = router.asked
    assert model == TINY.id
    assert request.messages == (Message("system", "Be brief."), Message("user", "Oslo?"))
    assert (request.sampling.max_tokens, request.sampling.temperature) == (9, 0)


async def test_models_and_status_are_told(deps, store):
    store.in_memory = [LoadedModel(TINY, 4096, None, None)]
    async with connected(deps, "auto") as client:
        models = (await client.call_tool("list_models", {})).structured_content["models"]
        status = (await client.call_tool("status", {})).structured_content
    assert models[0] == {"id": TINY.id, "sha256": TINY.sha256, "size": 1000}
    assert (status["ready"], status["running"], status["loaded"]) == (True, 0, [TINY.id])


async def test_a_pull_is_waited_for_and_goes_on_when_the_time_is_over(deps, store):
    async with connected(deps, "auto") as client:
        whole = (await client.call_tool("pull", {"model": "acme/new"})).structured_content
        assert whole == {"finished": True, "status": "success", "done": 10, "total": 10}
        store.pulls[2:] = [anyio.Event()]
        part = (await client.call_tool("pull", {"model": "acme/new", "wait_s": 0.05})).structured_content
    assert part == {"finished": False, "status": "pulling new.gguf", "done": 5, "total": 10}
    assert store.done == [("pull", "acme/new")] * 2


@pytest.mark.parametrize(
    ("name", "call", "told"),
    [
        ("chat", {"model": "nosuch", "prompt": "x"}, "no model is called nosuch"),
        ("chat", {"model": "both", "prompt": "x"}, "fits two"),
        ("chat", {"model": "acme/tiny"}, "prompt"),
        ("chat", {"model": "acme/tiny", "prompt": "x", "tool": 1}, "tool"),
        ("pull", {"model": ""}, "model"),
        ("status", {"verbose": True}, "verbose"),
    ],
)
async def test_what_fails_is_told_to_the_model_that_called(deps, name, call, told):
    async with connected(deps, "auto") as client:
        result = await client.call_tool(name, call)
    assert result.is_error and told in result.content[0].text


async def test_failures_of_engine_and_transfer_are_told_too(deps, router, store):
    router.script, store.pulls = [EngineCrashed("gone")], [TransferFailed("nobody has it")]
    async with connected(deps, "legacy") as client:
        assert (await client.call_tool("chat", {"model": "acme/tiny", "prompt": "x"})).content[0].text == "gone"
        assert (await client.call_tool("pull", {"model": "x"})).content[0].text == "nobody has it"
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("nosuch", {})


async def test_a_crash_inside_tells_nothing_of_what_is_inside(deps, router):
    router.script = [ZeroDivisionError("/home/ann/secret")]
    async with connected(deps, "legacy") as client:
        result = await client.call_tool("chat", {"model": "acme/tiny", "prompt": "x"})
    assert result.is_error and result.content[0].text == "internal error"


def test_whoever_does_not_use_mcp_does_not_load_it():
    code = "import sys, hali.api, hali.cli.mcp; sys.exit(bool({'mcp', 'mcp_types', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_client_that_leaves_ends_the_generation(deps, router):
    router.script = [Chunk("x", 1), anyio.Event(), DONE]
    chat = {"name": "chat", "arguments": {"model": "acme/tiny", "prompt": "x"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": chat}
    await leave(deps, router, body, "/mcp")
    assert len(router.asked) == 1 and router.running == 0


@pytest.mark.parametrize("ident", [7, "seven"])
async def test_a_request_that_is_given_up_as_the_daemon_stops_is_told_by_its_id(deps, client, router, ident):
    router.script = [anyio.Event()]
    chat = {"name": "chat", "arguments": {"model": "acme/tiny", "prompt": "x"}}
    body = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": chat}
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await client.post("/mcp", json=body, headers=POST))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while not router.running:
            await anyio.lowlevel.checkpoint()
        deps.replies.cut()
    (reply,) = answers
    assert (reply.status_code, reply.json()["id"]) == (503, ident)


async def test_the_owner_of_the_key_asks(deps, router):
    keyed = dataclasses.replace(deps, keys=(ApiKey("ann", "sk-ann", 2.0),), require_key=True)
    async with connected(keyed, "legacy", {"authorization": "Bearer sk-ann"}) as client:
        await client.call_tool("chat", {"model": "acme/tiny", "prompt": "x"})
    assert router.keys == [("ann", 2.0)]


async def test_each_tool_needs_the_scope_of_its_route_and_counts_on_the_key(deps, router, store):
    key = ApiKey("ann", "sk-ann", scopes=frozenset({"inference"}), limits=Limits(tokens_per_minute=300))
    keyed = dataclasses.replace(deps, keys=(key,), require_key=True)
    asked = {"model": "acme/tiny", "prompt": "x", "max_tokens": 290}
    router.script = [Chunk("x", 1), Done("stop", Usage(10, 290, 0.1, 0.2))]
    async with connected(keyed, "auto", {"authorization": "Bearer sk-ann"}) as client:
        assert not (await client.call_tool("chat", asked)).is_error
        assert "tokens a minute" in (await client.call_tool("chat", asked)).content[0].text
        for name, call in (("pull", {"model": "x"}), ("list_models", {}), ("status", {})):
            assert "no scope" in (await client.call_tool(name, call)).content[0].text
    assert store.done == [] and len(router.asked) == 1


async def test_there_is_no_stream_to_listen_to_and_no_session_to_end(client):
    for method in ("GET", "DELETE"):
        reply = await client.request(method, "/mcp", headers={"accept": "text/event-stream"})
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        assert reply.json()["jsonrpc"] == "2.0" and reply.json()["error"]["code"] == -32600


async def test_without_the_sdk_it_is_said_how_to_get_it(client, monkeypatch):
    monkeypatch.delitem(sys.modules, "hali.api.mcp_server", raising=False)
    monkeypatch.delattr("hali.api.mcp_server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel.server", None)
    for body in (b"{}", b"[]", b"\xff", b'{"id": "\\ud83e"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        reply = await client.post("/mcp", content=body, headers=POST)
        assert reply.status_code == 501 and "hali[mcp]" in reply.json()["error"]["message"]
        assert reply.json()["id"] is None
