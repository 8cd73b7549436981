"""What a fetch concludes from who is left."""

from __future__ import annotations

from typing import Any

from hali.transfer.guard import Guard


def guard(*liars: str) -> Guard:
    """Where each of these has sent a bad piece, and is gone."""
    nobody: Any = None  # neither a session nor a fetch is asked for that
    it = Guard(nobody, nobody, (), patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b"")
    for piece, liar in enumerate(liars):
        it.evidence.arrived(liar)
        it.evidence.sent(piece, liar, 1)
        it.evidence.failed(piece, 1)
        it.evidence.left(liar)
    return it


def test_with_nobody_but_liars_a_fetch_is_alone_and_with_an_honest_peer_that_may_come_back_it_is_not() -> None:
    it = guard("10.0.0.1", "10.0.0.2")
    assert it.alone
    it.evidence.audited("10.0.0.3", True)  # was asked by ourselves, and has no connection yet
    assert not it.alone
