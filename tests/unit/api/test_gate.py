"""The gate: foreign Hosts and Origins, keys, content types and sizes, on every route the application has."""

from __future__ import annotations

import dataclasses
import json

import httpx
import pytest
from starlette.routing import Route

from hali.api import ApiDeps, ApiKey, ApiLimits, build_app
from hali.api.origins import authorities

OWN_HOST = "127.0.0.1:47433"
JSON = {"content-type": "application/json"}

# Every route of the application, with a request that it would answer. `test_every_route_has_a_row` keeps this complete.
ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/"): "/",
    ("GET", "/openapi.json"): "/openapi.json",
    ("GET", "/health"): "/health",
    ("GET", "/health/ready"): "/health/ready",
    ("GET", "/metrics"): "/metrics",
    ("GET", "/v1/models"): "/v1/models",
    ("GET", "/v1/models/{name:path}"): "/v1/models/acme/tiny",
    ("POST", "/v1/chat/completions"): "/v1/chat/completions",
    ("POST", "/v1/completions"): "/v1/completions",
    ("POST", "/v1/embeddings"): "/v1/embeddings",
    ("POST", "/v1/responses"): "/v1/responses",
    ("POST", "/v1/responses/input_tokens"): "/v1/responses/input_tokens",
    ("GET", "/v1/responses/{response_id}"): "/v1/responses/resp_none",
    ("DELETE", "/v1/responses/{response_id}"): "/v1/responses/resp_none",
    ("POST", "/v1/responses/{response_id}/cancel"): "/v1/responses/resp_none/cancel",
    ("GET", "/v1/responses/{response_id}/input_items"): "/v1/responses/resp_none/input_items",
    ("POST", "/v1/messages"): "/v1/messages",
    ("POST", "/v1/messages/count_tokens"): "/v1/messages/count_tokens",
    ("POST", "/api/chat"): "/api/chat",
    ("POST", "/api/generate"): "/api/generate",
    ("POST", "/api/embed"): "/api/embed",
    ("POST", "/api/embeddings"): "/api/embeddings",
    ("GET", "/api/version"): "/api/version",
    ("GET", "/api/tags"): "/api/tags",
    ("GET", "/api/ps"): "/api/ps",
    ("POST", "/api/show"): "/api/show",
    ("POST", "/api/pull"): "/api/pull",
    ("DELETE", "/api/delete"): "/api/delete",
    ("POST", "/tokenize"): "/tokenize",
    ("POST", "/detokenize"): "/detokenize",
    ("POST", "/apply-template"): "/apply-template",
    ("POST", "/v1/rerank"): "/v1/rerank",
    ("POST", "/rerank"): "/rerank",
    ("POST", "/mcp"): "/mcp",
    ("GET", "/assets/{name}"): "/assets/index.html",
    ("POST", "/dashboard/ticket"): "/dashboard/ticket",
    ("GET", "/dashboard/ws"): "/dashboard/ws",
    ("POST", "/dashboard/call/{method}"): "/dashboard/call/pause",
}
# … and requests that end in errors: those answers must not be open to strangers either.
ERRORS = [
    ("GET", "/nosuch"),
    ("GET", "/v1/models/nosuch"),
    ("DELETE", "/v1/models"),
    ("OPTIONS", "/v1/chat/completions"),
    ("POST", "/v1/messages/nosuch"),
    ("GET", "/v1/messages"),
    ("POST", "/api/copy"),
    ("GET", "/api/chat"),
    ("GET", "/tokenize"),
    ("GET", "/mcp"),
    ("GET", "/dashboard/call/pause"),
    ("GET", "/assets/nosuch"),
]
ALL = [(method, path) for (method, _), path in ROUTES.items()] + [
    ("HEAD", path) for (method, _), path in ROUTES.items() if method == "GET"
]

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:47433",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.0.0.1:47434",
    "127.0.0.1:47433.evil.example",
    "127.evil.example:47433",
    "localhost.localdomain:47433",
    "localhost.:47433",
    "localhost.evil.example:47433",
    "evil-localhost:47433",
    "[::ffff:127.0.0.1]:47433",
    "[::1]",
    "127.1:47433",
    "127.0.0.2:47433",
    "0.0.0.0:47433",
    "2130706433:47433",
    "user@127.0.0.1:47433",
    "127.0.0.1:47433/",
    "127.0.0.1:047433",
    " ",
    "",
]
FOREIGN_HEADERS = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:8080"},
    {"origin": "http://127.0.0.1:47433.evil.example"},
    {"origin": "http://127.0.0.1:47433@evil.example"},
    {"origin": "file://"},
    {"origin": "chrome-extension://abcdef"},
    {"referer": "http://evil.example/127.0.0.1:47433"},
    {"referer": "http://[evil"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
]
OWN_HEADERS = [
    {},
    {"host": "localhost:47433"},
    {"host": "LOCALHOST:47433"},
    {"host": "[::1]:47433"},
    {"origin": "http://127.0.0.1:47433"},
    {"origin": "http://localhost:47433", "host": "localhost:47433"},
    {"referer": "http://127.0.0.1:47433/anything?x=1"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]


def chat(model: str = "acme/tiny") -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"hi"}]}' % model.encode()


# One body that every route which takes one would answer: fields that an API does not know are ignored.
BODY = {
    "model": "acme/tiny",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 5,
    **dict.fromkeys(("prompt", "input", "content", "query"), "hi"),
    "tokens": [1],
    "documents": ["a"],
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
}
MCP = {"accept": "application/json, text/event-stream"}


async def ask(client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    fields = (
        {**BODY, "prompt": None} if path.startswith("/v1/responses") else BODY
    )  # there a prompt is a stored template
    body = json.dumps(fields).encode() if method in ("POST", "DELETE") else None
    headers = {**(MCP if path == "/mcp" else {}), **headers}
    return await client.request(method, path, content=body, headers={**(JSON if body else {}), **headers})


def check_headers(response: httpx.Response) -> None:
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-frame-options"] == "DENY"


def check_shape(path: str, response: httpx.Response, kind: str) -> None:
    """The error has the shape of the API that `path` belongs to."""
    told = response.json()
    if path.startswith("/api/"):
        assert set(told) == {"error"} and isinstance(told["error"], str)
    elif path == "/mcp":
        assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", None, -32600)
    elif path.startswith("/v1/messages"):
        assert (told["type"], told["error"]["type"], set(told["error"])) == ("error", kind, {"type", "message"})
        assert response.headers["request-id"].startswith("req_")
    elif path.startswith(("/dashboard/", "/assets/")):
        assert set(told) == {"error"} and {"code", "message", "retryable"} <= set(told["error"])
    elif path in ("/tokenize", "/detokenize", "/apply-template", "/rerank", "/v1/rerank"):
        assert (told["error"]["code"], told["error"]["type"]) == (response.status_code, kind)
    else:
        assert told["error"]["type"] == kind and set(told["error"]) == {"message", "type", "param", "code"}


ANSWERS = {"/dashboard/ws": 400}  # it is a WebSocket: test_browser_matrix.py


def test_every_route_has_a_row(deps):
    routes = [route for route in build_app(deps).routes if isinstance(route, Route)]  # no WebSockets
    found = {(m, route.path) for route in routes for m in route.methods - {"HEAD"}}
    assert found == set(ROUTES), "a new route needs a row in ROUTES, so that the matrix below covers it"


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_requests_of_our_own_are_answered_on_every_route(client, method, path):
    for headers in OWN_HEADERS:
        response = await ask(client, method, path, headers)
        expected = ANSWERS.get(path, 404 if "resp_none" in path else 200)  # there is no such response
        assert response.status_code == expected, headers
        check_headers(response)


@pytest.mark.parametrize(("method", "path"), ALL + ERRORS)
async def test_strangers_get_403_on_every_route_and_cause_nothing(client, router, store, method, path):
    for headers in [{"host": host} for host in FOREIGN_HOSTS] + FOREIGN_HEADERS:
        response = await ask(client, method, path, headers)
        assert response.status_code == 403, headers
        assert router.asked == router.queries == store.done == []
        check_headers(response)
        if method != "HEAD":
            check_shape(path, response, "permission_error")


async def test_two_hosts_or_two_origins_are_refused(client):
    twice = [("host", OWN_HOST), ("host", OWN_HOST)]
    assert (await client.get("/health", headers=twice)).status_code == 403
    mixed = [("origin", "http://127.0.0.1:47433"), ("origin", "http://evil.example")]
    assert (await client.get("/health", headers=mixed)).status_code == 403


@pytest.mark.parametrize(("method", "path"), ERRORS)
async def test_errors_carry_the_security_headers_and_have_the_shape_of_their_api(client, method, path):
    response = await ask(client, method, path, {})
    assert response.status_code in (404, 405)
    missing = "not_found_error" if path.startswith("/v1/messages") else "invalid_request_error"
    check_shape(path, response, missing if response.status_code == 404 else "invalid_request_error")
    check_headers(response)


async def test_a_crash_inside_carries_the_security_headers(client, router):
    router.script = [ZeroDivisionError()]
    response = await ask(client, "POST", "/v1/chat/completions", {})
    assert response.status_code == 500
    check_headers(response)


def test_configured_names_and_the_reached_address_are_ours_too():
    own = authorities("192.168.1.5", 47433, ("Box.lan", "api.example:443"))
    assert {"192.168.1.5:47433", "box.lan", "box.lan:47433", "api.example:443"} <= own
    assert "192.168.1.6:47433" not in own
    assert "api.example:47433" not in own
    assert "[fe80::1]:1" in authorities("fe80::1", 1, ())


def test_only_on_port_80_the_port_may_be_left_out():
    assert "localhost" in authorities("127.0.0.1", 80, ())
    assert "localhost" not in authorities("127.0.0.1", 47433, ())


# --- keys


@pytest.fixture
def keyed(deps) -> ApiDeps:
    keys = (ApiKey("ann", "sk-ann", 2.0), ApiKey("bob", "sk-bob"))
    return dataclasses.replace(deps, keys=keys, require_key=True)


WRONG = [
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer"},
    {"authorization": "Basic sk-ann"},
    {"authorization": "sk-ann"},
    {"authorization": "Bearer sk-ann sk-ann"},
    {"authorization": "Bearer sk-an"},
    {"x-api-key": "sk-an"},
    {"x-api-key": "Bearer sk-ann"},
]


@pytest.mark.parametrize(("method", "path"), [each for each in ALL + ERRORS if not each[1].startswith("/assets/")])
async def test_without_a_valid_key_every_route_is_401_where_one_is_required(
    keyed, client_of, router, store, method, path
):
    client = client_of(keyed)
    for headers in WRONG:
        response = await ask(client, method, path, headers)
        assert response.status_code == 401, headers
        assert response.headers["www-authenticate"] == "Bearer"
        assert router.asked == router.queries == store.done == []
        check_headers(response)
        if method != "HEAD":
            check_shape(path, response, "authentication_error")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_valid_key_opens_and_names_its_owner(keyed, client_of, router, scheme):
    response = await ask(client_of(keyed), "POST", "/v1/chat/completions", {"authorization": f"{scheme} sk-ann"})
    assert response.status_code == 200
    assert router.keys == [("ann", 2.0)]


async def test_a_valid_key_opens_also_as_anthropics_clients_send_it(keyed, client_of, router):
    for headers in ({"x-api-key": "sk-ann"}, {"x-api-key": "sk-ann", "authorization": "Bearer other"}):
        assert (await ask(client_of(keyed), "POST", "/v1/chat/completions", headers)).status_code == 200
    assert router.keys == [("ann", 2.0)] * 2


async def test_a_key_in_the_url_is_no_key(keyed, client_of):
    response = await client_of(keyed).get("/v1/models?api_key=sk-ann&key=sk-ann")
    assert response.status_code == 401


async def test_where_no_key_is_required_any_is_accepted_and_a_known_one_names_its_owner(keyed, client_of, router):
    client = client_of(dataclasses.replace(keyed, require_key=False))
    for headers in ({}, {"authorization": "Bearer none"}, {"authorization": "Bearer sk-bob"}):
        assert (await ask(client, "POST", "/v1/chat/completions", headers)).status_code == 200
    assert router.keys == [(None, 1.0), (None, 1.0), ("bob", 1.0)]


def test_a_key_does_not_show_its_secret():
    assert "sk-ann" not in repr(ApiKey("ann", "sk-ann"))


# --- bodies


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        {"content-type": "text/plain; application/json"},
        {**JSON, "content-encoding": "gzip"},
    ],
    ids=str,
)
async def test_what_a_page_can_send_without_asking_is_415(client, router, headers):
    response = await client.post("/v1/chat/completions", content=chat(), headers=headers)
    assert response.status_code == 415
    assert router.asked == []
    check_headers(response)
    for path in ("/v1/messages", "/api/chat", "/tokenize", "/mcp"):
        response = await client.post(path, content=chat(), headers=headers)
        assert response.status_code == 415
        check_shape(path, response, "invalid_request_error")
    assert router.asked == router.queries == []


async def test_json_with_a_charset_is_json(client):
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await client.post("/v1/chat/completions", content=chat(), headers=headers)).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(deps, client_of, router, declared):
    client = client_of(dataclasses.replace(deps, limits=ApiLimits(body_bytes=1000)))

    async def pieces():
        for _ in range(11):
            yield b" " * 100

    body = b" " * 1100 if declared else pieces()
    response = await client.post("/v1/chat/completions", content=body, headers=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert router.asked == []


async def test_a_body_at_the_limit_is_read(deps, client_of):
    client = client_of(dataclasses.replace(deps, limits=ApiLimits(body_bytes=1000)))
    body = chat().ljust(1000)
    assert (await client.post("/v1/chat/completions", content=body, headers=JSON)).status_code == 200
