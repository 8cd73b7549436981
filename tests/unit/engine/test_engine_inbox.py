"""What comes from the daemon while the worker's main thread computes."""

from __future__ import annotations

import socket
import threading

import pytest

from hali.engine import protocol, worker


def test_a_cancelled_session_is_interrupted_before_the_order_can_be_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Afterwards nobody would take back what the interruption noted."""
    ended = threading.Event()
    monkeypatch.setattr(worker.os, "_exit", lambda _: ended.set())
    ours, theirs = socket.socketpair()
    inbox = worker.Inbox(theirs)
    waiting: list[tuple[bytes, bool]] = []
    inbox.on_cancel = lambda session: waiting.append((session, inbox.frames.empty()))
    inbox.start()
    ours.sendall(protocol.pack_cancel(b"s" * 16))
    ours.close()
    inbox.join()
    theirs.close()
    assert ended.is_set()
    assert waiting == [(b"s" * 16, True)]
    assert inbox.frames.get_nowait().session == b"s" * 16
