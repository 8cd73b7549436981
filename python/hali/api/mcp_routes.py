"""MCP over streamable HTTP at /mcp, without sessions: POST alone. The gate before it checks Host, Origin and key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from hali.api.asking import deps_of
from hali.api.bodies import decode
from hali.api.dialects import REQUEST_ID, McpError
from hali.api.mcp_local import LocalToolbox
from hali.api.replies import while_connected
from hali.api.routes import Endpoint
from hali.model.errors import Failed, HaliError, UsageError
from hali.wire.http import read_body


def load_sdk() -> ModuleType:
    """`mcp_server`, which needs the SDK; `Failed` that says how to get it. Takes about a second the first time."""
    try:
        from hali.api import mcp_server
    except ImportError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        hint = "pip install 'hali[mcp]'"
        raise Failed("MCP needs the package `mcp`, which is not installed", hint=hint, code="not_installed") from None
    return mcp_server


async def mcp(request: Request) -> Response:
    """One message of an MCP client. There is no GET (nothing is sent unasked) and no DELETE (there is no session)."""
    limit = deps_of(request).limits.body_bytes
    body = await read_body(request.headers.get("content-length", "0"), request.stream(), limit)
    with _naming(body):
        sdk = await anyio.to_thread.run_sync(load_sdk)
    return _Answer(request, body, sdk, limit)


class _Answer(Response):
    """The SDK's answer; given up when the client leaves or the daemon stops."""

    def __init__(self, request: Request, body: bytes, sdk: ModuleType, limit: int) -> None:
        self.status_code, self.background = 200, None
        self._request, self._body, self._sdk, self._limit = request, body, sdk, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the SDK read the body again and send its answer."""
        toolbox, replayed = LocalToolbox(self._request), _replayed(self._body)

        async def work() -> None:
            await self._sdk.answer_http(toolbox, scope, replayed, send, limit=self._limit)

        with _naming(self._body):
            await while_connected(receive, deps_of(self._request).replies, work)


class _Numbered(msgspec.Struct):
    """What is looked for in a JSON-RPC request."""

    id: int | str | None = None


@contextmanager
def _naming(body: bytes) -> Iterator[None]:
    """Errors tell which request failed: by it a client knows what to give up."""
    try:
        yield
    except HaliError as error:
        with suppress(UsageError):  # a batch, or no JSON: nothing to name
            error.details[REQUEST_ID] = decode(body, _Numbered).id
        raise


def _replayed(body: bytes) -> Receive:
    """`receive` of a request whose body was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await anyio.sleep_forever()
        raise AssertionError("never")

    return receive


ROUTES = (Endpoint("/mcp", mcp, methods=("POST",), summary="MCP over streamable HTTP", tag="mcp", error=McpError),)
