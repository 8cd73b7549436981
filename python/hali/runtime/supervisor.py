"""Supervised services: started in topological order, restarted with back-off, stopped in reverse, one at a time.

A *service* serves until cancelled, reports ready through `task_status.started()`, and raises on failure. A restart builds a new object.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import Literal, Protocol

import anyio
import anyio.abc
import msgspec

from hali.model.errors import ConfigError, Failed, PortInUse
from hali.runtime.channels import Watch
from hali.runtime.log import get_logger

log = get_logger(__name__)

PERMANENT = (ConfigError, PortInUse)  # trying again cannot help: somebody has to change something first

State = Literal["waiting", "starting", "ready", "backoff", "stopped", "failed"]


class Service(Protocol):
    """What a factory builds."""

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; `task_status.started()` once ready."""


class Restart(msgspec.Struct, frozen=True):
    """How often and how soon a failed service comes back."""

    budget: int = 5  # failures …
    window_s: float = 60.0  # … in this time before it is given up
    first_s: float = 0.5  # back-off, doubled each time …
    max_s: float = 30.0  # … up to this


class Spec(msgspec.Struct, frozen=True):
    """What the supervisor knows of a service. A failed essential one ends the daemon, another leaves it degraded."""

    name: str
    factory: Callable[[], Service]
    requires: tuple[str, ...] = ()
    essential: bool = False
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0
    restart: Restart = Restart()


class Status(msgspec.Struct, frozen=True):
    """State of one service, as `daemon status` shows it."""

    name: str
    state: State
    essential: bool
    restarts: int = 0
    error: str | None = None


class EssentialServiceFailed(Failed):
    """An essential service used up its restarts; the daemon shuts down."""

    code = "service_failed"


def start_order(specs: Iterable[Spec]) -> list[str]:
    """Names such that every service comes after all it requires; ValueError for unknown names, CycleError for cycles."""
    by_name = {spec.name: spec for spec in specs}
    for spec in by_name.values():
        if missing := set(spec.requires) - set(by_name):
            raise ValueError(f"{spec.name} requires unknown services: {', '.join(sorted(missing))}")
    return list(TopologicalSorter({s.name: s.requires for s in by_name.values()}).static_order())


class _Unit:
    """One service: its scope, its state, its restarts."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.status: Watch[Status] = Watch(Status(spec.name, "waiting", spec.essential))
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self._failures: deque[float] = deque(maxlen=spec.restart.budget)
        self._restarts = 0

    @property
    def is_lost(self) -> bool:
        """True of an essential service that failed for good: all of it ends with that error."""
        return self.spec.essential and self.status.value.state == "failed"

    def _set(self, state: State, error: str | None = None) -> None:
        self.status.set(Status(self.spec.name, state, self.spec.essential, self._restarts, error))

    async def supervise(self) -> None:
        """Run, restart and finally give up; never raises but when an essential service failed for good."""
        try:
            with self.scope:
                await self._loop()
            if self.status.value.state != "failed":
                self._set("stopped")
        finally:
            self.ended.set()

    async def _loop(self) -> None:
        while True:
            error = await self._run_once()
            self._failures.append(anyio.current_time())
            log.error("service.failed", service=self.spec.name, error=str(error), exc=error)
            if self._spent() or isinstance(error, PERMANENT):
                self._set("failed", str(error))
                if self.spec.essential:
                    raise EssentialServiceFailed(f"service {self.spec.name} failed for good: {error}") from error
                return
            self._set("backoff", str(error))
            await anyio.sleep(self._backoff())
            self._restarts += 1

    async def _run_once(self) -> Exception:
        """Build and run the service once; returns why it ended."""
        self._set("starting")
        try:
            service = self.spec.factory()
            async with anyio.create_task_group() as group:
                with anyio.fail_after(self.spec.start_timeout_s):
                    await group.start(_call_run, service)
                self._set("ready")
                log.info("service.ready", service=self.spec.name)
            return Failed(f"service {self.spec.name} returned although nobody stopped it")
        except Exception as exc:  # the border where a service's failure becomes state; cancellation is not an Exception
            cause = _first_cause(exc)
            if isinstance(cause, TimeoutError) and not str(cause):
                return Failed(f"service {self.spec.name} was not ready in {self.spec.start_timeout_s} s")
            return cause

    def _spent(self) -> bool:
        limit = self.spec.restart
        full = len(self._failures) == limit.budget
        return full and self._failures[-1] - self._failures[0] <= limit.window_s

    def _backoff(self) -> float:
        limit = self.spec.restart
        step = min(limit.max_s, limit.first_s * 2.0 ** (len(self._failures) - 1))
        return step * random.uniform(0.75, 1.25)  # jitter, so that services do not come back in step


async def _call_run(service: Service, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await service.run(task_status=task_status)


def _first_cause(exc: Exception) -> Exception:
    """The one error inside nested groups that hold nothing else."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


class Supervisor:
    """Runs services until cancelled: start `run` in a task group, cancel the group's scope to stop them."""

    def __init__(self, specs: Iterable[Spec]) -> None:
        specs = list(specs)
        self._order = start_order(specs)
        self._units = {spec.name: _Unit(spec) for spec in specs}
        self._started: list[str] = []

    def statuses(self) -> list[Status]:
        """State of every service, in start order."""
        return [self._units[name].status.value for name in self._order]

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start all, report started once every service is ready, or failed and not essential; when cancelled stop all in reverse order.

        Raises `EssentialServiceFailed` when an essential service cannot be kept up.
        """
        try:
            async with anyio.create_task_group() as group:
                try:
                    for name in self._order:
                        self._started.append(name)
                        group.start_soon(self._shielded, self._units[name])
                        await self._units[name].status.until(_settled)
                    if not any(unit.is_lost for unit in self._units.values()):  # else its error is on its way
                        task_status.started()
                    await anyio.sleep_forever()
                finally:
                    await self._stop_all()
        except ExceptionGroup as group_error:
            first = _first_cause(group_error)
            raise first from first.__cause__  # what the service failed with says more than that it did

    async def _shielded(self, unit: _Unit) -> None:
        # A cancelled supervisor stops its services one at a time, in reverse order, not all at once.
        with anyio.CancelScope(shield=True):
            await unit.supervise()

    async def _stop_all(self) -> None:
        for name in reversed(self._started):
            unit = self._units[name]
            unit.scope.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(unit.spec.stop_timeout_s) as deadline:
                await unit.ended.wait()
            if deadline.cancelled_caught:
                log.error("service.stop_timeout", service=name, seconds=unit.spec.stop_timeout_s)


def _settled(status: Status) -> bool:
    return status.state in ("ready", "backoff", "failed", "stopped")
