"""Services that others use: the present object behind a `Watch`, since a restart builds a new one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc

from hali.model.errors import Overloaded
from hali.model.generation import Answer, GenerateRequest, GenerationEvent, Query
from hali.pipeline.base import ServedModel
from hali.pipeline.router import InferenceRouter, RouterStats
from hali.runtime.channels import Watch
from hali.runtime.supervisor import Service

S = TypeVar("S", bound=Service)


class Published(Generic[S]):
    """A service whose object is in `where` while it is ready, and None otherwise. `on_ready` is told of each that gets there."""

    def __init__(
        self, build: Callable[[], S], where: Watch[S | None], on_ready: Callable[[S], None] = lambda service: None
    ) -> None:
        self._build, self._where, self._on_ready = build, where, on_ready

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run what `build` makes."""
        service = self._build()
        try:
            async with anyio.create_task_group() as group:
                await group.start(_run, service)
                self._where.set(service)
                self._on_ready(service)
                task_status.started()
        finally:
            self._where.set(None)


async def _run(service: Service, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await service.run(task_status=task_status)


class PresentRouter:
    """The router of this moment, for the API, which outlives it."""

    def __init__(self, where: Watch[InferenceRouter | None], on_use: Callable[[str], None]) -> None:
        self._where, self._on_use = where, on_use  # `on_use` is told the SHA-256 of the model of each request

    def generate(
        self, model: str | ServedModel, request: GenerateRequest, **options: Any
    ) -> AsyncGenerator[GenerationEvent, None]:
        """As `InferenceRouter.generate`; Overloaded while there is no router."""
        if isinstance(model, ServedModel):
            self._on_use(model.sha256)
        return self._router().generate(model, request, **options)

    async def ask(self, model: str | ServedModel, query: Query, **options: Any) -> Answer:
        """As `InferenceRouter.ask`; Overloaded while there is no router."""
        if isinstance(model, ServedModel):
            self._on_use(model.sha256)
        return await self._router().ask(model, query, **options)

    def stats(self) -> RouterStats:
        """As `InferenceRouter.stats`."""
        return self._router().stats()

    def _router(self) -> InferenceRouter:
        router = self._where.value
        if router is None:
            raise Overloaded("the inference router is being restarted", details={"retry_after_s": 1})
        return router
