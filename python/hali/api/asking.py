"""Asking the router in the name of whoever sent the request, and only while they wait for the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from hali.api import scopes
from hali.api.base import ApiDeps, ApiKey, ModelStore
from hali.api.gate import KEY
from hali.api.replies import while_connected
from hali.model.errors import EngineFailed, Failed
from hali.model.generation import Answer, GenerateRequest, GenerationEvent, Query
from hali.pipeline.base import ServedModel

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


def deps_of(request: Request) -> ApiDeps:
    """What the application was built with."""
    found: ApiDeps = request.app.state.deps
    return found


def store_of(request: Request) -> ModelStore:
    """What pulls, deletes and loads models here."""
    models = deps_of(request).models
    if models is None:
        raise Failed("this server only answers; it has no store of models", code="no_store")
    return models


def must_hold(request: Request, scope: scopes.Scope) -> None:
    """`Refused` (403) unless the key opens `scope` too; where no key is needed, nobody is asked for one."""
    key: ApiKey | None = getattr(request.state, KEY)
    if key is not None:
        scopes.check_held(key.scopes, frozenset({scope}))


def holds(request: Request, scope: scopes.Scope) -> bool:
    """Whether `must_hold` would pass."""
    key: ApiKey | None = getattr(request.state, KEY)
    return key is None or scope in key.scopes


def share_of(request: Request) -> tuple[str | None, float]:
    """(owner, weight) of the key that came with the request: whose share of the queue it takes."""
    key: ApiKey | None = getattr(request.state, KEY)
    return (key.owner, key.weight) if key else (None, 1.0)


def key_of(request: Request) -> str | None:
    """Which key came with the request: whose responses it may see."""
    key: ApiKey | None = getattr(request.state, KEY)
    return None if key is None else key.ident


def generated(request: Request, model: ServedModel, asked: GenerateRequest) -> AsyncGenerator[GenerationEvent, None]:
    """The router's events of one generation."""
    owner, weight = share_of(request)
    return deps_of(request).router.generate(model, asked, key=owner, weight=weight)


async def answered(request: Request, model: ServedModel, query: Query, kind: type[A]) -> A:
    """The router's answer to `query`, which is one of `kind`; given up when the client leaves."""
    owner, weight = share_of(request)

    async def work() -> Answer:
        return await deps_of(request).router.ask(model, query, key=owner, weight=weight)

    answer = await waited(request, work)
    if not isinstance(answer, kind):
        raise EngineFailed(f"the engine answered {type(query).__name__} with {type(answer).__name__}")
    return answer


async def waited(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives, unless the client leaves meanwhile or the daemon stops. The body must have been read."""
    found: list[T] = []

    async def keep() -> None:
        found.append(await work())

    await while_connected(request.receive, deps_of(request).replies, keep)
    return found[0]
