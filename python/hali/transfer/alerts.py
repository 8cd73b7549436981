"""libtorrent's alerts as plain values that outlive them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import libtorrent as lt
import msgspec

from hali.model.ids import InfoHashes
from hali.runtime.log import get_logger

log = get_logger(__name__)

INCONSISTENT_HASHES = 217  # libtorrent's errors.torrent_inconsistent_hashes, which the binding does not name
DUPLICATE_TORRENT = 19  # errors.duplicate_torrent
PEER_BANNED = 91  # errors.peer_banned
NO_SPACE = 28  # ENOSPC


class Listening(msgspec.Struct, frozen=True):
    """A TCP socket listens."""

    address: str
    port: int


class ListenFailed(msgspec.Struct, frozen=True):
    """A TCP socket could not listen."""

    address: str
    port: int
    error: str


class StateChanged(msgspec.Struct, frozen=True):
    """A torrent went to another state (`lt.torrent_status.states` by name)."""

    state: str


class Checked(msgspec.Struct, frozen=True):
    """libtorrent is through with checking the files and starts to work."""


class MetadataArrived(msgspec.Struct, frozen=True):
    """The info dictionary of a magnet, bencoded, and the path libtorrent will write its first file to."""

    info: bytes
    file: str


class PieceFinished(msgspec.Struct, frozen=True):
    """The hash is right; the bytes may still be on their way to the file."""

    index: int


class HashFailed(msgspec.Struct, frozen=True):
    """A piece was wrong."""

    index: int


class BlocksSent(msgspec.Struct, frozen=True):
    """A peer delivered blocks of a piece."""

    piece: int
    host: str
    blocks: int


class CacheFlushed(msgspec.Struct, frozen=True):
    """All writes that were queued when the flush was asked for are in the file."""


class PeerConnected(msgspec.Struct, frozen=True):
    """A connection exists, in either direction."""

    host: str
    port: int


class PeerGone(msgspec.Struct, frozen=True):
    """A connection is no more. `caught`: libtorrent compared a block of it with the right one, or had banned the peer before."""

    host: str
    caught: bool
    peer_id: bytes = b""  # zeros from who did not come to say it


class Banned(msgspec.Struct, frozen=True):
    """libtorrent will not talk to this peer again: it sent a bad piece alone, or touched four. Never said of those it caught."""

    host: str
    port: int


class FileError(msgspec.Struct, frozen=True):
    """Reading or writing failed; the torrent is stuck."""

    reason: str
    no_space: bool


class Contradiction(msgspec.Struct, frozen=True):
    """libtorrent stopped a hybrid torrent: a piece fails its v1 hash and passes its v2 hashes, or the other way round."""

    reason: str


class Conflict(msgspec.Struct, frozen=True):
    """The metadata of a magnet say that it is another torrent of this session, which was added by its other hash; both are stopped."""

    other: lt.torrent_handle


class ResumeData(msgspec.Struct, frozen=True):
    """The `.torrent` with all piece layers, or None when libtorrent has not got them all."""

    metainfo: bytes | None


class Snapshot(msgspec.Struct, frozen=True):
    """Numbers of one torrent; `have` only when pieces were asked for."""

    state: str
    paused: bool
    error: str | None
    progress: float
    done: int
    peers: int
    seeds: int
    down_rate: int
    up_rate: int
    downloaded: int
    uploaded: int
    have: tuple[int, ...] | None = None


class Snapshots(msgspec.Struct, frozen=True):
    """Every torrent whose numbers changed since the last time."""

    by_handle: Sequence[tuple[lt.torrent_handle, Snapshot]]


class SessionStats(msgspec.Struct, frozen=True):
    """Counters of the whole session."""

    received: int  # payload
    sent: int
    peers: int
    all_received: int = 0  # with protocol and TCP/IP overhead
    all_sent: int = 0
    cached: int = 0  # blocks that are to be written or hashed


class Removed(msgspec.Struct, frozen=True):
    """A torrent is out of the session."""

    infohashes: InfoHashes


class Dropped(msgspec.Struct, frozen=True):
    """Alerts were lost: what they said must be asked for."""


Alert = Any  # one of the structs above
Handled = tuple["lt.torrent_handle | None", Alert]


def infohashes_of(hashes: lt.info_hash_t) -> InfoHashes:
    """libtorrent's pair as ours."""
    return InfoHashes(str(hashes.v1) if hashes.has_v1() else None, str(hashes.v2) if hashes.has_v2() else None)


def snapshot(status: lt.torrent_status) -> Snapshot:
    """A torrent's status as a plain value."""
    failed = status.errc
    return Snapshot(
        state=str(status.state),
        paused=bool(status.flags & lt.torrent_flags.paused),
        error=failed.message() if failed.value() else None,
        progress=status.progress_ppm / 1e6,
        done=status.total_done,
        peers=status.num_peers,
        seeds=status.num_seeds,
        down_rate=status.download_payload_rate,
        up_rate=status.upload_payload_rate,
        downloaded=status.total_payload_download,
        uploaded=status.total_payload_upload,
        have=tuple(i for i, there in enumerate(status.pieces) if there) or None,
    )


def _metadata(alert: lt.metadata_received_alert) -> MetadataArrived | None:
    info = alert.handle.torrent_file()
    if info is None:  # removed meanwhile
        return None
    return MetadataArrived(bytes(info.info_section()), info.layout().file_path(0))


def _resume_data(alert: lt.save_resume_data_alert) -> ResumeData:
    try:
        torrent: Any = lt.write_torrent_file(alert.params)
        return ResumeData(bytes(lt.bencode(torrent)))
    except RuntimeError:  # "a piece layer is invalid": libtorrent does not have them all
        return ResumeData(None)


def _listening(alert: lt.listen_succeeded_alert) -> Listening | None:
    is_tcp = alert.socket_type == lt.socket_type_t.tcp
    return Listening(str(alert.address), alert.port) if is_tcp else None


def _listen_failed(alert: lt.listen_failed_alert) -> ListenFailed | None:
    is_tcp = alert.socket_type == lt.socket_type_t.tcp
    return ListenFailed(str(alert.address), alert.port, alert.error.message()) if is_tcp else None


def _session_stats(values: Mapping[str, int]) -> SessionStats:
    return SessionStats(
        values["net.recv_payload_bytes"],
        values["net.sent_payload_bytes"],
        values["peer.num_peers_connected"],
        values["net.recv_bytes"] + values["net.recv_ip_overhead_bytes"],
        values["net.sent_bytes"] + values["net.sent_ip_overhead_bytes"],
        values["disk.cached_blocks"],
    )


def _peer_gone(alert: lt.peer_disconnected_alert) -> PeerGone:
    error = alert.error
    caught = error.category().name() == "libtorrent" and error.value() == PEER_BANNED
    return PeerGone(alert.endpoint[0], caught, alert.pid.to_bytes())


def _torrent_error(alert: Any) -> FileError | Contradiction | None:
    error = alert.error
    if (error.category().name(), error.value()) == ("libtorrent", INCONSISTENT_HASHES):
        return Contradiction(error.message())
    if (error.category().name(), error.value()) == ("libtorrent", DUPLICATE_TORRENT):
        return None  # of two magnets, which the conflict's own alert tells apart
    return _file_error(alert)


def _file_error(alert: Any) -> FileError:
    return FileError(alert.message(), alert.error.value() == NO_SPACE)


_TRANSLATE: dict[type[lt.alert], Callable[[Any], Alert | None]] = {
    lt.listen_succeeded_alert: _listening,
    lt.listen_failed_alert: _listen_failed,
    lt.state_changed_alert: lambda a: StateChanged(str(a.state)),
    lt.torrent_checked_alert: lambda _: Checked(),
    lt.metadata_received_alert: _metadata,
    lt.piece_finished_alert: lambda a: PieceFinished(a.piece_index),
    lt.hash_failed_alert: lambda a: HashFailed(a.piece_index),
    lt.block_finished_alert: lambda a: BlocksSent(a.piece_index, a.endpoint[0], 1),
    lt.cache_flushed_alert: lambda _: CacheFlushed(),
    lt.peer_connect_alert: lambda a: PeerConnected(*a.endpoint),
    lt.peer_disconnected_alert: _peer_gone,
    lt.peer_ban_alert: lambda a: Banned(*a.endpoint),
    lt.file_error_alert: _file_error,
    lt.torrent_error_alert: _torrent_error,
    lt.torrent_conflict_alert: lambda a: Conflict(a.conflicting_torrent),
    lt.save_resume_data_alert: _resume_data,
    lt.save_resume_data_failed_alert: lambda _: ResumeData(None),
    lt.state_update_alert: lambda a: Snapshots([(s.handle, snapshot(s)) for s in a.status]),
    lt.session_stats_alert: lambda a: _session_stats(a.values),
    lt.torrent_removed_alert: lambda a: Removed(infohashes_of(a.info_hashes)),
    lt.alerts_dropped_alert: lambda _: Dropped(),
}


def translate(alert: lt.alert) -> Handled | None:
    """The alert as (torrent, value), or None when nobody needs it."""
    handler = _TRANSLATE.get(type(alert))
    value = handler(alert) if handler is not None else None
    if value is None:
        return None
    return getattr(alert, "handle", None), value
