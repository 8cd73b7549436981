"""Keys with scopes and budgets, as HTTP clients meet them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import anyio
import httpx
import pytest

from hali.api import ApiDeps, ApiKey
from hali.api.budget import Limits
from hali.api.keys import KeyRing
from hali.api.openai_replies import AT_ONCE
from hali.api.scopes import ALL, INFERENCE, NEEDED, OPEN, SCOPES, needed
from hali.model.errors import EngineFailed
from hali.model.generation import Chunk, Done, Embed, Embeddings, Usage
from hali.runtime.trace import traced
from tests.unit.api.conftest import DONE, TINY, leave
from tests.unit.api.target import OWN, Target

CHAT = "/v1/chat/completions"
ASK = {
    "model": TINY.id,
    "messages": [{"role": "user", "content": "12345678"}],
    "max_tokens": 10,
}  # 2 + 10 tokens reserved


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("gate", "metered", "timing"):
        monkeypatch.setattr(f"hali.api.{module}.time", made)
    return made


@pytest.fixture
def limited(deps: ApiDeps) -> Callable[..., ApiDeps]:
    """`limited(Limits(…))`: a server where `sk-ann` has these limits, `sk-bob` has none, and nobody needs a key."""

    def make(limits: Limits, **changes: object) -> ApiDeps:
        keys = (ApiKey("ann", "sk-ann", limits=limits), ApiKey("bob", "sk-bob"))
        return dataclasses.replace(deps, keys=keys, **changes)

    return make


def of(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{name}"}


async def chat(client: httpx.AsyncClient, name: str = "ann", **more: object) -> httpx.Response:
    return await client.post(CHAT, json=ASK | more, headers=of(name))


# --- scopes


def test_every_route_needs_a_scope_of_its_own_or_none(deps: ApiDeps) -> None:
    found = {(m, route.path) for route in Target(deps).routes() for m in route.methods - {"HEAD"}}
    assert found <= set(NEEDED), f"a row in hali.api.scopes.NEEDED for each of {found - set(NEEDED)}"
    assert all(scopes <= ALL for scopes in NEEDED.values())


def test_a_route_without_a_row_is_closed_to_every_key_but_the_owners() -> None:
    assert needed("POST", "/v1/forgotten") == ALL
    assert needed("HEAD", "/v1/models") == needed("GET", "/v1/models")


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_opens_the_routes_of_its_scopes_and_no_other(deps: ApiDeps, scope) -> None:
    keys = (ApiKey("ann", "sk-ann", scopes=frozenset({scope})),)
    target = Target(dataclasses.replace(deps, keys=keys, require_key=True))
    headers = (("host", OWN), ("content-type", "application/json"), ("authorization", "Bearer sk-ann"))
    for route, path in zip(target.routes(), target.paths(), strict=False):
        for method in route.methods:
            answer, opens = await target.ask(method, path, headers), needed(method, route.path) <= {scope}
            assert (answer.status, answer.reached) == ((200, 1) if opens else (403, 0)), (method, path)


async def test_a_key_that_was_revoked_or_is_too_old_is_no_key(deps, client_of) -> None:
    now = 100.0
    ring = KeyRing(clock=lambda: now)
    keys = (ApiKey("ann", "sk-ann", expires_at=101.0), ApiKey("bob", "sk-bob"))
    client = client_of(dataclasses.replace(deps, keys=keys, ring=ring, require_key=True))
    assert [(await chat(client, name)).status_code for name in ("ann", "bob")] == [200, 200]
    ring.drop("bob")
    now = 101.0
    assert [(await chat(client, name)).status_code for name in ("ann", "bob")] == [401, 401]


# --- requests a minute


async def test_requests_above_the_budget_are_429_until_retry_after(limited, client_of, router, clock) -> None:
    client = client_of(limited(Limits(requests_per_minute=2)))
    assert [(await chat(client)).status_code for _ in range(3)] == [200, 200, 429]
    refused = await chat(client)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert (refused.headers["retry-after"], len(router.asked)) == ("30", 2)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 29
    assert (await chat(client)).status_code == 429
    clock.now += 1
    assert (await chat(client)).status_code == 200


async def test_only_what_computes_is_counted_and_only_on_its_own_key(limited, client_of, clock) -> None:
    client = client_of(limited(Limits(requests_per_minute=1)))
    for _ in range(5):
        response = await client.get("/v1/models", headers=of("ann"))
        assert response.status_code == 200 and not [h for h in response.headers if h.startswith("x-ratelimit")]
        assert (await client.post(CHAT, content=b"x", headers=of("ann"))).status_code == 415
        assert (await client.get("/v1/responses/resp_none", headers=of("ann"))).status_code == 404
    assert (await chat(client)).status_code == 200
    assert [(await chat(client, name)).status_code for name in ("ann", "bob", "bob", "nobody", "nobody")] == [429] + [
        200
    ] * 4


async def test_who_needs_no_key_shares_the_default_with_all_such(deps, client_of, clock) -> None:
    client = client_of(dataclasses.replace(deps, ring=KeyRing(Limits(requests_per_minute=2))))
    headers = [{}, of("one"), of("two")]
    assert [(await client.post(CHAT, json=ASK, headers=h)).status_code for h in headers] == [200, 200, 429]


# --- tokens a minute


async def left(client: httpx.AsyncClient) -> int:
    """Tokens that `ann` has left, told by a request that is refused before it computes."""
    response = await chat(client, model="nosuch")
    assert response.status_code == 404
    return int(response.headers["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_reply_used_is_charged_not_what_was_expected(limited, client_of, clock, stream) -> None:
    client = client_of(limited(Limits(tokens_per_minute=100)))
    response = await chat(client, stream=stream)
    assert response.headers["x-ratelimit-limit-tokens"] == "100"
    # The head of a stream goes out while the reservation stands; a whole reply is settled by then.
    assert response.headers["x-ratelimit-remaining-tokens"] == ("88" if stream else "91")
    assert await left(client) == 100 - 9


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_above_the_budget_are_429_before_anything_is_computed(
    limited, client_of, router, clock, stream
) -> None:
    client = client_of(limited(Limits(tokens_per_minute=60)))
    router.script = [Done("stop", Usage(prompt_tokens=20, completion_tokens=35, ttft_s=0.1, total_s=0.2))]
    assert (await chat(client, stream=stream)).status_code == 200
    refused = await chat(client, stream=stream)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")  # 12 are wanted, 5 are left
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert len(router.asked) == 1
    clock.now += 6
    assert (await chat(client, stream=stream)).status_code == 429
    clock.now += 1
    assert (await chat(client, stream=stream)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_several_replies_are_all_paid_for_before_the_first_is_computed(
    limited, client_of, router, clock, stream
) -> None:
    client = client_of(limited(Limits(tokens_per_minute=60)))
    assert (await chat(client)).status_code == 200
    refused = await chat(client, stream=stream, n=5)  # 2 + 5 × 10
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "51")
    assert len(router.asked) == 1
    clock.now += 1
    assert (await chat(client, stream=stream, n=5)).status_code == 200
    assert await left(client) == 52 - 9 - 4 * DONE.usage.completion_tokens  # the prompt counts once


async def test_what_was_to_pay_for_replies_that_never_began_is_given_back(limited, client_of, router, clock) -> None:
    deps = limited(Limits(tokens_per_minute=200))
    router.script = [Chunk("a", 3), anyio.Event()]
    await leave(deps, router, ASK | {"n": AT_ONCE + 4})
    assert len(router.asked) == AT_ONCE
    assert await left(client_of(deps)) == 200 - 3 * AT_ONCE


async def test_a_reply_that_failed_before_its_first_token_costs_nothing(limited, client_of, router, clock) -> None:
    client = client_of(limited(Limits(tokens_per_minute=100)))
    router.script = [ZeroDivisionError()]
    assert (await chat(client)).status_code == 500
    assert await left(client) == 100


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_midway_pays_for_what_came(limited, client_of, router, clock, stream) -> None:
    deps = limited(Limits(tokens_per_minute=100))
    router.script = [Chunk("a", 3), Chunk("b", 1), anyio.Event()]
    await leave(deps, router, ASK | {"stream": stream})
    assert await left(client_of(deps)) == 100 - 4


@pytest.mark.parametrize("told", [Usage(30, 5, 0.1, 0.2), None], ids=["the engine tells", "the engine dies"])
async def test_who_leaves_midway_pays_what_the_engine_tells_later(limited, client_of, router, clock, told) -> None:
    """A cancelled engine tells after the reader has gone; until then the reservation stands."""
    deps, traces, plain = limited(Limits(tokens_per_minute=100)), [], router.generate

    async def generate(*args, **options):
        traces.append(traced())
        traces[0].engine_began()
        async for event in plain(*args, **options):
            yield event

    router.generate = generate
    router.script = [Chunk("a", 3), anyio.Event()]
    await leave(deps, router, ASK | {"stream": True})
    assert await left(client_of(deps)) == 100 - 12
    traces[0].engine_ended(told)
    assert await left(client_of(deps)) == 100 - (35 if told else 3)


async def test_questions_that_compute_are_charged_with_their_prompt(limited, router, clock) -> None:
    from hali.api.gate import Exchange
    from hali.api.metered import MeteredRouter
    from hali.api.timing import exchanging

    async def answer(*_: object, **__: object) -> Embeddings:
        return Embeddings((), prompt_tokens=40)

    router.ask = answer
    deps = limited(Limits(tokens_per_minute=100))
    exchange = Exchange("POST", "/v1/embeddings")
    exchange.budget = KeyRing().budget(deps.keys[0])
    with exchanging(exchange):
        await MeteredRouter(router, deps.metrics).ask(TINY, Embed(("text",)))
    assert exchange.budget.tokens is not None and exchange.budget.tokens.level(clock.now) == 60


# --- deadlines


async def test_a_deadline_reaches_the_router_as_loop_time(deps, client_of, router) -> None:
    seen, plain = [], router.generate

    def generate(*args, deadline=None, **options):
        seen.append(deadline)
        return plain(*args, **options)

    router.generate = generate
    client, before = client_of(deps), anyio.current_time()
    assert (await client.post(CHAT, json=ASK, headers={"x-hali-deadline-ms": "60000"})).status_code == 200
    assert (await client.post(CHAT, json=ASK)).status_code == 200
    assert before + 60 <= seen[0] <= anyio.current_time() + 60 and seen[1] is None
    for wrong in ("", "-1", "1.5", "soon", "9" * 10):
        assert (await client.post(CHAT, json=ASK, headers={"x-hali-deadline-ms": wrong})).status_code == 400
    assert len(seen) == 2


async def test_a_deadline_holds_for_questions_too(deps, client_of, router) -> None:
    seen, plain = [], router.ask

    async def ask(*args, deadline=None, **options):
        seen.append(deadline)
        return await plain(*args, **options)

    router.ask = ask
    client, before = client_of(deps), anyio.current_time()
    for path, body in {
        "/v1/embeddings": {"model": TINY.id, "input": "text"},
        "/api/embed": {"model": TINY.id, "input": "text"},
        "/v1/rerank": {"model": TINY.id, "query": "text", "documents": ["text"]},
        "/tokenize": {"model": TINY.id, "content": "text"},
        "/v1/messages/count_tokens": {"model": TINY.id, "messages": ASK["messages"]},
    }.items():
        assert (await client.post(path, json=body, headers={"x-hali-deadline-ms": "60000"})).status_code == 200, path
        assert before + 60 <= seen.pop() <= anyio.current_time() + 60, path


@pytest.mark.parametrize("reached", [False, True])
async def test_who_gives_a_question_too_little_time_pays_for_it_once_it_is_computed(
    limited, client_of, router, clock, reached
) -> None:
    deps = limited(Limits(tokens_per_minute=100))

    async def late(*_, **__):
        if reached:
            traced().engine_began()
        raise EngineFailed("the reply was not there", code="engine_timeout", retryable=True)

    router.ask = late
    answer = await client_of(deps).post(
        "/v1/embeddings", json={"model": TINY.id, "input": "a" * 400}, headers=of("ann")
    )
    assert answer.status_code == 503
    assert deps.ring.budget(deps.keys[0]).tokens.level(clock.now) == (0 if reached else 100)


def test_what_computes_is_what_is_counted() -> None:
    assert needed("POST", CHAT) == INFERENCE and needed("GET", "/health") == OPEN
    assert DONE.usage.prompt_tokens + DONE.usage.completion_tokens == 9
