"""Tools as OpenAI's APIs declare them, in the shapes of chat (nested) and of responses (flat)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hali.api.refusals import invalid, unsupported
from hali.api.tool_schemas import object_schema
from hali.model.generation import Tool, ToolChoice

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)  # OpenAI's rule, and the dots that MCP servers use


class Function(msgspec.Struct):
    """What may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(msgspec.Struct):
    """A tool: `function` in chat; its fields beside `type` in responses."""

    type: str
    function: Function | None = None
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionName(msgspec.Struct):
    """A function by its name."""

    name: str


class Named(msgspec.Struct):
    """A tool by its name, in either shape."""

    type: str = "function"
    name: str | None = None
    function: FunctionName | None = None


class Allowed(msgspec.Struct):
    """Some of the tools, and whether one must be called."""

    mode: str
    tools: list[Named]


class Choice(msgspec.Struct):
    """`tool_choice` where it is more than a word."""

    type: str = "function"
    name: str | None = None
    function: FunctionName | None = None
    allowed_tools: Allowed | None = None
    mode: str | None = None
    tools: list[Named] | None = None


class ToolUse(msgspec.Struct, frozen=True):
    """What of a request concerns tools, under the names of `GenerateRequest`."""

    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    tool_name: str | None = None
    parallel_tool_calls: bool = True


def tool_use(specs: Sequence[ToolSpec] | None, choice: str | Choice | None, parallel: bool | None) -> ToolUse:
    """Which tools the model has and must use; `UsageError` naming the field that is wrong."""
    tools = tuple(_tool(spec, f"tools[{index}]") for index, spec in enumerate(specs or ()))
    return _chosen(declared(tools, "tools"), choice, parallel is not False)


def declared(tools: tuple[Tool, ...], where: str) -> tuple[Tool, ...]:
    """The same; `UsageError` for names that no model could tell apart or spell."""
    names = [tool.name for tool in tools]
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise invalid(where, f"{name[:80]!r} is no name: letters, digits, '_', '-' and '.', at most 64")
    if len(set(names)) < len(names):
        raise invalid(where, "two tools have the same name")
    return tools


def function(spec: Function, where: str) -> Tool:
    """A tool for the engine; `UsageError` for parameters that are no object's."""
    parameters = object_schema(spec.parameters, f"{where}.parameters")
    return Tool(spec.name, spec.description, parameters, strict=bool(spec.strict))


def must_call(tools: tuple[Tool, ...], name: str, where: str, parallel: bool) -> ToolUse:
    """The model must call the tool `name`."""
    if name not in {tool.name for tool in tools}:
        raise invalid(where, f"there is no tool {name[:80]!r}")
    return ToolUse(tools, "required", name, parallel)


def _tool(spec: ToolSpec, where: str) -> Tool:
    if spec.type != "function":
        raise unsupported(f"{where}.type", f"{spec.type[:40]!r} is not supported, only function")
    if spec.function is not None:
        return function(spec.function, f"{where}.function")
    if spec.name is None:
        raise invalid(where, "name is missing")
    return function(Function(spec.name, spec.description, spec.parameters, spec.strict), where)


def _chosen(tools: tuple[Tool, ...], choice: str | Choice | None, parallel: bool) -> ToolUse:
    if isinstance(choice, Choice):
        return _special(tools, choice, parallel)
    if choice is None or choice == "auto":
        return ToolUse(tools, "auto", None, parallel)
    if choice == "none":
        return ToolUse(tools, "none", None, parallel)
    if choice != "required":
        raise invalid("tool_choice", f"{choice[:40]!r} is not auto, none, required or a tool")
    if not tools:
        raise invalid("tool_choice", "a tool must be called, and there is none")
    return ToolUse(tools, "required", None, parallel)


def _special(tools: tuple[Tool, ...], choice: Choice, parallel: bool) -> ToolUse:
    if choice.type == "function":
        name = choice.function.name if choice.function else choice.name
        if name is None:
            raise invalid("tool_choice", "name is missing")
        return must_call(tools, name, "tool_choice", parallel)
    if choice.type != "allowed_tools":
        raise unsupported("tool_choice", f"type {choice.type[:40]!r} is not supported")
    allowed = choice.allowed_tools or Allowed(choice.mode or "auto", choice.tools or [])
    if allowed.mode not in ("auto", "required"):
        raise invalid("tool_choice", "mode must be auto or required")
    names = {each.function.name if each.function else each.name for each in allowed.tools}
    if missing := names - {tool.name for tool in tools}:
        raise invalid("tool_choice", f"there is no tool {sorted(map(str, missing))[0][:80]!r}")
    return _chosen(tuple(tool for tool in tools if tool.name in names), allowed.mode, parallel)
