"""A WebSocket that is over while its reader holds back the last bytes: it has its time, then its place is taken."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from hali.api.dashboard_socket import SocketProtocol

pytestmark = pytest.mark.anyio


class Place:
    """The slot; says what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_writing(self) -> None:
        self.told.append("lags")

    def resume_writing(self) -> None:
        self.told.append("took it")

    def evict(self, reason: str) -> None:
        self.told.append(reason)

    def send_400_response(self, msg: str) -> None:
        self.told.append(msg)

    def leave(self) -> None:
        self.told.append("left")


class Wire(asyncio.Transport):
    """With so many bytes that nobody took."""

    def __init__(self, unsent: int) -> None:
        super().__init__({"peername": ["192.0.2.1", 5], "sockname": ["192.0.2.2", 80]})
        self._unsent = unsent

    def get_write_buffer_size(self) -> int:
        return self._unsent


async def application(scope: object, receive: object, send: object) -> None:
    """Over at once."""


@pytest.mark.parametrize(("unsent", "told"), [(1, ["lags"]), (0, [])])
async def test_a_reader_that_holds_back_the_end_of_a_closed_socket_is_watched(unsent: int, told: list[str]) -> None:
    place, loop = Place(), asyncio.get_running_loop()
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    socket = SocketProtocol(place, config=config, server_state=ServerState(), app_state={}, _loop=loop)
    socket.connection_made(Wire(unsent))
    task = loop.create_task(application(None, None, None))
    socket.tasks.add(task)
    task.add_done_callback(socket.on_task_complete)
    await task
    await asyncio.sleep(0)
    assert place.told == told
