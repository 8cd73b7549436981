"""The small routes: models, health, readiness, the front page."""

from __future__ import annotations

import dataclasses

import pytest


async def test_models_are_listed_as_openai_lists_them(client):
    reply = (await client.get("/v1/models")).json()
    assert reply["object"] == "list"
    assert [(m["id"], m["object"], m["created"], m["owned_by"]) for m in reply["data"]] == [
        ("tiny:1m:base:q4_0", "model", 1_700_000_000, "hali"),
        ("other:1m:base:q4_0", "model", 1_700_000_001, "hali"),
    ]


@pytest.mark.parametrize("name", ["tiny:1m:base:q4_0", "acme/tiny", "acme%2Ftiny", "ab" * 32])
async def test_a_model_is_shown_by_any_of_its_names(client, name):
    reply = await client.get(f"/v1/models/{name}")
    assert (reply.status_code, reply.json()["id"]) == (200, "tiny:1m:base:q4_0")


async def test_an_unknown_model_is_a_404_that_says_so(client):
    reply = await client.get("/v1/models/nosuch")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


async def test_health_answers_whatever_the_router_does(client, router):
    router.accepting = False
    assert (await client.get("/health")).json()["status"] == "ok"


async def test_ready_follows_the_router_and_the_daemon(deps, client_of, router):
    assert (await client_of(deps).get("/health/ready")).status_code == 200
    starting = await client_of(dataclasses.replace(deps, not_ready=lambda: "the store is opening")).get("/health/ready")
    assert (starting.status_code, starting.json()["reason"]) == (503, "the store is opening")
    router.accepting = False
    assert (await client_of(deps).get("/health/ready")).status_code == 503


async def test_the_front_page_names_the_endpoints(client):
    page = (await client.get("/")).json()
    assert page["name"] == "hali"
    assert "POST /v1/chat/completions" in page["endpoints"]


async def test_a_slash_too_many_is_a_404_not_a_redirect(client):
    assert (await client.get("/health/")).status_code == 404


async def test_a_wrong_method_is_told_which_are_right(client):
    reply = await client.get("/v1/chat/completions")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
