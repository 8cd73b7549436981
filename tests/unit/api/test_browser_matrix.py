"""Attacks from a browser: every route × method × what a page of another site can send. Nothing may reach a route, nothing may be told.

Routes are taken from the application, so that a new one is covered by being there. With a defence taken away the matrix must
find the hole: a test of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hali.api import ApiDeps, gate
from hali.api.app import ROUTES
from hali.api.dashboard_routes import SOCKET
from tests.unit.api.target import OWN, WEBSOCKET, Headers, Target

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
JSON, FORM = "application/json", "application/x-www-form-urlencoded"

# What DNS rebinding makes of Host: the name the page was loaded from; and spellings that a lax comparison would take for ours.
HOSTS = (
    "evil.example",
    "evil.example:47433",
    "rebind.127.0.0.1.nip.example:47433",
    "localhost.evil.example:47433",
    "127.0.0.1.evil.example:47433",
    "localtest.me:47433",
    "127.0.0.1",
    "127.0.0.1:47434",
    "0.0.0.0:47433",
    "127.1:47433",
    "2130706433:47433",
    "0x7f000001:47433",
    "[::ffff:127.0.0.1]:47433",
    "evil@127.0.0.1:47433",
    "127.0.0.1:47433@evil.example",
    "192.168.1.1:47433",
    "printer.local:47433",
    "",
)
ORIGINS = (
    "http://evil.example",
    "https://evil.example:47433",
    "null",  # a sandboxed frame, a data: page, a file
    "",
    "http://127.0.0.1",
    "http://127.0.0.1:3000",  # another program's page on this machine
    "http://localhost",
    "http://localhost:47434",
    "http://127.0.0.1:47433.evil.example",
    "http://127.0.0.1:47433@evil.example",
    "file://",
    "chrome-extension://abcdefghijklmnop",
    "moz-extension://00000000-0000-0000-0000-000000000000",
    "app://evil",
)
REFERERS = ("http://evil.example/", "http://evil.example/127.0.0.1:47433", "http://127.0.0.1:3000/", "http://[evil")
SITES = ("cross-site", "same-site")
DESTINATIONS = (
    ("no-cors", "image"),
    ("no-cors", "script"),
    ("cors", "empty"),
    ("navigate", "document"),
    ("navigate", "iframe"),
)
ATTACKS: dict[str, tuple[Headers, ...]] = {
    "forged Host": tuple((("host", host),) for host in HOSTS),
    "foreign Origin": tuple((("host", OWN), ("origin", origin)) for origin in ORIGINS),
    "preflight": tuple(
        (
            ("host", OWN),
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", "authorization,content-type,x-api-key"),
            ("access-control-request-private-network", "true"),
        )
        for origin in ("http://evil.example", "null")
        for method in ("POST", "DELETE")
    ),
    "foreign Referer": tuple((("host", OWN), ("referer", referer)) for referer in REFERERS),
    "fetch metadata": tuple(
        (("host", OWN), ("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", destination))
        for site in SITES
        for mode, destination in DESTINATIONS
    ),
    "two Hosts": ((("host", OWN), ("host", OWN)), (("host", "evil.example"), ("host", OWN))),
    "mixed Origins": ((("host", OWN), ("origin", f"http://{OWN}"), ("origin", "http://evil.example")),),
}
# A form is sent without asking first, by old browsers without any of the headers above: the type of the body must give it away.
TYPES = (
    FORM,
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain; application/json",
    "",
    f"{JSON}, text/plain",
)
FORMS: tuple[Headers, ...] = (
    *((("host", OWN), ("content-type", kind)) for kind in TYPES),
    (("host", OWN),),
    (("host", OWN), ("content-type", JSON), ("content-type", FORM)),
)
WITH_BODY = ("POST", "PUT", "PATCH")


def attacks(kind: str) -> Iterator[tuple[str, Headers]]:
    """(method, headers) of one kind of attack; with and without the type that a body of ours has."""
    if kind == "form":
        yield from ((method, headers) for method in WITH_BODY for headers in FORMS)
        return
    for method in METHODS:
        for headers in ATTACKS[kind]:
            yield method, headers
            yield method, (*headers, ("content-type", JSON))


async def holes(target: Target, kind: str) -> list[str]:
    """Every attack of this kind that was not refused, or was told more than an error without CORS."""
    found, refusals = [], (415, 403, 404, 405) if kind == "form" else (403,)
    for path in target.paths():
        for method, headers in attacks(kind):
            answer = await target.ask(method, path, headers)
            cors = [name for name in answer.headers if name.lower().startswith("access-control")]
            if answer.reached or answer.status not in refusals or cors:
                found.append(f"{method} {path} {headers}: {answer.status} {cors}")
    return found


KINDS = (*ATTACKS, "form")


@pytest.mark.parametrize("kind", KINDS)
async def test_no_attack_reaches_any_route(deps: ApiDeps, kind: str) -> None:
    assert await holes(Target(deps), kind) == []


@pytest.mark.parametrize("host", HOSTS)
async def test_no_target_that_is_the_url_of_another_host_reaches_any_route(deps: ApiDeps, host: str) -> None:
    target = Target(deps)
    for path in target.paths():
        for method in ("GET", "POST"):
            for authority, own in ((host, OWN), (OWN, host)):  # whichever of the two is foreign
                headers = (("host", own), ("content-type", JSON))
                answer = await target.ask(method, f"http://{authority}{path}", headers)
                assert (answer.status, answer.reached) == (403, 0), (method, path, authority)


async def test_a_target_that_is_our_own_url_reaches_what_its_path_does(deps: ApiDeps) -> None:
    target = Target(deps)
    for route, path in zip(target.routes(), target.paths(), strict=False):
        for method in route.methods:
            for start in (f"http://{OWN}", "HTTP://LocalHost:47433"):
                answer = await target.ask(method, f"{start}{path}", (("host", OWN), ("content-type", JSON)))
                assert (answer.status, answer.reached) == (200, 1), (method, path)


def test_the_matrix_is_as_large_as_it_claims(deps: ApiDeps) -> None:
    each = sum(1 for kind in KINDS for _ in attacks(kind))
    assert each > 900 and sum(map(len, ATTACKS.values())) + len(FORMS) > 55
    assert len(Target(deps).paths()) == len(ROUTES) + 2


async def test_what_is_our_own_does_reach_every_route(deps: ApiDeps) -> None:
    """Or the matrix would prove nothing."""
    target = Target(deps)
    for route, path in zip(target.routes(), target.paths(), strict=False):
        for method in route.methods:
            headers = (
                ("host", OWN),
                ("origin", f"http://{OWN}"),
                ("sec-fetch-site", "same-origin"),
                ("content-type", JSON),
            )
            answer = await target.ask(method, path, headers)
            assert (answer.status, answer.reached) == (200, 1), (method, path)


DEFENCES = {**dict.fromkeys(ATTACKS, ("foreign", lambda *_: None)), "form": ("_must_be_json", lambda _: None)}


@pytest.mark.parametrize("kind", KINDS)
async def test_without_the_defence_the_matrix_finds_a_hole_in_every_route(
    deps: ApiDeps, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, nothing = DEFENCES[kind]
    monkeypatch.setattr(gate, name, nothing)
    target = Target(deps)
    found = await holes(target, kind)
    with_body = {m for route in target.routes() for m in route.methods & set(WITH_BODY)}
    for route, path in zip(target.routes(), target.paths(), strict=False):
        methods = route.methods & (with_body if kind == "form" else set(METHODS))
        for method in methods:
            assert any(hole.startswith(f"{method} {path} ") for hole in found), f"{kind}: {method} {path}"


# ---- the WebSocket, whose handshake any page may send without asking first


def handshakes(kind: str) -> Iterator[Headers]:
    """The attacks of one kind as handshakes: with our own Origin too, and without any."""
    for headers in ATTACKS[kind]:
        yield headers
        if "origin" not in dict(headers):
            yield (*headers, ("origin", f"http://{OWN}"))


@pytest.mark.parametrize("kind", ATTACKS)
async def test_no_attack_opens_the_websocket(deps: ApiDeps, kind: str) -> None:
    target = Target(deps)
    answers = [await target.ask(WEBSOCKET, SOCKET, headers) for headers in handshakes(kind)]
    assert {(answer.status, answer.reached) for answer in answers} == {(403, 0)}


ORIGINS_OF_NOBODY = ((), (("origin", f"http://{OWN}"), ("origin", f"http://{OWN}")))


@pytest.mark.parametrize("origins", ORIGINS_OF_NOBODY, ids=["none", "two"])
async def test_a_handshake_has_exactly_one_origin(deps: ApiDeps, origins: Headers) -> None:
    assert (await Target(deps).ask(WEBSOCKET, SOCKET, (("host", OWN), *origins))).status == 403


async def test_a_handshake_of_our_own_reaches_the_websocket(deps: ApiDeps) -> None:
    answer = await Target(deps).ask(WEBSOCKET, SOCKET, (("host", OWN), ("origin", f"http://{OWN}")))
    assert (answer.status, answer.reached) == (101, 1)


@pytest.mark.parametrize("kind", sorted(set(ATTACKS) - {"mixed Origins"}))  # which the count of them refuses too
async def test_without_the_defence_an_attack_opens_the_websocket(
    deps: ApiDeps, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "foreign", lambda *_: None)
    target = Target(deps)
    assert 101 in [(await target.ask(WEBSOCKET, SOCKET, headers)).status for headers in handshakes(kind)]
