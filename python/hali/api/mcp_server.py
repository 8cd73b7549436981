"""The tools as a server of the official MCP SDK. Imported only when MCP is used: that costs about a second and 40 MB."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import msgspec
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.types import Receive, Scope, Send

from hali._version import __version__
from hali.api.mcp_tools import TOOLS, Toolbox, ToolSpec
from hali.api.problems import told
from hali.model.errors import HaliError
from hali.runtime.log import get_logger

log = get_logger(__name__)

INSTRUCTIONS = "Local language models: list them, ask them, fetch more."


def build(toolbox: Toolbox) -> Server[Any]:
    """A server whose tools are carried out by `toolbox`."""

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS.values()])

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:80]!r}")
        return await _called(tool, toolbox, params.arguments or {})

    return Server(
        "hali",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _described(tool: ToolSpec) -> types.Tool:
    hints = types.ToolAnnotations(read_only_hint=tool.read_only, destructive_hint=False)
    return types.Tool(name=tool.name, description=tool.description, input_schema=tool.schema(), annotations=hints)


async def _called(tool: ToolSpec, toolbox: Toolbox, given: dict[str, Any]) -> types.CallToolResult:
    """What the tool found, or why it failed: a model that called it shall read that."""
    try:
        found = await tool.run(toolbox, tool.arguments(given))
    except HaliError as error:
        return _failed(told(error))
    except Exception as bug:  # the border: the SDK would tell the client what it says
        log.error("mcp.broken", exc=bug, tool=tool.name)
        return _failed("internal error")
    text = found["text"] if "text" in found else msgspec.json.encode(found).decode()
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=found)


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


async def answer_http(toolbox: Toolbox, scope: Scope, receive: Receive, send: Send, *, limit: int) -> None:
    """One request of the streamable HTTP transport, without sessions: all that it starts ends with it.

    Answers are JSON: the SDK's event streams leave a task in the loop that watches for uvicorn's end.
    """
    manager = StreamableHTTPSessionManager(
        build(toolbox), json_response=True, stateless=True, max_request_body_size=limit
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


async def serve_stdio(toolbox: Toolbox) -> None:
    """Serve this process's standard input and output until the input ends."""
    server = build(toolbox)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
