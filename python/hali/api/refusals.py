"""The two ways to say no to a field of a body, in every dialect: it is wrong, or hali cannot do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hali.model.errors import UsageError

Asks = Callable[[Any], bool]  # True when the value of a field asks for something


def invalid(param: str, what: str) -> UsageError:
    """400, code `invalid_value`: `param` is not what it must be."""
    return UsageError(f"{param}: {what}", code="invalid_value", details={"param": param})


def unsupported(param: str, what: str = "is not supported by this version of hali") -> UsageError:
    """400, code `unsupported`: the answer would not be the one that was asked for."""
    separator = " " if what.startswith("is ") else ": "
    return UsageError(f"{param}{separator}{what}", code="unsupported", details={"param": param})


def given(value: Any) -> bool:
    """True unless the value is one that stands for nothing."""
    return value not in (None, [], {}, "", False)


def other_than(*harmless: Any) -> Asks:
    """True for every value but null and `harmless` ones."""
    return lambda value: value is not None and value not in harmless


def refuse(body: Any, table: Mapping[str, Asks]) -> None:
    """`UsageError` naming the first field of `body` that asks for what hali cannot do."""
    for name, asks in table.items():
        if asks(getattr(body, name)):
            raise unsupported(name)
