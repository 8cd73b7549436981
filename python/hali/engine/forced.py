"""The JSON schema of a reply that has to call a tool. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hali.engine.schemas import NAMED, VALUES
from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest, Tool


def forced_schema(request: GenerateRequest, *, exact: bool = True) -> dict[str, Any] | None:
    """Of `{"name": …, "arguments": …}` for tool_choice "required"; None for other choices. UsageError without such a tool.

    Not `exact`: the arguments are any object, for schemas that a grammar cannot say.
    """
    if request.tool_choice != "required":
        return None
    tools = [tool for tool in request.tools if request.tool_name in (None, tool.name)]
    if not tools:
        what = "a tool" if request.tool_name is None else f"the tool {request.tool_name!r}"
        raise UsageError(f"{what} must be called, and the request has none such", code="tool_choice")
    return _any_of(tools if exact else [Tool(tool.name, parameters={"type": "object"}) for tool in tools])


def _any_of(tools: Sequence[Tool]) -> dict[str, Any]:
    if len(tools) == 1:
        return _call(tools[0], "#")
    return {"anyOf": [_call(tool, f"#/anyOf/{at}") for at, tool in enumerate(tools)]}


def _call(tool: Tool, place: str) -> dict[str, Any]:
    schema = tool.parameters or {
        "type": "object",
        "additionalProperties": False,
    }  # a function without any is called with none
    parameters = _moved(schema, f"{place}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """References to the schema's own root, where it stands at `place` of another."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _moved_value(key, value, place) for key, value in schema.items()}


def _moved_value(key: str, value: Any, place: str) -> Any:
    if key in VALUES:
        return value
    if key in NAMED and isinstance(value, dict):
        return {name: _moved(each, place) for name, each in value.items()}
    if key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/")):
        return place + value[1:]
    return _moved(value, place)
