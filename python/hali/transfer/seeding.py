"""One finished model being served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import libtorrent as lt

from hali.model.errors import NotFound, VerificationFailed
from hali.model.ids import InfoHashes
from hali.runtime.log import get_logger
from hali.transfer import alerts, params
from hali.transfer.bundle import names_of
from hali.transfer.metainfo import Metainfo
from hali.transfer.options import SessionOptions

log = get_logger(__name__)


class Seed:
    """A torrent in seed mode. `ready` is set once libtorrent serves it, or gave it up: then `damaged` says why.

    `answered` is set once libtorrent has taken it or refused it.
    """

    def __init__(self, metainfo: Metainfo, directory: Path, on_damage: Callable[[Seed, str], None]) -> None:
        self.metainfo, self.directory = metainfo, directory
        self.handle: Any = None  # lt.torrent_handle, once added
        self.answered, self.ready = anyio.Event(), anyio.Event()
        self.damaged: str | None = None
        self.snapshot: alerts.Snapshot | None = None
        self._on_damage = on_damage

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent."""
        return self.metainfo.infohashes

    def params(self, options: SessionOptions) -> lt.add_torrent_params:
        """What libtorrent is told."""
        return params.for_seed(self.metainfo, self.directory, options)

    def on_alert(self, alert: alerts.Alert) -> None:
        """What libtorrent says of it."""
        match alert:
            case alerts.Snapshot():
                self.snapshot = alert
            case alerts.StateChanged(state="seeding"):
                self.ready.set()
            case alerts.StateChanged(state="checking_files" | "downloading"):
                self._damage("the file is not what it was")
            case alerts.FileError(reason=reason) | alerts.Contradiction(reason=reason):
                self._damage(reason)

    def _damage(self, reason: str) -> None:
        """libtorrent gave up seed mode: never serve, and never let it read all of the file by itself."""
        if self.damaged is not None:
            return
        self.damaged = reason
        if self.handle is not None:
            self.handle.pause()
        log.error("seed.damaged", torrent=self.metainfo.name, reason=reason)
        if self.ready.is_set():
            self._on_damage(self, reason)
        self.ready.set()


def check_files(metainfo: Metainfo, directory: Path) -> None:
    """Look whether all files are there, whole; NotFound, VerificationFailed, Refused (see `names_of`). Reads none of them."""
    for name, file in zip(names_of(metainfo), metainfo.files, strict=True):
        path = directory / name
        try:
            size = path.stat().st_size
        except OSError as exc:
            raise NotFound(f"cannot seed {path}: {exc.strerror}") from None
        if size != file.length:
            raise VerificationFailed(f"cannot seed {path}: {size} bytes, the torrent says {file.length}")
