"""A piece of work of the AcquisitionManager: what was asked, how far it is, how it ended."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import anyio
import msgspec

from hali.model.errors import Cancelled, HaliError
from hali.runtime.channels import Bus
from hali.share.queue import Priority

JobKind = Literal["add", "pull"]
JobState = Literal[
    "queued", "paused", "resolving", "connecting", "downloading", "hashing", "seeding", "failed", "cancelled"
]

MOVING: frozenset[JobState] = frozenset(("queued", "connecting", "downloading"))  # what a pause stops


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked; kept in the database until it is done, so that a daemon that dies goes on with it.

    Defaults are left out of it and of the id, so that fields of later versions change no id.
    """

    kind: JobKind
    what: str  # `add`: an absolute path; `pull`: as typed
    quant: str | None = None
    link: bool = True  # `add`: reflink or hard link when possible, else copy
    mmproj: bool | None = None  # `pull`: with the model's projector; None: unless a file was asked for by its name
    beside: str | None = None  # `add`: an absolute path, of the projector that belongs to the model
    allow_untrusted: bool = False  # `pull`: also what a registry trusts too little
    layers: str | None = None  # `pull`: only these, as `0-15`

    @property
    def id(self) -> str:
        """The same request twice is one job."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Progress(msgspec.Struct, frozen=True):
    """How far a job is; `None` is unknown, never 0."""

    state: JobState
    name: str
    done: int = 0
    total: int | None = None
    rate: float | None = None  # bytes a second
    peers: int | None = None
    sources: dict[str, int] = {}  # bytes so far by kind of source
    # Until a server that asked for it (Retry-After) is asked again, where nothing comes meanwhile.
    waits_s: float | None = None


class Job:
    """Shared by the manager, which moves it on, and any number of watchers."""

    def __init__(self, spec: JobSpec, *, priority: Priority = "normal", number: int = 0, paused: bool = False) -> None:
        self.spec = spec
        self.priority: Priority = priority
        self.number = number  # of arrival
        self._paused = paused and spec.kind == "pull"
        self._actual = Progress("queued", spec.what)
        self.progress = self._shown()
        # A watcher that reads slower than 64 updates skips to newer ones, which is what a progress bar wants.
        self.updates: Bus[Progress] = Bus(capacity=64, history=1)
        self.result: dict[str, Any] | None = None
        self.error: HaliError | None = None
        self.scope = anyio.CancelScope()
        self._ended = anyio.Event()

    def update(self, progress: Progress) -> None:
        """Tell the watchers."""
        self._actual = progress
        self.progress = self._shown()
        self.updates.publish(self.progress)

    def pause(self, paused: bool) -> None:
        """During a pause of all transfers a pull says so, whatever it was about to do."""
        self._paused = paused and self.spec.kind == "pull"
        if not self.is_over and self._shown() != self.progress:
            self.update(self._actual)

    def _shown(self) -> Progress:
        if not (self._paused and self._actual.state in MOVING):
            return self._actual
        return msgspec.structs.replace(self._actual, state="paused", rate=None)

    def finish(self, result: dict[str, Any]) -> None:
        """It worked."""
        self.result = result
        self._ended.set()

    def fail(self, error: HaliError) -> None:
        """It did not."""
        self.error = error
        self.update(
            msgspec.structs.replace(self._actual, state="cancelled" if isinstance(error, Cancelled) else "failed")
        )
        self._ended.set()

    @property
    def is_over(self) -> bool:
        """True once there is a result or an error."""
        return self._ended.is_set()

    @property
    def verdict(self) -> Literal["finished", "cancelled", "failed"]:
        """How a job that is over went."""
        if self.error is None:
            return "finished"
        return "cancelled" if isinstance(self.error, Cancelled) else "failed"

    async def ended(self) -> None:
        """Wait until it is over."""
        await self._ended.wait()

    def outcome(self) -> dict[str, Any]:
        """The result of a job that is over; raises the error it ended with."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result
