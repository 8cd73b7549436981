"""The daemon's side of one engine worker: start it, talk to it, survive its death. No tasks, only callbacks."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
from anyio import to_thread

from hali._native import frames, ggufcheck
from hali.engine import protocol
from hali.engine.child import Child, Link, spawn
from hali.engine.options import EngineOptions, EngineStats
from hali.engine.pace import Pace
from hali.engine.pulse import Pulse
from hali.engine.reply import Reply
from hali.model.errors import EngineCrashed, EngineUnavailable, HaliError, ModelLoadFailed, ProtocolError, UsageError
from hali.model.generation import Answer, Done, EngineInfo, GenerateRequest, GenerationEvent, Query, Usage
from hali.model.splits import parts_beside
from hali.runtime.log import get_logger
from hali.runtime.trace import Trace, traced

log = get_logger(__name__)
T = TypeVar("T", bound=GenerationEvent | Answer)

STOP_S = 10.0  # running replies are cancelled within one batch; then llama.cpp frees its memory
KILL_S = 5.0  # from SIGKILL to the exit; longer only in uninterruptible disk sleep
RESTART_S = 1  # told to clients of one that crashed: the next request starts it again


def shown(engine: str) -> str:
    """What people call the model of an engine: engines are called id@sha256 (ServedModel.engine_name)."""
    return engine.partition("@")[0]


class EngineProcess:
    """One worker process for one model. `start` once; after `stop` or a crash make a new object."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.info: EngineInfo | None = None
        self.confinement: dict[str, str] = {}
        self.progress = 0.0  # of loading, 0 to 1
        self._child: Child | None = None
        self._link: Link | None = None
        self._replies: dict[bytes, Reply[GenerationEvent] | Reply[Answer]] = {}
        self._traces: dict[
            bytes, Trace[object]
        ] = {}  # of sessions whose end the worker has not told yet, awaited or not
        self._spoke = anyio.Event()  # ready, failed or dead
        self._gone = anyio.Event()
        self._failure: HaliError | None = None
        self._stats = EngineStats()
        self._pace = Pace()
        self._pulse = Pulse()
        self._looking: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Loaded and able to take requests."""
        return self.info is not None and not self._gone.is_set() and not self._stopping

    @property
    def pid(self) -> int | None:
        """Of the worker, None before the start and after the end."""
        return None if self._child is None or self._gone.is_set() else self._child.pid

    # --- start and end

    async def start(self, path: Path, options: EngineOptions | None = None) -> EngineInfo:
        """Load `path` in a new process. ModelLoadFailed, EngineUnavailable, UsageError: then nothing is left."""
        options = options or EngineOptions()
        options = await self._checked(path, options)
        try:
            with anyio.fail_after(options.start_timeout_s):
                self._child, self._link = await spawn(path, options, self._on_frame, self._on_gone)
                await self._spoke.wait()
        except TimeoutError:
            await self._end_now()
            raise ModelLoadFailed(f"loading {path.name} took more than {options.start_timeout_s:g} s") from None
        except BaseException:
            await self._end_now()
            raise
        if self.info is None:
            await self._end_now()
            raise self._load_failure(path)
        log.info(
            "engine.started",
            model=self.model_id,
            pid=self.info.pid,
            gpu_layers=self.info.gpu_layers,
            confinement=self.confinement,
        )
        return self.info

    async def _checked(self, path: Path, options: EngineOptions) -> EngineOptions:
        """The options to start with: a projector that must not be loaded costs the images, not the texts."""
        if self._child is not None:
            raise UsageError(f"the engine of {shown(self.model_id)} was already started")
        if problems := options.problems():
            raise UsageError(f"engine options: {'; '.join(problems)}")
        if importlib.util.find_spec("llama_cpp") is None:
            raise EngineUnavailable("llama.cpp is not installed here", hint="pip install 'hali[inference]'")
        await to_thread.run_sync(_check_files, path, options)
        options = await self._with_draft(options)
        if options.projector is None:
            return options
        try:
            await to_thread.run_sync(_check_projector, Path(options.projector))
        except ModelLoadFailed as error:
            log.warning("engine.no_images", model=self.model_id, error=str(error))
            return msgspec.structs.replace(options, projector=None, no_images=str(error))
        return options

    async def _with_draft(self, options: EngineOptions) -> EngineOptions:
        """Without the draft model if it must not be loaded: replies are the same without."""
        if options.draft is None or options.speculation == "off":
            return msgspec.structs.replace(options, draft=None)
        try:
            await to_thread.run_sync(_check_model, Path(options.draft))
        except ModelLoadFailed as error:
            log.warning("engine.no_draft", model=self.model_id, error=str(error))
            return msgspec.structs.replace(options, draft=None)
        return options

    def _load_failure(self, path: Path) -> HaliError:
        if self._failure is not None:
            return self._failure
        how = "did not start" if self._child is None else self._child.how_it_ended()
        return ModelLoadFailed(f"the engine {how} while loading {path.name}", details=self._evidence())

    async def stop(self, *, drain: bool = False, timeout_s: float = STOP_S) -> None:
        """End the process: running replies end with "cancelled", or normally if `drain`; killed after `timeout_s`."""
        if self._child is None or self._gone.is_set():
            return
        self._stopping = True
        self._send(protocol.pack_stop(drain))
        try:
            with anyio.move_on_after(timeout_s):
                await self._gone.wait()
        finally:
            await self._end_now()
        log.info("engine.stopped", model=self.model_id)

    async def wait(self) -> None:
        """Until the process has ended, for whatever reason, and its sockets are closed."""
        await self._gone.wait()

    async def _end_now(self) -> None:
        """SIGKILL if it still lives, and wait for the end, whoever cancels us meanwhile."""
        if self._child is None:
            return
        self._child.kill()
        with anyio.move_on_after(KILL_S, shield=True):
            await self._gone.wait()

    # --- requests

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerationEvent]:
        """The events of one reply, `Done` last. Closing the generator or cancelling its task cancels it in the worker.

        EngineCrashed if the process dies or falls silent; UsageError and Overloaded are the worker's own answers.
        """
        reply: Reply[GenerationEvent] = Reply()
        with self._session(request, reply):
            while True:
                event = await reply.next()
                yield event
                if isinstance(event, Done):
                    return

    async def ask(self, query: Query) -> Answer:
        """The answer to `query`; errors as of `generate`."""
        reply: Reply[Answer] = Reply()
        with self._session(query, reply):
            return await reply.next()

    @contextmanager
    def _session(self, request: GenerateRequest | Query, reply: Reply[T]) -> Iterator[None]:
        """Send `request` and let `reply` hear what comes of it; a reply that is not over at the end is cancelled."""
        if not self.alive:
            raise self._crash()
        ident = secrets.token_bytes(16)
        frame = protocol.pack_request(ident, request)
        if not self._replies:
            self._pulse.begin(time.monotonic())
            if self._looking is None:
                self._look_later()
        self._replies[ident] = reply  # type: ignore[assignment]  # each kind of request gets its own kind of frames
        self._trace(ident)
        try:
            self._send(frame)
            yield
        finally:
            del self._replies[ident]
            if not reply.over:
                self._send(protocol.pack_cancel(ident))

    def _look(self) -> None:
        """Whether the worker still turns; comes again by itself while a reply is awaited."""
        self._looking = None
        if not self._replies or self._child is None:
            return
        verdict = self._pulse.judge(time.monotonic())
        if verdict == "ask":
            self._send(protocol.pack_ack(protocol.Alive()))
        elif verdict != "fine":
            log.error("engine.silent", model=self.model_id, how=verdict)
            self._child.kill("gave no sign of life and was ended")  # its end puts the error into the replies
            return
        self._look_later()

    def _look_later(self) -> None:
        """One timer for the process: to arm one for each token cost more than to pass the token on."""
        wait = self._pulse.look_at() - time.monotonic()
        self._looking = asyncio.get_running_loop().call_later(max(0.0, wait), self._look)

    def stats(self) -> EngineStats:
        """The counters of the last report, and the memory the process holds now."""
        rss = None if self._child is None or self._gone.is_set() else self._child.rss_bytes()
        return msgspec.structs.replace(self._stats, rss_bytes=rss, tokens_per_s=self._pace.rate)

    # --- callbacks of the link and the child

    def _send(self, frame: bytearray) -> None:
        if self._link is not None:
            self._link.send(frame)

    def _on_frame(self, frame: protocol.Frame) -> None:
        ack = protocol.unpack_ack(frame) if frame.kind == frames.ACK else None
        self._pulse.heard(time.monotonic(), work=not isinstance(ack, protocol.Alive))
        if ack is not None:
            self._on_ack(ack)
        elif frame.kind == frames.ERROR and frame.session == protocol.PROCESS:
            self._failure = protocol.unpack_error(frame)
            self._spoke.set()
        elif frame.kind == frames.TOKEN:
            self._deliver(frame.session, protocol.unpack_event(frame))
        elif frame.kind == frames.RESULT:
            self._deliver(frame.session, protocol.unpack_answer(frame))
        elif frame.kind == frames.ERROR:
            self._deliver(frame.session, protocol.unpack_error(frame))
        else:
            raise ProtocolError(f"unexpected frame of kind {frames.KIND_NAMES[frame.kind]}")

    def _trace(self, ident: bytes) -> None:
        if (trace := traced()) is not None:
            self._traces[ident] = trace
            trace.engine_began()

    def _traced_end(self, ident: bytes, used: Usage | None) -> None:
        if (trace := self._traces.pop(ident, None)) is not None:
            trace.engine_ended(used)

    def _deliver(self, session: bytes, what: GenerationEvent | Answer | HaliError) -> None:
        if isinstance(what, Done | HaliError | Answer):
            self._traced_end(session, what.usage if isinstance(what, Done) else None)
        reply = self._replies.get(session)
        if reply is not None:  # else it was cancelled, and this was on its way
            reply.put(what)  # type: ignore[arg-type]

    def _on_ack(self, ack: protocol.Ack) -> None:
        if isinstance(ack, protocol.Progress):
            self.progress = ack.fraction
        elif isinstance(ack, protocol.Report):
            self._stats = ack.stats
            self._pace.add(time.monotonic(), ack.stats.completion_tokens, busy=ack.stats.sessions > 0)
        elif isinstance(ack, protocol.Ready):
            self.info = msgspec.structs.replace(ack.info, model_id=self.model_id)
            self.confinement, self.progress = ack.confinement, 1.0
            if self._child is not None:  # soon: what it wrote before may be read in this same turn of the loop
                asyncio.get_running_loop().call_soon(self._child.loaded)
            self._spoke.set()

    def _on_gone(self) -> None:
        self._gone.set()
        if self._looking is not None:
            self._looking.cancel()
        self._spoke.set()
        for reply in self._replies.values():
            reply.put(self._crash())
        for ident in [*self._traces]:
            self._traced_end(ident, None)
        if self.info is not None and not self._stopping:
            log.warning("engine.crashed", model=self.model_id, **self._evidence())

    def _crash(self) -> HaliError:
        if self._child is None:
            return EngineCrashed(f"the engine of {shown(self.model_id)} is not running")
        if self._stopping:
            return EngineCrashed(
                f"the engine of {shown(self.model_id)} was stopped", details={"retry_after_s": RESTART_S}
            )
        return EngineCrashed(
            f"the engine of {shown(self.model_id)} {self._child.how_it_ended()}",
            hint="the next request starts it again",
            details={**self._evidence(), "retry_after_s": RESTART_S},
        )

    def _evidence(self) -> dict[str, object]:
        child = self._child
        if child is None:
            return {}
        return {"signal": child.signal_name(), "exit": child.returncode, "stderr": child.stderr_tail()}


def _check_files(path: Path, options: EngineOptions) -> None:
    """ModelLoadFailed unless llama.cpp may see the model and its adapters. Reads their headers."""
    _check_model(path)
    for adapter, _ in options.lora:
        with _told([Path(adapter)], "an adapter"):
            ggufcheck.check_adapter(Path(adapter))


def _check_model(path: Path) -> None:
    parts = parts_beside(path)  # llama.cpp opens the others by itself
    with _told(parts, "a model"):
        ggufcheck.check(parts)


def _check_projector(path: Path) -> None:
    """ModelLoadFailed unless libmtmd may see the file."""
    with _told([path], "a projector"):
        ggufcheck.check_header(path)


@contextmanager
def _told(parts: Sequence[Path], what: str) -> Iterator[None]:
    """The checker's refusals in words."""
    try:
        yield
    except ggufcheck.Refused as error:
        reason, message, number = error.args
        raise ModelLoadFailed(
            f"{parts[number].name} is not {what} that can be loaded: {message}", details={"reason": reason}
        ) from error
    except OSError as error:
        raise ModelLoadFailed(f"{Path(error.filename).name} cannot be read: {error.strerror}") from error
