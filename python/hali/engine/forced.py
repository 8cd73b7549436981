"""The JSON schema of a reply that has to call a tool. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from hali.engine.schemas import mapped
from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest, Tool


def forced_schema(request: GenerateRequest, *, free: Collection[str] = ()) -> dict[str, Any] | None:
    """Of `{"name": …, "arguments": …}` for tool_choice "required"; None for other choices. UsageError without such a tool.

    The arguments of the tools `free` are any object, for schemas that a grammar cannot say.
    """
    if request.tool_choice != "required":
        return None
    tools = callable_tools(request)
    if not tools:
        what = "a tool" if request.tool_name is None else f"the tool {request.tool_name!r}"
        raise UsageError(f"{what} must be called, and the request has none such", code="tool_choice")
    try:
        return _any_of(
            [Tool(tool.name, parameters={"type": "object"}) if tool.name in free else tool for tool in tools]
        )
    except RecursionError:
        raise UsageError("the parameters of a tool are nested too deeply", code="schema") from None


def callable_tools(request: GenerateRequest) -> list[Tool]:
    """Those of which one must be called."""
    return [tool for tool in request.tools if request.tool_name in (None, tool.name)]


def _any_of(tools: Sequence[Tool]) -> dict[str, Any]:
    if len(tools) == 1:
        return _call(tools[0], "#")
    return {"anyOf": [_call(tool, f"#/anyOf/{at}") for at, tool in enumerate(tools)]}


def _call(tool: Tool, place: str) -> dict[str, Any]:
    schema = tool.parameters or {
        "type": "object",
        "additionalProperties": False,
    }  # a function without any is called with none
    parameters = {"type": "object", **_moved(schema, f"{place}/properties/arguments")}  # which some clients leave out
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """References to the schema's own root, where it stands at `place` of another."""
    found = mapped(schema, partial(_moved, place=place))
    if isinstance(found, dict) and isinstance(ref := found.get("$ref"), str) and (ref == "#" or ref.startswith("#/")):
        found["$ref"] = place + ref[1:]
    return found
