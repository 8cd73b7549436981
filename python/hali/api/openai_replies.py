"""Several generations of one request: run side by side, each event with the index of its reply, ended all together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from hali.api.endings import ended
from hali.model.generation import Chunk, Done, GenerationEvent, TokenLogprob, ToolCall, ToolCalled

AT_ONCE = 8  # the engine's slots: what is more would fill the queue for everybody else
Events = AsyncGenerator[GenerationEvent, None]
_Item = tuple[int, GenerationEvent | Exception]
Indexed = AsyncGenerator[tuple[int, GenerationEvent], None]


async def merged(replies: Sequence[Events]) -> Indexed:
    """(index, event) as they come, `AT_ONCE` replies at a time. The first error ends all, and so does closing this."""
    if len(replies) == 1:  # the ordinary case needs no tasks
        async with aclosing(replies[0]) as only:
            async for event in only:
                yield 0, event
        return
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        sender, receiver = anyio.create_memory_object_stream[_Item](0)
        limiter = anyio.CapacityLimiter(AT_ONCE)
        for index, events in enumerate(replies):
            group.start_soon(_pass_on, index, events, limiter, sender.clone())
        sender.close()
        try:
            with receiver:
                async for index, item in receiver:
                    if isinstance(item, Exception):
                        failure = item
                        break
                    yield index, item
        except GeneratorExit:  # we are being closed; raised through the group it would come out wrapped
            pass
        finally:
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _pass_on(
    index: int, events: Events, limiter: anyio.CapacityLimiter, sender: MemoryObjectSendStream[_Item]
) -> None:
    with sender, suppress(anyio.BrokenResourceError):  # nobody listens any more: another has failed first
        try:
            async with limiter, aclosing(events):
                async for event in events:
                    await sender.send((index, event))
        except Exception as error:  # raised again by `merged`, for whom this task works
            await sender.send((index, error))


class Reply:
    """One reply, gathered from its events."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.logprobs: list[TokenLogprob] = []  # of the answer's tokens, not of thoughts
        self.done: Done | None = None

    def take(self, event: GenerationEvent) -> None:
        """One event more."""
        match event:
            case Chunk(reasoning=True):
                self.thoughts.append(event.text)
            case Chunk():
                self.texts.append(event.text)
                self.logprobs += event.logprobs
            case ToolCalled():
                self.calls.append(event.call)
            case Done():
                self.done = event

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.texts)

    @property
    def thought(self) -> str:
        """What was thought so far."""
        return "".join(self.thoughts)


async def gathered(events: Indexed, count: int) -> list[tuple[Reply, Done]]:
    """All replies, whole, in their order."""
    replies = [Reply() for _ in range(count)]
    async with aclosing(events):
        async for index, event in events:
            replies[index].take(event)
    return [(reply, ended(reply.done)) for reply in replies]
