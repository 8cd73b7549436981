"""Which logprobs go out with which text. Pure."""

from __future__ import annotations

from collections import deque

from hali.model.generation import TokenLogprob


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
