"""Supervised services: started in topological order, restarted with back-off, stopped in reverse, one at a time.

A *service* serves until cancelled, reports ready through `task_status.started()`, and raises on failure. A restart builds a new object.
Services that require a failed one go on: they find its successor where it is published, and lose nothing of their own meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import Literal, Protocol

import anyio
import anyio.abc
import msgspec

from hali.model.errors import ExitCode, Failed, HaliError
from hali.runtime.channels import Watch
from hali.runtime.groups import first_error
from hali.runtime.log import get_logger
from hali.runtime.restarts import Failures, Restart

__all__ = ["EssentialServiceFailed", "Restart", "Service", "Spec", "State", "Status", "Supervisor", "start_order"]

log = get_logger(__name__)

State = Literal["waiting", "starting", "ready", "backoff", "stopped", "failed"]


class Service(Protocol):
    """What a factory builds."""

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; `task_status.started()` once ready."""


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


Told = Callable[[Status, Status], None]  # a service's state before and now


class EssentialServiceFailed(Failed):
    """An essential service used up its restarts; the daemon shuts down. `exit_code` tells whether starting it again may help."""

    code = "service_failed"


def is_permanent(error: BaseException) -> bool:
    """Trying again cannot help: somebody has to change something first."""
    return isinstance(error, HaliError) and error.exit_code is ExitCode.CONFIG


def _given_up(name: str, times: int, error: Exception) -> EssentialServiceFailed:
    often = "" if times == 1 else f" {times} times, the last time"
    failed = EssentialServiceFailed(f"service {name} failed{often}: {_words(error)}", hint=getattr(error, "hint", None))
    if is_permanent(error):
        failed.exit_code = ExitCode.CONFIG
    return failed


def _words(error: Exception) -> str:
    """In one line, whatever it says."""
    return " ".join(str(error).split()) or type(error).__name__


def start_order(specs: Iterable[Spec]) -> list[str]:
    """Names such that every service comes after all it requires; ValueError for unknown names, CycleError for cycles."""
    by_name = {spec.name: spec for spec in specs}
    for spec in by_name.values():
        if missing := set(spec.requires) - set(by_name):
            raise ValueError(f"{spec.name} requires unknown services: {', '.join(sorted(missing))}")
    return list(TopologicalSorter({s.name: s.requires for s in by_name.values()}).static_order())


class _Unit:
    """One service: its scope, its state, its restarts."""

    def __init__(self, spec: Spec, told: Told) -> None:
        self.spec = spec
        self.status: Watch[Status] = Watch(Status(spec.name, "waiting", spec.essential))
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self._told = told
        self._failures = Failures(spec.restart)
        self._restarts = 0
        self._was_ready = False

    @property
    def is_lost(self) -> bool:
        """True of an essential service that failed for good: all of it ends with that error."""
        return self.spec.essential and self.status.value.state == "failed"

    def has_settled(self, status: Status) -> bool:
        """Whether others may start: an essential service must be ready or lost, another one may come later."""
        return status.state in ("ready", "failed", "stopped") or (status.state == "backoff" and not self.spec.essential)

    def _set(self, state: State, error: str | None = None) -> None:
        before = self.status.value
        self.status.set(Status(self.spec.name, state, self.spec.essential, self._restarts, error))
        self._told(before, self.status.value)

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
            wait = self._failures.after(anyio.current_time())
            log.error("service.failed", service=self.spec.name, error=_words(error), retry_in_s=wait, exc=error)
            # What was ready before may be so again: whoever took its port in this second may let it go.
            if wait is None or (is_permanent(error) and not self._was_ready):
                self._set("failed", _words(error))
                if self.spec.essential:
                    raise _given_up(self.spec.name, self._restarts + 1, error) from error
                return
            self._set("backoff", _words(error))
            await anyio.sleep(wait)
            self._restarts += 1

    async def _run_once(self) -> Exception:
        """Build and run the service once; returns why it ended."""
        self._set("starting")
        try:
            service = self.spec.factory()
            async with anyio.create_task_group() as group:
                with anyio.fail_after(self.spec.start_timeout_s):
                    await group.start(_call_run, service)
                self._was_ready = True
                self._failures.was_ready()
                self._set("ready")
                log.info("service.ready", service=self.spec.name)
            return Failed("it returned although nobody stopped it")
        except Exception as exc:  # the border where a service's failure becomes state; cancellation is not an Exception
            cause = _first_cause(exc)
            if isinstance(cause, TimeoutError) and self.status.value.state == "starting" and not str(cause):
                return Failed(f"it was not ready in {self.spec.start_timeout_s:g} s")
            return cause


async def _call_run(service: Service, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await service.run(task_status=task_status)


def _first_cause(exc: Exception) -> Exception:
    """The most telling error inside nested groups."""
    found = first_error(exc) if isinstance(exc, ExceptionGroup) else exc
    assert isinstance(found, Exception)  # an ExceptionGroup holds nothing else
    return found


class Supervisor:
    """Runs services until cancelled: start `run` in a task group, cancel the group's scope to stop them.

    `told` hears each change of a state.
    """

    def __init__(self, specs: Iterable[Spec], told: Told = lambda before, now: None) -> None:
        specs = list(specs)
        self._order = start_order(specs)
        self._units = {spec.name: _Unit(spec, told) for spec in specs}
        self._started: list[str] = []

    def statuses(self) -> list[Status]:
        """State of every service, in start order."""
        return [self._units[name].status.value for name in self._order]

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start all; report started once essential services are ready and the others were, or failed; when cancelled stop all in reverse.

        Raises `EssentialServiceFailed` when an essential service cannot be kept up.
        """
        try:
            async with anyio.create_task_group() as group:
                try:
                    for name in self._order:
                        unit = self._units[name]
                        self._started.append(name)
                        group.start_soon(self._shielded, unit)
                        await unit.status.until(unit.has_settled)
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
