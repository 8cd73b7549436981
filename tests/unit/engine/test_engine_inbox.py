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
    inbox = worker.Inbox(theirs, worker.Wire(theirs))
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


def test_it_is_said_that_the_process_lives_while_the_main_thread_does_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.os, "_exit", lambda _: None)
    ours, theirs = socket.socketpair()
    wire = worker.Wire(theirs)
    wire.put(bytearray(b"of the next step"))
    inbox = worker.Inbox(theirs, wire)
    inbox.start()
    ours.sendall(protocol.pack_ack(protocol.Alive()))
    ours.settimeout(10.0)
    (frame,) = protocol.FrameReader().feed(ours.recv(4096))
    ours.close()
    inbox.join()
    theirs.close()
    assert isinstance(protocol.unpack_ack(frame), protocol.Alive)
    assert inbox.frames.empty()
