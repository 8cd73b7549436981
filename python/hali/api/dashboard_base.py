"""What the dashboard's routes need of the daemon, and the seats of those who look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import msgspec

from hali.model.errors import Overloaded
from hali.runtime.activity import Activity
from hali.runtime.channels import Watch

SEATS = 32  # open dashboards: a person has a handful of tabs; each costs a queue of 256 events and 16 KiB of buffer at least


class Part(msgspec.Struct, frozen=True):
    """One part of what is shown; `value` is JSON, encoded once for all who look. A newer one has a greater `version`."""

    name: str
    version: int
    value: msgspec.Raw


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Rates at Unix time `ts`, in bytes a second."""

    ts: float
    down: float
    up: float


class Dashboard(Protocol):
    """The daemon, as those who look at it see it."""

    activity: Activity
    parts: Watch[Mapping[str, Part]]  # empty until they are built for the first one who looks
    rates: Watch[Sequence[Sample]]  # of the last minutes, the oldest first

    def hello(self) -> dict[str, Any]:
        """`version`, `node`, `boot`, `now`."""

    def viewing(self) -> AbstractContextManager[None]:
        """Parts are kept up to date while somebody is in here."""

    async def call(self, method: str, params: dict[str, Any]) -> Mapping[str, Any]:
        """Do what a button says; `NotFound` for what is no button, any `HaliError` of the method."""


class Seats:
    """Counts those who look."""

    def __init__(self, seats: int = SEATS) -> None:
        self._seats, self.taken = seats, 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """One of them for the block; Overloaded while all are taken."""
        if self.taken >= self._seats:
            raise Overloaded(f"{self._seats} dashboards are open", hint="close one", details={"retry_after_s": 10})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
