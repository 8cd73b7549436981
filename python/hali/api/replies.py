"""Replies in the making: each ends when its client goes away, or, with an explicit error, when the daemon must stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from hali.model.errors import HaliError, Overloaded


class OpenReplies:
    """The replies being made now, so that shutdown can end them all."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def track(self) -> Iterator[anyio.CancelScope]:
        """A scope for one reply."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def cut(self) -> None:
        """End all of them; their clients are told."""
        for scope in list(self._scopes):
            scope.cancel()


async def while_connected(receive: Receive, replies: OpenReplies, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` unless the client leaves (`ClientDisconnect`) or the replies are cut (`Overloaded`). Raises its
    `HaliError`.

    The request's body must have been read: from then on ASGI's `receive` only tells of the disconnect.
    """
    finished = gone = False
    failure: HaliError | None = None
    with replies.track() as scope:

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            try:
                await work()
                finished = True
            except HaliError as error:  # taken out by hand: the group would wrap it
                failure = error
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if gone and not finished:
        raise ClientDisconnect
    if not finished:
        raise Overloaded("hali is stopping, or restarts what made this reply", details={"retry_after_s": 1})
