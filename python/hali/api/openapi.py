"""The OpenAPI 3.1 document of the HTTP API, from the declarations of its routes and the msgspec types they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from hali._version import __version__
from hali.api.routes import Endpoint

PATH = "/openapi.json"
_REFERENCE = "#/components/schemas/{name}"  # where OpenAPI keeps named schemas
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")  # Starlette's {name:path} is OpenAPI's {name}
_OBJECT: dict[str, Any] = {"type": "object"}
_TEXT = {"type": "string"}

# What any route may answer besides its own result; the gate and the limits stand before all of them.
_FAILURES = {
    "4XX": (
        "400 wrong as written, the error names the field · 401 a key is required · 403 the key, Host or Origin may not · "
        "404 no such model, object or path · 413 too large · 415 not JSON · 429 the limit of this key, see Retry-After"
    ),
    "5XX": "500 the engine or hali failed · 503 the queue is full, or hali starts or stops, see Retry-After",
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document; the order of paths is that of `endpoints`."""
    endpoints = tuple(endpoints)
    named = tuple(dict.fromkeys(kind for each in endpoints for kind in _types(each)))
    schemas, components = msgspec.json.schema_components(named, ref_template=_REFERENCE)
    schema_of = dict(zip(named, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        operations = paths.setdefault(_PARAMETER.sub(r"{\1}", each.path), {})
        for method in each.declared:
            operations[method.lower()] = _operation(each, method, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hali",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"key": []}],  # none is needed on loopback
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def as_text(endpoints: Iterable[Endpoint]) -> str:
    """The document for people and files: indented, ends with a line break."""
    return msgspec.json.format(msgspec.json.encode(document(endpoints)), indent=2).decode() + "\n"


def _types(endpoint: Endpoint) -> Iterator[Any]:
    yield from (kind for kind in (endpoint.request, endpoint.response, endpoint.error) if kind is not None)


def _operation(endpoint: Endpoint, method: str, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation = {
        "operationId": _operation_id(endpoint, method),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": list(_parameters(endpoint)),
        "responses": _responses(endpoint, schema_of),
    }
    if endpoint.request is not None and method != "GET":
        operation["requestBody"] = {"required": True, "content": _json(schema_of[endpoint.request])}
    return operation


def _operation_id(endpoint: Endpoint, method: str) -> str:
    words = re.findall(r"\w+", _PARAMETER.sub(r"\1", endpoint.path))
    return "_".join([method.lower(), *words])


def _parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": _TEXT}
    for name in endpoint.query:
        yield {"name": name, "in": "query", "required": False, "schema": _TEXT}


def _responses(endpoint: Endpoint, schema_of: dict[Any, Any]) -> dict[str, Any]:
    content = _json(_OBJECT if endpoint.response is None else schema_of[endpoint.response])
    if endpoint.media not in content:
        content = {endpoint.media: {"schema": _TEXT}}
    if endpoint.stream:
        content[endpoint.stream] = {"schema": _TEXT}
    failed = _json(_OBJECT if endpoint.error is None else schema_of[endpoint.error])
    failures = {status: {"description": text, "content": failed} for status, text in _FAILURES.items()}
    return {"200": {"description": "The result.", "content": content}, **failures}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
