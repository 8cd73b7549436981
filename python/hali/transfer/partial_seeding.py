"""One unfinished file whose finished pieces are served: a normal peer that wants nothing more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import libtorrent as lt

from hali.transfer import alerts, params
from hali.transfer.metainfo import Metainfo
from hali.transfer.options import SessionOptions
from hali.transfer.seeding import Seed


class PartialSeed(Seed):
    """`have`: the pieces that are right, by whoever checked them; libtorrent serves these and neither reads nor fetches others."""

    def __init__(
        self, metainfo: Metainfo, directory: Path, on_damage: Callable[[Seed, str], None], have: Collection[int]
    ) -> None:
        super().__init__(metainfo, directory, on_damage)
        self.have = frozenset(have)

    def params(self, options: SessionOptions) -> lt.add_torrent_params:
        """What libtorrent is told."""
        return params.for_partial_seed(self.metainfo, self.directory, options, self.have)

    def on_alert(self, alert: alerts.Alert) -> None:
        """What libtorrent says of it. `finished` is its word for: all that is wanted is there."""
        match alert:
            case alerts.StateChanged(state="finished"):
                self.ready.set()
            case alerts.StateChanged(state="seeding"):
                self.ready.set()  # the pieces of the part happen to be all
            case _:
                super().on_alert(alert)
