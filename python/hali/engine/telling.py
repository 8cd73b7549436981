"""What a sampler tells of a token besides its number, and with which text that goes out. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hali.model.generation import TokenLogprob


class Drawn(NamedTuple):
    """Of one token: its logprob, None where nobody asked; whether the reply's format lets nothing follow it."""

    logprob: TokenLogprob | None = None
    complete: bool = False


class Untold:
    """Logprobs of tokens whose text is held back: each goes out with the first byte of its text, or never."""

    def __init__(self) -> None:
        self._bytes = 0
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()

    def add(self, piece: bytes, logprob: TokenLogprob | None) -> None:
        """The next token of the reply, and the bytes it stands for. None: nobody asked."""
        if logprob is not None:
            self._waiting.append((self._bytes, logprob))
        self._bytes += len(piece)

    def take(self, passed: int) -> tuple[TokenLogprob, ...]:
        """Those whose text begins within the first `passed` bytes, in their order, once."""
        found = []
        while self._waiting and self._waiting[0][0] < passed:
            found.append(self._waiting.popleft()[1])
        return tuple(found)
