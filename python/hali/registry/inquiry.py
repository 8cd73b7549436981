"""One question after the other to all registries at once: who is down or slow is left out, and a forger is told of when he is alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio

from hali.model.errors import HaliError, NotFound, ProtocolError, TransferFailed
from hali.registry.sources import Source
from hali.runtime.log import get_logger

log = get_logger(__name__)
T = TypeVar("T")

LOOK_S = 5.0  # for one registry to answer; an ordinary one takes milliseconds, and a person waits
Question = Callable[[Source], Awaitable[T]]


class Inquiry:
    """What one search or one pull asks of the registries by URL."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    async def all(self, question: Question[T], *, or_fail: bool = False) -> list[tuple[str, T]]:
        """The same question to every registry; see `each`."""
        return await self.each([(url, question) for url in self._sources], or_fail=or_fail)

    async def each(self, questions: Sequence[tuple[str, Question[T]]], *, or_fail: bool = False) -> list[tuple[str, T]]:
        """The answers with their registries, in the order of the questions.

        When nobody has one, but somebody's was forged or forbidden, that is the error; with `or_fail` also that nobody can be reached.
        """
        answers: dict[int, tuple[str, T]] = {}
        errors: list[HaliError] = []

        async def ask(number: int, url: str, question: Question[T]) -> None:
            try:
                with anyio.fail_after(LOOK_S):
                    answers[number] = url, await question(self._sources[url])
            except NotFound:
                return
            except (TransferFailed, ProtocolError, TimeoutError) as exc:
                log.warning("registry.no_answer", registry=url, error=str(exc))
                if or_fail:
                    errors.append(TransferFailed(str(exc) or f"{url}: no answer in {LOOK_S:.0f} s"))
            except HaliError as exc:
                log.warning("registry.bad_answer", registry=url, error=str(exc), code=exc.code)
                errors.append(exc)

        async with anyio.create_task_group() as group:
            for number, (url, question) in enumerate(questions):
                group.start_soon(ask, number, url, question)
        if errors and not answers:
            raise errors[0]
        return [answers[number] for number in sorted(answers)]
