"""Orders to end a session that arrive while a decode runs. Pure; `order` is for another thread, the rest for the loop's."""

from __future__ import annotations

import threading
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
        self._one = threading.Lock()  # between an order's look and its flag no other decode may begin

    def order(self, ident: bytes) -> None:
        """End this session; must come before `obeyed`, which takes it back."""
        with self._one:
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
        wanted = frozenset(stoppable)
        with self._one:
            self._flag[0] = b"\0"
            self._stoppable = wanted
            return self._doomed.isdisjoint(wanted)

    def end(self) -> None:
        """The decode is over."""
        with self._one:
            self._stoppable = frozenset()
