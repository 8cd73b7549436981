"""What this node is fetching from others of the LAN: it serves what it has of it already, and says so, to those who fetch the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from hali.share.base import Offer


class Underway:
    """Lives in the daemon's event loop. `announce` is called after each change."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._offers: dict[object, Offer] = {}

    def offers(self, besides: Collection[str]) -> list[Offer]:
        """All of them, under the names and hashes by which others offer them; without those of these v2 infohashes."""
        return [offer for offer in self._offers.values() if offer.infohashes.v2 not in besides]

    @contextmanager
    def place(self) -> Iterator[Callable[[Offer], None]]:
        """For one fetch: call the function with what others offer, once or several times; inside, it is announced."""
        key = object()

        def tell(offer: Offer) -> None:
            if self._offers.get(key) is None:
                self._offers[key] = offer
                self._announce()

        try:
            yield tell
        finally:
            if self._offers.pop(key, None) is not None:
                self._announce()
