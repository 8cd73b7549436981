"""libtorrent's numbers of a torrent in the words of the project."""

from __future__ import annotations

from hali.model.ids import InfoHashes
from hali.transfer.alerts import Snapshot
from hali.transfer.events import TorrentStatus

_STATES = {
    "downloading_metadata": "metadata",
    "finished": "seeding",
    "checking_resume_data": "checking",
    "checking_files": "checking",
}


def as_status(infohashes: InfoHashes, name: str, snapshot: Snapshot | None) -> TorrentStatus:
    """A snapshot in the words of the project."""
    if snapshot is None:
        return TorrentStatus(infohashes, name, "checking", 0.0, 0, 0, 0.0, 0.0, 0, 0)
    state = "error" if snapshot.error else "paused" if snapshot.paused else _STATES.get(snapshot.state, snapshot.state)
    return TorrentStatus(
        infohashes=infohashes,
        name=name,
        state=state,
        progress=snapshot.progress,
        peers=snapshot.peers,
        seeds=snapshot.seeds,
        down_rate=float(snapshot.down_rate),
        up_rate=float(snapshot.up_rate),
        downloaded=snapshot.downloaded,
        uploaded=snapshot.uploaded,
    )
