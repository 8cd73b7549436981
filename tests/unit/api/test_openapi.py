"""The OpenAPI document: valid, whole, and true to what the routes decode."""

from __future__ import annotations

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from hali.api.app import ROUTES
from hali.api.openapi import document
from hali.api.routes import SSE, Endpoint


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
    assert "$ref" in operation["responses"]["400"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize("path", ["/openapi.json"])
async def test_the_server_gives_it_to_whoever_asks(client, path) -> None:
    reply = await client.get(path)
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == document(ROUTES)
