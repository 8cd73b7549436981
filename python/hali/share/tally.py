"""What came to this node since its daemon began, told piece by piece by the pulls."""

from __future__ import annotations

from collections import Counter

from hali.model.sources import PieceSource, mix


class Tally:
    """Bytes by source (the words of `model.sources.mix`) and pieces by verdict. Of the event loop's thread."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.verified = self.failed = 0

    def came(self, size: int, source: PieceSource) -> None:
        """A piece was checked and is on record."""
        self.verified += 1
        self.bytes.update(mix([(size, source)]))

    def wrong(self) -> None:
        """A piece is not what its hash promises; it is fetched again or given up."""
        self.failed += 1
