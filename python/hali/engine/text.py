"""From sampled bytes to text that is final: stop strings held back, UTF-8 never cut. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class StopMatcher:
    """Finds the first of several byte strings in a stream, and holds back what may still become one."""

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = b""

    def push(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes that are past every stop string, whether one was found: then the stream is over)."""
        self._held += data
        at = min((i for i in map(self._held.find, self._stops) if i >= 0), default=-1)
        if at >= 0:
            free, self._held = self._held[:at], b""
            return free, True
        keep = self._possible_start()
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return free, False

    def flush(self) -> bytes:
        """What was held back; the stream is over and it did not become a stop string."""
        free, self._held = self._held, b""
        return free

    def _possible_start(self) -> int:
        """Length of the longest end of the buffer that a stop string begins with."""
        for length in range(min(len(self._held), max(map(len, self._stops), default=1) - 1), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


class TextStream:
    """Token bytes in, final text out. Bytes that are no UTF-8 are dropped, as llama-cpp-python does."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._matcher = StopMatcher([stop.encode() for stop in stops])
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """Text that became final with `piece`; `stopped` tells whether a stop string ended the stream."""
        free, self.stopped = self._matcher.push(piece)
        return self._decoder.decode(free, self.stopped)

    def finish(self) -> str:
        """The rest, at the end of the stream; the start of a character that never became whole is dropped."""
        return self._decoder.decode(self._matcher.flush(), True)


class InsideCharacter:
    """Whether a reply must not be ended by `max_tokens` yet, because its last token left a character unfinished.

    llama-cpp-python's rule to the letter, so that replies end at the same token: it counts missing *bytes* as tokens,
    hence waits one or two tokens too long when one token brings several of them.
    """

    _LEADS = ((2, 0b11000000), (3, 0b11100000), (4, 0b11110000))  # (bytes of the character, bits of its first byte)

    def __init__(self) -> None:
        self._tail = b""
        self._missing = 0

    def push(self, piece: bytes) -> bool:
        """Take the bytes of a token; True if the reply has to go on."""
        self._tail = (self._tail + piece)[-3:]
        for at, byte in enumerate(self._tail):
            seen = 3 - at
            for length, bits in self._LEADS:
                if length > seen and byte & bits == bits:
                    self._missing = length - seen
        if self._missing == 0:
            return False
        self._missing -= 1
        return True
