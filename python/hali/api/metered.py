"""The router as the routes see it: each generation is charged to its key, measured, and counted, whichever dialect asks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from hali.api.base import Router
from hali.api.budget import Bill, Budget, Limits
from hali.api.metrics import Metrics
from hali.api.timing import Exchange, Generation, current
from hali.model.errors import HaliError
from hali.model.generation import (
    Answer,
    Embed,
    Embeddings,
    GenerateRequest,
    GenerationEvent,
    Query,
    Rerank,
    Scores,
    Usage,
)
from hali.pipeline.base import ServedModel
from hali.pipeline.router import RouterStats
from hali.runtime.trace import Trace, tracing

BYTES_PER_TOKEN = 4  # of English text; only reserved, settled by the engine's own count
USUAL_REPLY = 256  # tokens reserved where the client names no limit: a typical answer of a chat


class MeteredRouter:
    """`Router`; raises `Overloaded` (429) when the key's tokens are used up."""

    def __init__(self, inner: Router, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._metrics, self._clock = inner, metrics, clock

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
        bill, generation = self._reserve(exchange, expected(request)), Generation()
        if exchange is not None:
            exchange.generations.append(generation)
            deadline = exchange.deadline if deadline is None else deadline
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
        bill.settle(generation.total_tokens(), self._clock())
        self._metrics.generated(generation, None if exchange is None else exchange.began)

    async def ask(
        self, model: str | ServedModel, query: Query, *, key: str | None = None, weight: float = 1.0
    ) -> Answer:
        """As the inner one; what computes (`Embed`, `Rerank`) is charged with its prompt."""
        if not isinstance(query, Embed | Rerank):
            return await self._inner.ask(model, query, key=key, weight=weight)
        trace: Trace[Usage] = Trace()
        guess, used = expected(query), 0
        bill = self._reserve(current(), guess)
        try:
            with tracing(trace):
                answer = await self._inner.ask(model, query, key=key, weight=weight)
            used = answer.prompt_tokens if isinstance(answer, Embeddings | Scores) else guess
            return answer
        except anyio.get_cancelled_exc_class():
            used = guess if trace.reached else 0  # whoever leaves meanwhile pays for what was to be computed
            raise
        finally:
            bill.settle(used, self._clock())
            self._metrics.computed(used)

    def _reserve(self, exchange: Exchange | None, tokens: int) -> Bill:
        budget = exchange.budget if exchange is not None else None
        return (budget or Budget(Limits())).reserve(tokens, self._clock())


def expected(request: GenerateRequest | Embed | Rerank) -> int:
    """Tokens to reserve: a guess at the prompt, and the reply as far as the client bounds it, else a usual one."""
    if isinstance(request, Embed):
        return sum(_tokens(text) for text in request.inputs)
    if isinstance(request, Rerank):
        return sum(_tokens(request.query) + _tokens(document) for document in request.documents)
    texts = [message.content for message in request.messages or ()]
    prompt = sum(map(_tokens, texts)) + _tokens(request.prompt or "") + _tokens(request.tokens or ())
    return prompt + (request.sampling.max_tokens or USUAL_REPLY)


def _tokens(text: str | tuple[int, ...]) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN) if isinstance(text, str) else len(text)
