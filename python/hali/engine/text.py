"""From sampled bytes to text that is final: stop strings held back, UTF-8 never cut. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class StopMatcher:
    """Finds the byte string that ends first in a stream, and holds back what may still become one.

    Which one is found, and what lies before it, does not depend on how the stream is cut into pieces.
    """

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=1)
        self._held = b""

    def push(self, data: bytes, *, armed: bool = True) -> tuple[bytes, bytes | None]:
        """(bytes that are past every stop string, the one that was found: then the stream is over).

        Unless `armed`, a stop string that ends within `data` does not count.
        """
        before = len(self._held)
        self._held += data
        if armed and (found := self._find(before)) is not None:
            at, stop = found
            free, self._held = self._held[:at], b""
            return free, stop
        keep = self._possible_start()
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return free, None

    def flush(self) -> bytes:
        """What was held back; the stream is over and it did not become a stop string."""
        free, self._held = self._held, b""
        return free

    def _find(self, after: int) -> tuple[int, bytes] | None:
        """(place, string) that ends first behind `after` bytes of the buffer; the longest of those that end there."""
        ends = []
        for stop in self._stops:
            at = self._held.find(stop, max(0, after - len(stop) + 1))
            if at >= 0:
                ends.append((at + len(stop), at, stop))
        if not ends:
            return None
        _, at, stop = min(ends)
        return at, stop

    def _possible_start(self) -> int:
        """Length of the longest end of the buffer that a stop string begins with, and goes on."""
        for length in range(min(len(self._held), self._longest - 1), 0, -1):
            end = self._held[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0


class TextStream:
    """Token bytes in, final text out. Bytes that are no UTF-8 are dropped, as llama-cpp-python does.

    `stop` is the stop string that ended the stream, `passed` the number of bytes that are final.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._matcher = StopMatcher([stop.encode() for stop in stops])
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self.stop: str | None = None
        self.passed = 0
        self._told = 0  # bytes of text

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self.stop is not None

    def push(self, piece: bytes, *, armed: bool = True) -> str:
        """Text that became final with `piece`. Unless `armed`, no stop string may end in it."""
        free, stop = self._matcher.push(piece, armed=armed)
        self.passed += len(free)
        if stop is not None:
            self.stop = stop.decode()
        return self._decoded(free, self.stopped)

    def finish(self) -> str:
        """The rest, at the end of the stream; the start of a character that never became whole is dropped."""
        free = self._matcher.flush()
        self.passed += len(free)
        return self._decoded(free, True)

    @property
    def dropped(self) -> int:
        """How many of the bytes that passed are no text."""
        return self.passed - self._told - len(self._decoder.getstate()[0])

    def _decoded(self, data: bytes, final: bool) -> str:
        text = self._decoder.decode(data, final)
        self._told += len(text.encode())
        return text


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
