"""libtorrent's alerts as plain values, on the event loop: a thread sleeps on a pipe until libtorrent writes to it.

An alert is only valid until the next `pop_alerts`, so it is translated in that thread before anything else happens.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import libtorrent as lt
import msgspec

from hali.model.ids import InfoHashes
from hali.runtime.log import get_logger

log = get_logger(__name__)

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


class Banned(msgspec.Struct, frozen=True):
    """libtorrent will not talk to this peer again."""

    host: str
    port: int


class FileError(msgspec.Struct, frozen=True):
    """Reading or writing failed; the torrent is stuck."""

    reason: str
    no_space: bool


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

    received: int
    sent: int
    peers: int


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
    lt.peer_ban_alert: lambda a: Banned(*a.endpoint),
    lt.file_error_alert: _file_error,
    lt.torrent_error_alert: _file_error,
    lt.save_resume_data_alert: _resume_data,
    lt.save_resume_data_failed_alert: lambda _: ResumeData(None),
    lt.state_update_alert: lambda a: Snapshots([(s.handle, snapshot(s)) for s in a.status]),
    lt.session_stats_alert: lambda a: SessionStats(
        a.values["net.recv_payload_bytes"], a.values["net.sent_payload_bytes"], a.values["peer.num_peers_connected"]
    ),
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


def _blocks_joined(batch: list[Handled]) -> list[Handled]:
    """Neighbouring blocks of one piece from one peer as one value: there are 1,000 to a piece."""
    joined: list[Handled] = []
    for handle, value in batch:
        before: Handled = joined[-1] if joined else (None, None)
        if _same_sender(before, (handle, value)):
            joined[-1] = (handle, BlocksSent(value.piece, value.host, before[1].blocks + value.blocks))
        else:
            joined.append((handle, value))
    return joined


def _same_sender(one: Handled, other: Handled) -> bool:
    (first, a), (second, b) = one, other
    both = isinstance(a, BlocksSent) and isinstance(b, BlocksSent)
    return both and (a.piece, a.host) == (b.piece, b.host) and bool(first == second)


class AlertPump:
    """Delivers batches of translated alerts to `deliver` on the running event loop until closed."""

    def __init__(self, session: lt.session, deliver: Callable[[list[Handled]], None]) -> None:
        self._session: lt.session | None = session
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # libtorrent's network thread writes; a full pipe wakes us just as well
        self._closing = False
        session.set_alert_fd(self._write)
        self._thread = threading.Thread(target=self._run, name="hali-torrent-alerts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        session = self._session
        while session is not None:
            os.read(self._read, 4096)
            if self._closing:
                return
            batch = [handled for alert in session.pop_alerts() if (handled := self._translated(alert)) is not None]
            if batch:
                self._loop.call_soon_threadsafe(self._deliver, _blocks_joined(batch))

    def _translated(self, alert: lt.alert) -> Handled | None:
        try:
            return translate(alert)
        except (RuntimeError, ValueError, UnicodeDecodeError) as exc:
            # A handle that died between alert and now, or text that is no UTF-8: the torrent is gone or the words are lost.
            log.warning("torrent.alert_lost", alert=alert.what(), error=str(exc))
            return None

    def stop(self) -> None:
        """End the thread and let go of the session; nothing is delivered after this. Blocks for a moment."""
        self._closing = True
        os.write(self._write, b"x")
        self._thread.join()
        self._session = None

    def release(self) -> None:
        """Close the pipe. Only once the session is destroyed: libtorrent would write into whatever file gets its number."""
        os.close(self._read)
        os.close(self._write)
