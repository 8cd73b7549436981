"""Orders to end a session that arrive while a decode runs. Pure; `order` is for another thread, the rest for the loop's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Flag(Protocol):
    """One byte that llama.cpp reads while it computes: it stops unless that is zero."""

    def __setitem__(self, index: int, value: bytes, /) -> None:
        """Set it."""


class Interrupts:
    """Who was ordered to end and has not ended yet, and whose decode under way may be stopped for it."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._stoppable: frozenset[bytes] = frozenset()
        self._doomed: set[bytes] = set()

    def order(self, ident: bytes) -> None:
        """End this session; must come before `obeyed`, which takes it back."""
        self._doomed.add(ident)
        if ident in self._stoppable:
            self._flag[0] = b"\1"

    def obeyed(self, ident: bytes) -> None:
        """The session has ended."""
        self._doomed.discard(ident)

    def ordered(self, ident: bytes) -> bool:
        """Whether the order to end it lies in the inbox already."""
        return ident in self._doomed

    def begin(self, stoppable: Iterable[bytes]) -> bool:
        """A decode begins that each of `stoppable` may stop; False if one of them was ordered to end by now."""
        self._flag[0] = b"\0"
        self._stoppable = frozenset(stoppable)
        return self._doomed.isdisjoint(self._stoppable)

    def end(self) -> None:
        """The decode is over."""
        self._stoppable = frozenset()
