"""Ollama's `keep_alive`: how long a model stays in memory after its last request."""

from __future__ import annotations

import re

import msgspec

from hali.model.errors import UsageError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|ms|m|s|us|µs|ns)", re.ASCII)
_WHOLE = re.compile(rf"-?(?:{_PART.pattern})+\Z", re.ASCII)
_PLAIN = re.compile(r"-?\d{1,12}(?:\.\d{1,12})?\Z", re.ASCII)
FOREVER_S = 100 * 365 * 86400.0  # more is no time that a clock could show


class Stay(msgspec.Struct, frozen=True):
    """`seconds` after the last request; None = it stays."""

    seconds: float | None

    @property
    def ends(self) -> bool:
        """The model goes as soon as nobody uses it."""
        return self.seconds == 0


def stay_of(keep_alive: float | str | None) -> Stay | None:
    """Seconds, or a duration as Go writes them (`1h30m`, `500ms`); negative = for ever. None where nothing was asked; `UsageError`."""
    if keep_alive is None:
        return None
    seconds = _seconds(keep_alive.strip()) if isinstance(keep_alive, str) else keep_alive
    return Stay(None if seconds < 0 or seconds > FOREVER_S else seconds)


def _seconds(text: str) -> float:
    if _PLAIN.match(text):
        return float(text)
    if not _WHOLE.match(text):
        message = f"keep_alive: {text[:40]!r} is no duration; `5m`, `1h30m` and seconds are"
        raise UsageError(message, code="invalid_value", details={"param": "keep_alive"})
    seconds = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds
