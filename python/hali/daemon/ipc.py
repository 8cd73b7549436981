"""IPC with the CLI: newline-delimited JSON over TCP on a loopback port found through `daemon.addr`.

Request: `{"method": "status", "token": "…", "id": 1, …parameters}`. Reply: the result's fields with `id` and `ok: true`, or
`{"id": 1, "ok": false, "error": {code, message, hint…}}`. A method that takes long sends `{"id": 1, "event": {…}}` lines before its reply.
Many requests a connection, answered as they finish. Anything without the right token is refused and the connection closed.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.abc
import msgspec

from hali.model.errors import Failed, HaliError, ProtocolError, Refused, UsageError
from hali.runtime.log import get_logger

log = get_logger(__name__)

MAX_LINE = 1024 * 1024  # sharing.md; the largest honest request is a magnet link
MAX_CONNECTIONS = 64  # each costs a buffer of MAX_LINE at most; a CLI uses one
MAX_IN_FLIGHT = 32  # requests at once on one connection
IDLE_S = 600.0  # a connection that asks nothing for so long is closed; watchers of a job are not idle
READ_OUT_S = 1.0  # for the rest of what a refused client is still sending
LINGER_S = 5.0  # for answers under way when a client closes its writing side
FIRST_LINE_S = 10.0  # whoever connects to this port knows what to say

Emit = Callable[[dict[str, Any]], Awaitable[None]]


async def nobody(event: dict[str, Any]) -> None:
    """The `Emit` of those who want to hear no events."""


Params = dict[str, Any]
Handler = Callable[[Params, Emit], Awaitable[Mapping[str, Any]]]


class IpcServer:
    """Serves `methods` on a loopback port of the system's choice."""

    def __init__(self, methods: Mapping[str, Handler], token: str) -> None:
        self._methods = dict(methods)
        self._token = token.encode()
        self._connections = 0
        self.address: tuple[str, int] | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; `address` is set once ready."""
        async with anyio.create_task_group() as group:

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                group.start_soon(self._connection, reader, writer)

            server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=MAX_LINE)
            async with server:
                host, port = server.sockets[0].getsockname()[:2]
                self.address = (host, port)
                task_status.started()
                try:
                    await anyio.sleep_forever()
                finally:
                    group.cancel_scope.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                await _Connection(self._methods, self._token, reader, writer).serve()
        except* (ConnectionError, TimeoutError) as lost:
            log.debug("ipc.connection_lost", error=str(lost.exceptions[0]))
        except* Exception as bug:  # whatever one connection does, the others and the server go on
            log.error("ipc.connection_failed", exc=bug)
        finally:
            self._connections -= 1
            writer.close()


class _Connection:
    def __init__(
        self, methods: Mapping[str, Handler], token: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._methods, self._token, self._reader, self._writer = methods, token, reader, writer
        self._room = anyio.Semaphore(MAX_IN_FLIGHT)
        self._writing = anyio.Lock()
        self._known = False  # has shown the token; until then there is FIRST_LINE_S in all, however many lines come
        self._running = 0
        self._idle = anyio.Event()
        self._idle.set()

    async def serve(self) -> None:
        """Read requests until the other side closes, breaks the framing, or shows a wrong token."""
        async with anyio.create_task_group() as group:
            async for line in self._lines():
                request = await self._parse(line)
                if request is None:
                    continue
                if not self._authorised(request):
                    error = Refused(
                        "the IPC token is missing or wrong", hint="it is in daemon.token of the daemon's home"
                    )
                    await self._reply_error(request.get("id"), error)
                    await self._read_out()
                    break
                self._known = True
                await self._room.acquire()
                self._begin()
                group.start_soon(self._answer, request)
            # A client may close its writing side and still read: short answers get out, watchers of a job end.
            with anyio.move_on_after(LINGER_S):
                await self._idle.wait()
            group.cancel_scope.cancel()

    async def _lines(self) -> AsyncIterator[bytes]:
        until = anyio.current_time() + FIRST_LINE_S
        while True:
            try:
                with anyio.fail_after(IDLE_S if self._known else until - anyio.current_time()):
                    line = await self._reader.readuntil(b"\n")
            except TimeoutError:
                if self._running:
                    continue
                return
            except asyncio.LimitOverrunError:
                await self._reply_error(None, ProtocolError(f"a request line may have {MAX_LINE} bytes"))
                await self._read_out()
                return
            except asyncio.IncompleteReadError as end:
                if end.partial:
                    yield end.partial
                return
            yield line

    async def _read_out(self) -> None:
        """Closing with unread bytes resets the connection, and the other side might never see what it did wrong."""
        with anyio.move_on_after(READ_OUT_S):
            while await self._reader.read(MAX_LINE):
                pass

    async def _parse(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            await self._reply_error(None, ProtocolError("a request is one JSON object on one line"))
            return None

    def _authorised(self, request: Mapping[str, Any]) -> bool:
        given = request.get("token")
        return isinstance(given, str) and hmac.compare_digest(given.encode(), self._token)

    def _begin(self) -> None:
        self._running += 1
        if self._idle.is_set():
            self._idle = anyio.Event()

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
        self._room.release()

    async def _answer(self, request: dict[str, Any]) -> None:
        request_id = request.pop("id", None)
        request.pop("token")
        try:
            result = await self._call(request, request_id)
            await self._send({**result, "id": request_id, "ok": True})
        except HaliError as exc:
            await self._reply_error(request_id, exc)
        except (ConnectionError, TimeoutError):
            self._writer.close()
        except Exception as exc:  # a bug in one method must not cost the daemon; it is logged with its traceback
            log.error("ipc.method_failed", method=str(request.get("method")), exc=exc)
            await self._reply_error(request_id, Failed(f"internal error: {type(exc).__name__}: {exc}", code="internal"))
        finally:
            self._end()

    async def _call(self, request: dict[str, Any], request_id: Any) -> Mapping[str, Any]:
        method = request.pop("method", None)
        handler = self._methods.get(method) if isinstance(method, str) else None
        if handler is None:
            raise UsageError(
                f"unknown method {str(method)[:100]!r}",
                code="unknown_method",
                hint=f"methods: {', '.join(sorted(self._methods))}",
            )

        async def emit(event: dict[str, Any]) -> None:
            await self._send({"id": request_id, "event": event})

        return await handler(request, emit)

    async def _reply_error(self, request_id: Any, error: HaliError) -> None:
        try:
            await self._send({"id": request_id, "ok": False, "error": error.to_wire()})
        except (ConnectionError, TimeoutError) as exc:
            log.debug("ipc.reply_lost", error=str(exc))

    async def _send(self, message: Mapping[str, Any]) -> None:
        async with self._writing:
            self._writer.write(msgspec.json.encode(message) + b"\n")
            with anyio.fail_after(30):  # a client that does not read for so long is gone
                await self._writer.drain()


def field(params: Params, name: str, kind: Any, default: Any = ...) -> Any:
    """Parameter `name` of a request, checked; UsageError when it is missing or of another type."""
    if name not in params and default is not ...:
        return default
    try:
        return msgspec.convert(params[name], kind)
    except KeyError:
        raise UsageError(f"parameter {name!r} is missing") from None
    except msgspec.ValidationError as exc:
        raise UsageError(f"parameter {name!r}: {exc}") from None
