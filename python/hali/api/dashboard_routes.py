"""The dashboard over HTTP: a ticket, the WebSocket it opens, and the buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from hali.api import dashboard_assets
from hali.api.asking import deps_of, waited
from hali.api.base import ApiDeps
from hali.api.bodies import read_json
from hali.api.dashboard_base import Dashboard
from hali.api.dashboard_session import DashboardSession
from hali.api.dashboard_tickets import VALID_S
from hali.api.dialects import DASHBOARD, DashboardError
from hali.api.gate import KEY
from hali.api.keys import ApiKey
from hali.api.problems import json_response, problem
from hali.api.routes import Endpoint
from hali.model.errors import Failed, HaliError, UsageError
from hali.runtime.log import get_logger

log = get_logger(__name__)

SOCKET = "/dashboard/ws"
PARAMS_BYTES = 64 * 1024  # the largest honest request is a magnet link with its trackers


class TicketGiven(msgspec.Struct, frozen=True):
    """What opens the WebSocket, once."""

    ticket: str
    expires_in_s: int


async def ticket(request: Request) -> Response:
    """A ticket in the name of the key that came with the request."""
    deps_of_dashboard(deps_of(request))
    key: ApiKey | None = getattr(request.state, KEY)
    return json_response(TicketGiven(deps_of(request).tickets.give(key), int(VALID_S)))


async def call(request: Request) -> Response:
    """Do what a button says, with the very handler of the CLI's command; given up when the client leaves."""
    dashboard = deps_of_dashboard(deps_of(request))
    params = await read_json(request, dict[str, Any], PARAMS_BYTES)

    async def work() -> Any:
        return await dashboard.call(request.path_params["method"], params)

    return json_response(await waited(request, work))


async def not_upgraded(_: Request) -> Response:
    """A plain GET where a WebSocket is."""
    raise UsageError("this is a WebSocket", hint=f"GET {SOCKET}?ticket=… with Upgrade: websocket", code="upgrade")


async def look(socket: WebSocket) -> None:
    """Serve one dashboard; the gate has looked at Host and Origin. A bad ticket is a 403 before anything is accepted, no seat a 503."""
    try:
        await _admit(socket, socket.app.state.deps)
    except (WebSocketDisconnect, OSError):  # uvicorn's word for a client that has gone, whatever was to be sent
        log.debug("dashboard.left")


async def _admit(socket: WebSocket, deps: ApiDeps) -> None:
    try:
        dashboard = deps_of_dashboard(deps)
        key = deps.tickets.take(socket.query_params.get("ticket", ""))
        with deps.seats.take():
            await DashboardSession(socket, dashboard, _still_good(deps, key)).run()
    except HaliError as error:
        log.info("dashboard.refused", code=error.code, error=str(error))
        await socket.send_denial_response(problem(error, DASHBOARD))


def _still_good(deps: ApiDeps, key: ApiKey | None) -> Callable[[], bool]:
    """A dashboard stays open for days: it ends with the key that opened it."""
    return lambda: key is None or deps.ring.holds(key)


def deps_of_dashboard(deps: ApiDeps) -> Dashboard:
    """What is shown; Failed on a server that has no daemon behind it."""
    if deps.dashboard is None:
        raise Failed("this server only answers; there is no daemon to show", code="no_dashboard")
    return deps.dashboard


WEBSOCKET = WebSocketRoute(SOCKET, look)
ROUTES = (
    *dashboard_assets.ROUTES,
    Endpoint(
        "/dashboard/ticket",
        ticket,
        methods=("POST",),
        summary="A ticket for the WebSocket, good once and for 30 s",
        tag="dashboard",
        response=TicketGiven,
        error=DashboardError,
    ),
    Endpoint(
        SOCKET,
        not_upgraded,
        summary="What the daemon does, as it happens; a WebSocket, opened by a ticket",
        tag="dashboard",
        error=DashboardError,
        query=("ticket",),
    ),
    Endpoint(
        "/dashboard/call/{method}",
        call,
        methods=("POST",),
        summary="What the buttons do",
        tag="dashboard",
        request=dict[str, Any],
        error=DashboardError,
    ),
)
