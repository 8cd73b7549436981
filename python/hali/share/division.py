"""Who fetches which piece, when HTTP ranges and a torrent swarm feed one file. Pure: `download.py` measures and carries out.

Both go from the front to the end, HTTP a few pieces ahead of what the swarm has begun: so the file's SHA-256, which must follow
the bytes in order, keeps up with them. HTTP takes as many at once as its share of the speed is worth, so that neither waits for
the other at the end; what still comes out unequal is fetched twice, and whoever is first wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from hali.model.units import PIECE

AT_ONCE = 4  # pieces in flight: what a crash may lose (two connections of HTTP bring one piece)
AHEAD = 2  # pieces that a swarm may begin between the look at it and the word that HTTP has them
UNKNOWN_SHARE = 1 / 8  # of the pieces, while nobody knows yet who is faster
WORTH_IT = 1.5  # fetch a piece twice only when the other would need that much longer for it


class Speed(msgspec.Struct, frozen=True):
    """Measured bytes per second; None while unknown. `swarm` is 0.0 without peers that send."""

    http: float | None = None
    swarm: float | None = None

    @property
    def http_share(self) -> float:
        """The part of the missing pieces that HTTP should have in hand."""
        if self.swarm == 0.0:
            return 1.0
        if self.http is None or self.swarm is None:
            return UNKNOWN_SHARE
        return self.http / (self.http + self.swarm)


class Division:
    """The pieces of one file that are missing, and which of them HTTP has claimed."""

    def __init__(self, missing: Iterable[int]) -> None:
        self.missing = set(missing)
        self.claims: dict[int, float] = {}  # piece → when HTTP began it, monotonic seconds
        self.shared: set[int] = set()  # claims that the swarm fetches too

    def done(self, index: int) -> None:
        """The piece is on record."""
        self.missing.discard(index)
        self.release(index)

    def release(self, index: int) -> None:
        """HTTP does not fetch it any longer."""
        self.claims.pop(index, None)
        self.shared.discard(index)

    def claim(self, now: float, speed: Speed, partial: Collection[int]) -> int | None:
        """The piece HTTP should begin now, or None to wait. `partial`: pieces that the swarm has begun."""
        room = AT_ONCE - len(set(partial) - self.claims.keys())
        allowed = max(1, min(room, round(len(self.missing) * speed.http_share)))
        if len(self.claims) >= allowed:
            return None
        free = self.missing - self.claims.keys()
        if untouched := free - set(partial):
            ahead = max(partial, default=-AHEAD - 1) + AHEAD
            index = min((i for i in untouched if i > ahead), default=min(untouched))
        elif free and self._swarm_is_slower(len(free), speed):
            index = max(free)
            self.shared.add(index)
        else:
            return None
        self.claims[index] = now
        return index

    @staticmethod
    def _swarm_is_slower(pieces: int, speed: Speed) -> bool:
        """Whether HTTP would have one piece well before the swarm has all `pieces` that are left to it."""
        if not speed.swarm:
            return speed.swarm is not None
        return speed.http is not None and pieces / speed.swarm > WORTH_IT / speed.http

    def share_out(self, now: float, speed: Speed) -> list[int]:
        """Claims that the swarm, with nothing else to do, should fetch as well, because HTTP would take longer."""
        late = [i for i in self.claims if i not in self.shared]
        if not speed.swarm or len(self.claims) < len(self.missing) or not late:
            return []
        each = (speed.http or 0.0) / len(self.claims)
        found = [i for i in late if self._left(i, now, each) > WORTH_IT * len(late) * PIECE / speed.swarm]
        self.shared.update(found)
        return found

    def _left(self, index: int, now: float, rate: float) -> float:
        """Seconds that HTTP still needs for a claim, at `rate` bytes per second since it was made."""
        if not rate:
            return float("inf")
        return max(0.0, PIECE / rate - (now - self.claims[index]))
