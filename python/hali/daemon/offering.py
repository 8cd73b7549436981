"""What the HTTP API can do with models besides asking them: the same parts that the IPC uses, in the API's words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec

from hali.api.base import LoadedModel, ModelDetails, PullProgress
from hali.daemon.catalog import served
from hali.daemon.removing import remove
from hali.daemon.telling import PROGRESS_S
from hali.engine import harmony, reasoning
from hali.engine.entry import EngineStatus
from hali.engine.pool import EnginePool
from hali.model.errors import HaliError, NotFound, Refused
from hali.model.splits import is_projector, parts_beside
from hali.pipeline.base import ServedModel
from hali.runtime.channels import Lagged, Subscription
from hali.share.board import JobBoard
from hali.share.job import Job, JobSpec, Progress
from hali.share.library import Library
from hali.share.targets import TorrentTarget, parse_target
from hali.store.usage import Usage
from hali.wire.gguf import read_header_file


class OfferedModels:
    """`hali.api.base.ModelStore` on the parts of a node."""

    def __init__(self, library: Library, board: JobBoard, engines: EnginePool, usage: Usage) -> None:
        self._library, self._board, self._engines, self._usage = library, board, engines, usage

    async def details(self, model: ServedModel) -> ModelDetails:
        """What the header says; nothing of one that cannot be read."""
        files = self._library.find(model.sha256).record.meta.files
        details = await anyio.to_thread.run_sync(_details, model)
        return msgspec.structs.replace(details, vision=any(map(is_projector, files[1:])))

    # ---- memory

    def loaded(self) -> Sequence[LoadedModel]:
        """Engines of models that are still in the store."""
        rows = [(status, self._model(status)) for status in self._engines.list() if status.state != "stopping"]
        return [self._loaded(status, model) for status, model in rows if model is not None]

    def _model(self, status: EngineStatus) -> ServedModel | None:
        try:
            return served(self._library.find(status.model_id.partition("@")[2]))
        except NotFound:
            return None

    def _loaded(self, status: EngineStatus, model: ServedModel) -> LoadedModel:
        context = status.info.n_ctx if status.info else None
        return LoadedModel(model, context, status.stats.rss_bytes, status.expires_in_s)

    async def load(self, model: ServedModel) -> None:
        """Into memory, which counts as use."""
        self._usage.used(model.sha256)
        await self._engines.load(model.engine_name, model.path)

    async def unload(self, model: ServedModel) -> None:
        """Out of memory; while somebody uses it, when they are done."""
        self.keep(model, 0)
        for status in self._engines.list():
            if status.model_id == model.engine_name and status.active == 0:
                await self._engines.stop(model.engine_name, drain=True)

    def keep(self, model: ServedModel, seconds: float | None) -> None:
        """How long it stays in memory after its last request; nothing happens if it is not there."""
        with suppress(NotFound):
            self._engines.keep(model.engine_name, seconds)

    # ---- disk

    async def pull(self, what: str) -> AsyncGenerator[PullProgress, None]:
        """As `hali pull`, but no .torrent is read from a path or URL: who may ask over HTTP may not look around here."""
        if isinstance(parse_target(what), TorrentTarget):
            raise Refused("a .torrent cannot be named over HTTP", hint="give its magnet link, or use `hali pull`")
        job = await self._board.submit(JobSpec("pull", what))
        told, at = job.progress, anyio.current_time()
        yield _shown(told)
        with job.updates.subscribe(replay=True) as updates:
            while (update := await _next(job, updates)) is not None:
                if update.state != told.state or anyio.current_time() - at >= PROGRESS_S:
                    told, at = update, anyio.current_time()
                    yield _shown(told)
        job.outcome()
        yield _shown(job.progress)

    def known(self, name: str) -> str:
        """The SHA-256 of the one model that `name` means, whole or damaged."""
        return self._library.find(name).record.meta.sha256

    async def remove(self, sha256: str) -> None:
        """As `hali rm`."""
        await remove(self._library, self._engines, self._usage, self._library.find(sha256))


async def _next(job: Job, updates: Subscription[Progress]) -> Progress | None:
    """The next progress of a job, or None when it is over."""
    found: Progress | None = None
    async with anyio.create_task_group() as group:

        async def until_over() -> None:
            await job.ended()
            group.cancel_scope.cancel()

        group.start_soon(until_over)
        update = await anext(updates)
        found = job.progress if isinstance(update, Lagged) else update
        group.cancel_scope.cancel()
    return found


def _shown(progress: Progress) -> PullProgress:
    return PullProgress(progress.state, progress.name, progress.done, progress.total)


def _details(model: ServedModel) -> ModelDetails:
    """Blocks, 80 ms for a large vocabulary."""
    try:
        header, *rest = [read_header_file(part) for part in parts_beside(model.path)]
    except (HaliError, OSError):
        return ModelDetails()
    return ModelDetails(
        architecture=header.architecture,
        parameters=sum(part.parameters for part in (header, *rest)),
        quantization=header.quantization,
        layers=header.block_count,
        context_length=header.context_length,
        embedding_length=header.embedding_length,
        license=header.license,
        chat_template=header.chat_template,
        thinking=_thinks(header.chat_template or ""),
    )


def _thinks(template: str) -> bool:
    return reasoning.recognise(template) is not None or harmony.SIGN in template or "enable_thinking" in template
