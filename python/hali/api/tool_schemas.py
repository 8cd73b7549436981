"""What every dialect asks of a tool's declaration."""

from __future__ import annotations

from typing import Any

from hali.model.errors import UsageError


def object_schema(schema: dict[str, Any] | None, where: str) -> dict[str, Any]:
    """The schema of a call's arguments, which are an object in each API; `UsageError` for one of something else.

    One without `type`, as Pydantic and the AI SDK make them, is taken: objects are what it is meant for.
    """
    found = schema or {}
    if (kind := found.get("type", "object")) != "object":
        raise UsageError(
            f'{where}: must be a schema of type "object", not {str(kind)[:40]!r}',
            code="invalid_function_parameters",
            details={"param": where},
        )
    return found
