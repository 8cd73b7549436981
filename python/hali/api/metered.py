"""The router as the routes see it: each generation is charged to its key, measured, and counted, whichever dialect asks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import anyio

from hali.api.base import Router
from hali.api.budget import Bill, Budget, Limits
from hali.api.metrics import Metrics
from hali.api.timing import Exchange, Generation, current
from hali.model.errors import EngineFailed, HaliError
from hali.model.generation import (
    Answer,
    Embed,
    Embeddings,
    GenerateRequest,
    GenerationEvent,
    Query,
    Rerank,
    Scores,
)
from hali.pipeline.base import ServedModel
from hali.pipeline.router import RouterStats
from hali.runtime.trace import tracing

BYTES_PER_TOKEN = 4  # of English text; only reserved, settled by the engine's own count
USUAL_REPLY = 256  # tokens reserved where the client names no limit: a typical answer of a chat


class MeteredRouter:
    """`Router`; raises `Overloaded` (429) when the key's tokens are used up."""

    def __init__(self, inner: Router, metrics: Metrics) -> None:
        self._inner, self._metrics = inner, metrics

    def stats(self) -> RouterStats:
        """As the inner one."""
        return self._inner.stats()

    async def generate(
        self,
        model: str | ServedModel,
        request: GenerateRequest,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> AsyncGenerator[GenerationEvent, None]:
        """As the inner one. What a reply used is settled also when its reader leaves midway."""
        exchange = current()
        bill, generation = self._begin(exchange, expected(request), again=request.again)
        if exchange is not None and deadline is None:
            deadline = exchange.deadline
        try:
            events = self._inner.generate(model, request, key=key, deadline=deadline, weight=weight)
            async with aclosing(events):
                with tracing(generation.trace):  # the router's task begins within the first step, and inherits it
                    event = await anext(events, None)
                while event is not None:
                    generation.saw(event)
                    yield event
                    event = await anext(events, None)
        except HaliError:
            generation.failed = True
            raise
        finally:
            generation.trace.when_over(lambda: self._settle(exchange, bill, generation))

    def _settle(self, exchange: Exchange | None, bill: Bill, generation: Generation) -> None:
        bill.settle(generation.total_tokens(), time.monotonic())
        self._metrics.generated(generation, None if exchange is None else exchange.began)

    async def ask(
        self,
        model: str | ServedModel,
        query: Query,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> Answer:
        """As the inner one; what computes (`Embed`, `Rerank`) is charged with its prompt."""
        exchange = current()
        if exchange is not None and deadline is None:
            deadline = exchange.deadline
        if not isinstance(query, Embed | Rerank):
            return await self._inner.ask(model, query, key=key, deadline=deadline, weight=weight)
        guess, used = expected(query), 0
        bill, generation = self._begin(exchange, guess)
        try:
            with tracing(generation.trace):
                answer = await self._inner.ask(model, query, key=key, deadline=deadline, weight=weight)
            used = answer.prompt_tokens if isinstance(answer, Embeddings | Scores) else guess
            return answer
        except (anyio.get_cancelled_exc_class(), EngineFailed) as end:
            # Whoever leaves meanwhile, or gave too little time, pays for what was to be computed.
            given_up = not isinstance(end, EngineFailed) or end.code == "engine_timeout"
            used = guess if given_up and generation.trace.reached else 0
            raise
        finally:
            bill.settle(used, time.monotonic())
            self._metrics.computed(used)

    def _begin(self, exchange: Exchange | None, tokens: int, *, again: bool = False) -> tuple[Bill, Generation]:
        generation = Generation(again=again)
        if exchange is None or exchange.budget is None:
            return Budget(Limits()).reserve(tokens, time.monotonic()), generation
        bill = exchange.reserved.pop(0) if exchange.reserved else exchange.budget.reserve(tokens, time.monotonic())
        exchange.generations.append(generation)
        return bill, generation


def reserve(requests: Sequence[GenerateRequest]) -> None:
    """Take what all generations of the current HTTP request are expected to use; `Overloaded` (429) if that is not there.

    One by one, the last would be refused when the first have computed; what is not begun is given back with `give_back`.
    """
    exchange = current()
    if exchange is not None and exchange.budget is not None:
        exchange.reserved += exchange.budget.reserve_each([*map(expected, requests)], time.monotonic())


def give_back(exchange: Exchange) -> None:
    """What was reserved for generations that have not begun; the request is over."""
    for bill in exchange.reserved:
        bill.settle(0, time.monotonic())
    exchange.reserved.clear()


def expected(request: GenerateRequest | Embed | Rerank) -> int:
    """Tokens to reserve: a guess at the prompt, and the reply as far as the client bounds it, else a usual one."""
    if isinstance(request, Embed):
        return sum(_tokens(text) for text in request.inputs)
    if isinstance(request, Rerank):
        return sum(_tokens(request.query) + _tokens(document) for document in request.documents)
    reply = request.sampling.max_tokens or USUAL_REPLY
    if request.again:
        return reply
    texts = [message.content for message in request.messages or ()]
    prompt = sum(map(_tokens, texts)) + _tokens(request.prompt or "") + _tokens(request.tokens or ())
    return prompt + reply


def _tokens(text: str | tuple[int, ...]) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN) if isinstance(text, str) else len(text)
