"""A daemon to look at, without one: its buses and parts are real, its numbers the test's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from hali.api.dashboard_base import Part, Sample
from hali.runtime.activity import Activity
from hali.runtime.channels import Watch


class MemoryDashboard:
    """Implements `hali.api.dashboard_base.Dashboard`; `show` is a new value of a part."""

    def __init__(self) -> None:
        self.activity = Activity()
        self.parts: Watch[Mapping[str, Part]] = Watch({})
        self.rates: Watch[Sequence[Sample]] = Watch(())
        self.viewers = 0
        self.called: list[tuple[str, dict[str, Any]]] = []
        self._versions = 0

    def show(self, name: str, value: Any) -> None:
        self._versions += 1
        part = Part(name, self._versions, msgspec.Raw(msgspec.json.encode(value)))
        self.parts.set({**self.parts.value, name: part})

    def hello(self) -> dict[str, Any]:
        return {"version": "0", "node": "ab" * 32, "boot": "1", "now": 1_700_000_000.0}

    @contextmanager
    def viewing(self) -> Iterator[None]:
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    async def call(self, method: str, params: dict[str, Any]) -> Mapping[str, Any]:
        self.called.append((method, params))
        return {"called": method}
