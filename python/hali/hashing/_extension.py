"""The compiled module, or a clear word on why it is not there. There is no fallback in Python."""

from __future__ import annotations

try:
    from hali._native import hashcore as native
except ImportError as error:
    raise ImportError(
        "hali's compiled module hali._native.hashcore cannot be loaded: "
        f"{error}. Install hali from its wheel, or run `make build` in a checkout."
    ) from error

__all__ = ["native"]
