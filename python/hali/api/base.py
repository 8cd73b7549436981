"""What the API is given: models, a router, keys, limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from hali.api.dashboard_base import Dashboard, Seats
from hali.api.dashboard_tickets import Tickets
from hali.api.keys import ApiKey, KeyRing
from hali.api.metrics import Measure, Metrics
from hali.api.replies import OpenReplies
from hali.api.response_jobs import Background
from hali.api.response_store import ResponseStore
from hali.model.generation import Answer, GenerateRequest, GenerationEvent, Query
from hali.pipeline.base import Catalog, ServedModel
from hali.pipeline.router import RouterStats

if TYPE_CHECKING:
    from hali.api.otel import Spans

__all__ = ["ApiDeps", "ApiKey", "ApiLimits", "Router"]

MIB = 1024 * 1024


class Router(Protocol):
    """Where generations come from; `hali.pipeline.InferenceRouter` is one."""

    def generate(
        self,
        model: str | ServedModel,
        request: GenerateRequest,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> AsyncGenerator[GenerationEvent, None]:
        """Chunks, then `Done`, or a `HaliError`; closing the generator cancels."""

    async def ask(
        self,
        model: str | ServedModel,
        query: Query,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> Answer:
        """The answer to a query that generates nothing, or a `HaliError`."""

    def stats(self) -> RouterStats:
        """What it does now."""


class ModelDetails(msgspec.Struct, frozen=True):
    """What the file of a model says about it; None and empty are unknown. Texts are the file's own: untrusted."""

    architecture: str = ""
    parameters: int | None = None
    quantization: str | None = None
    layers: int | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    license: str | None = None
    chat_template: str | None = None
    vision: bool = False  # a projector belongs to it
    thinking: bool = False  # its template tells thoughts from answers


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in memory."""

    model: ServedModel
    context: int | None  # tokens; None while it loads
    memory_bytes: int | None  # None = not measured
    expires_in_s: float | None  # if nobody uses it; None = it stays


class PullProgress(msgspec.Struct, frozen=True):
    """How far a pull is; `total` is None while it is unknown."""

    state: str
    name: str
    done: int
    total: int | None


class ModelStore(Protocol):
    """What can be done with models besides asking them; the daemon joins it with what the CLI uses."""

    async def details(self, model: ServedModel) -> ModelDetails:
        """Read from its header."""

    def loaded(self) -> Sequence[LoadedModel]:
        """Models in memory."""

    async def load(self, model: ServedModel) -> None:
        """Into memory; `ModelLoadFailed` and others."""

    async def unload(self, model: ServedModel) -> None:
        """Out of memory; while somebody uses it, when they are done."""

    def keep(self, model: ServedModel, seconds: float | None) -> None:
        """How long it stays in memory after its last request; None = for ever. Nothing happens if it is not there."""

    def pull(self, what: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch a model by name, repository, magnet link or infohash, telling how far it is; a `HaliError` if it fails.

        The work goes on when the generator is closed.
        """

    def known(self, name: str) -> str:
        """The SHA-256 of the one model that `name` means, whole or damaged; `NotFound`, `AmbiguousName`."""

    async def remove(self, sha256: str) -> None:
        """Delete a model."""


class ApiLimits(msgspec.Struct, frozen=True):
    """Bounds on what a client may cost; times in seconds."""

    body_bytes: int = 8 * MIB  # a 1M-token prompt is about 4 MB of text
    head_bytes: int = 32 * 1024  # request line and headers
    header_s: float = 5.0  # from connecting, or the first byte of a later request, to the end of its headers
    body_s: float = 8.0  # from the end of the headers to the end of the body, and again while it comes …
    body_rate: int = 16 * 1024  # … with so many bytes a second: a slow uplink has ten times that
    write_s: float = 8.0  # for a reader that lags to take what is buffered, and again while it takes …
    write_rate: int = 1024  # … so many bytes a second: a fast model's tokens
    socket_write_s: float = 30.0  # for a WebSocket's reader to take anything at all of what is buffered
    unread_bytes: int = 16 * MIB  # of all replies that wait for their readers, kernel buffers not counted
    keep_alive_s: int = 5  # between two requests
    connections: int = 1024  # in all
    per_address: int = 64  # from one address …
    per_loopback: int = 512  # … but this machine's own programs may open many streams
    reserved: int = 16  # on top of each cap, for routes that only tell how hali is
    drain_s: float = 10.0  # for open replies to end at shutdown (architecture.md)


async def _nothing_measured() -> Sequence[Measure]:
    return ()


@dataclass(frozen=True)
class ApiDeps:
    """Everything `build_app` needs."""

    catalog: Catalog
    router: Router
    keys: tuple[ApiKey, ...] = ()  # those that are there from the start, the owner's
    ring: KeyRing = field(default_factory=KeyRing)  # all that are valid now
    require_key: bool = False  # `ApiServer` sets it for every address but loopback
    names: tuple[str, ...] = ()  # further Host names, `name` or `name:port`
    limits: ApiLimits = field(default_factory=ApiLimits)
    not_ready: Callable[[], str | None] = lambda: None  # why the daemon cannot answer requests now, or None
    replies: OpenReplies = field(default_factory=OpenReplies)
    metrics: Metrics = field(default_factory=Metrics)
    measures: Callable[[], Awaitable[Sequence[Measure]]] = (
        _nothing_measured  # what /metrics tells of the rest of the daemon
    )
    spans: Spans | None = None  # where requests are told as spans; None: nowhere
    responses: ResponseStore = field(default_factory=ResponseStore)
    background: Background = field(default_factory=Background)
    models: ModelStore | None = None  # None: there are only the catalogue and the router
    dashboard: Dashboard | None = None  # None: there is no daemon to look at
    tickets: Tickets = field(default_factory=Tickets)
    seats: Seats = field(default_factory=Seats)
