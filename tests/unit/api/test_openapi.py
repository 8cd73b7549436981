"""The OpenAPI document: valid, whole, and true to what the routes decode."""

from __future__ import annotations

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Match, Route

from hali.api import dialects, metrics
from hali.api.app import ROUTES
from hali.api.base import LoadedModel
from hali.api.openai_response_shapes import ItemPage, ResponseDeleted, ResponseObject
from hali.api.openapi import document
from hali.api.routes import SSE, Endpoint
from hali.model.generation import Candidate, Chunk, Done, TokenLogprob, ToolCall, ToolCalled, Usage
from tests.unit.api.conftest import TINY


class Wish(msgspec.Struct):
    """A body of the tests."""

    what: str
    times: int = 1


async def _nothing(request):
    raise NotImplementedError


def test_the_document_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document(ROUTES)).iter_errors()] == []


def test_the_validator_would_notice() -> None:
    broken = {**document(ROUTES), "paths": {"/": {"get": {"responses": {"200": {}}}}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_every_route_is_declared_and_in_the_document() -> None:
    assert all(isinstance(route, Endpoint) for route in ROUTES)
    described = {
        (method.upper(), path) for path, operations in document(ROUTES)["paths"].items() for method in operations
    }
    assert len(described) == sum(len(route.declared) for route in ROUTES)


def test_a_route_is_counted_and_fails_in_the_words_of_the_api_that_it_is_listed_under() -> None:
    for route in ROUTES:
        assert metrics.dialect_of(route.path) == route.tag
        assert dialects.dialect_of(route.path).name == ("openai" if route.tag == "hali" else route.tag)


def test_an_endpoint_tells_its_body_its_parameters_and_its_stream() -> None:
    endpoint = Endpoint(
        "/wish/{name:path}",
        _nothing,
        methods=("POST",),
        summary="Wish",
        request=Wish,
        response=Wish,
        stream=SSE,
        query=("after",),
    )
    assert isinstance(endpoint, Route)
    made = document([endpoint])
    operation = made["paths"]["/wish/{name}"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Wish"}
    assert made["components"]["schemas"]["Wish"]["required"] == ["what"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", SSE}
    assert [(p["name"], p["in"]) for p in operation["parameters"]] == [("name", "path"), ("after", "query")]
    assert "$ref" in operation["responses"]["4XX"]["content"]["application/json"]["schema"]


def test_an_answer_that_is_no_json_says_what_it_is() -> None:
    operation = document(ROUTES)["paths"]["/metrics"]["get"]
    assert operation["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}


async def test_the_server_gives_it_to_whoever_asks(client) -> None:
    reply = await client.get("/openapi.json")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == document(ROUTES)


HELLO = {"model": "tiny:1m:base:q4_0", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "tiny:1m:base:q4_0", "prompt": "hi"}
INPUT = {"model": "tiny:1m:base:q4_0", "input": "hi"}
WEATHER = {"name": "weather", "parameters": {"type": "object"}}
TOLD = (TokenLogprob(Candidate(1, b"a", -0.5), (Candidate(1, b"a", -0.5),)),)
CALLED = [
    Chunk("Hm", 1, reasoning=True),
    Chunk("a", 1, logprobs=TOLD),
    ToolCalled(0, ToolCall("call_1", "weather", "{}")),
    Done("tool_calls", Usage(1, 2, 0.1, 0.2)),
]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", None),
        ("/health", None),
        ("/health/ready", None),
        ("/v1/models", None),
        ("/v1/models/acme/tiny", None),
        ("/v1/chat/completions", {**HELLO, "logprobs": True, "top_logprobs": 1}),
        ("/v1/chat/completions", {**HELLO, "functions": [WEATHER]}),
        ("/v1/completions", {**TEXT, "logprobs": 1}),
        ("/v1/embeddings", INPUT),
        ("/v1/embeddings", {**INPUT, "encoding_format": "base64"}),
        ("/v1/responses", {**INPUT, "top_logprobs": 1, "tools": [{"type": "function", **WEATHER}]}),
        ("/v1/responses", {**INPUT, "background": True}),
        ("/v1/messages", {**HELLO, "max_tokens": 9}),
        ("/v1/messages", {**HELLO, "max_tokens": 9, "thinking": {"type": "enabled"}}),
        ("/v1/messages/count_tokens", HELLO),
        ("/api/chat", {**HELLO, "stream": False, "logprobs": True}),
        ("/api/chat", {"model": HELLO["model"], "stream": False}),
        ("/api/generate", {**TEXT, "stream": False, "logprobs": True}),
        ("/api/generate", {"model": HELLO["model"], "keep_alive": 0}),
        ("/api/embed", INPUT),
        ("/api/embeddings", TEXT),
        ("/api/version", None),
        ("/api/tags", None),
        ("/api/ps", None),
        ("/api/show", {"model": HELLO["model"]}),
        ("/api/pull", {"model": "acme/new", "stream": False}),
        ("/tokenize", {"model": HELLO["model"], "content": "hi"}),
        ("/tokenize", {"model": HELLO["model"], "content": "hi", "with_pieces": True}),
        ("/detokenize", {"model": HELLO["model"], "tokens": [1]}),
        ("/apply-template", HELLO),
        ("/rerank", {"model": HELLO["model"], "query": "a", "documents": ["b"], "return_documents": True}),
        ("/v1/rerank", {"model": HELLO["model"], "query": "a", "texts": ["b"], "return_text": True}),
    ],
)
@pytest.mark.parametrize("script", [None, CALLED])
async def test_answers_have_the_declared_shape(client, router, store, background, path, body, script) -> None:
    store.in_memory = [LoadedModel(TINY, 4096, 5000, 60.0)]
    router.script = script or router.script
    reply = await (client.get(path) if body is None else client.post(path, json=body))
    (endpoint,) = (each for each in ROUTES if each.matches(_scope(path, body))[0] is Match.FULL)
    msgspec.convert(reply.json(), endpoint.response)


def test_only_what_has_no_words_of_its_own_is_an_object_without_a_shape() -> None:
    assert {each.path for each in ROUTES if each.response is None} == {
        "/openapi.json",
        "/metrics",
        "/mcp",
        "/api/delete",
        "/assets/{name}",
        "/dashboard/call/{method}",
        "/dashboard/ws",
    }


async def test_answers_about_a_response_have_the_declared_shape(client, router) -> None:
    router.script = [Chunk("a", 1), Done("length", Usage(1, 1, 0.1, 0.2))]
    path = f"/v1/responses/{(await client.post('/v1/responses', json=INPUT)).json()['id']}"
    msgspec.convert((await client.get(path)).json(), ResponseObject)
    msgspec.convert((await client.get(f"{path}/input_items")).json(), ItemPage)
    msgspec.convert((await client.delete(path)).json(), ResponseDeleted)


def _scope(path: str, body: object) -> dict[str, object]:
    return {"type": "http", "method": "GET" if body is None else "POST", "path": path, "root_path": "", "headers": []}
