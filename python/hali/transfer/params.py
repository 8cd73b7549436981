"""What libtorrent is told when a torrent is added."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import libtorrent as lt

from hali.model.errors import ProtocolError
from hali.transfer.bundle import names_of
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import Metainfo
from hali.transfer.options import SessionOptions

_FLAGS = lt.torrent_flags
# Paused until its listener is registered: an alert that comes earlier would be lost.
_COMMON: int = _FLAGS.paused | _FLAGS.update_subscribe | _FLAGS.duplicate_is_error


def for_seed(metainfo: Metainfo, directory: Path, options: SessionOptions) -> lt.add_torrent_params:
    """Seed finished files: no read now, each piece hashed when first asked for. Upload mode: a model is never written to."""
    params = _loaded(metainfo)
    _side_by_side(params, metainfo)
    return _finish(params, directory, options, _FLAGS.seed_mode | _FLAGS.upload_mode)


def for_partial_seed(
    metainfo: Metainfo, directory: Path, options: SessionOptions, have: Collection[int]
) -> lt.add_torrent_params:
    """Serve the pieces in `have` of an unfinished file, and ask for none. They were checked by their owner, so nothing is read now."""
    params = _loaded(metainfo)
    params.have_pieces = [i in have for i in range(metainfo.pieces)]
    params.piece_priorities = [4 if i in have else 0 for i in range(metainfo.pieces)]  # 4 is the default, 0 not wanted
    _side_by_side(params, metainfo)
    return _finish(params, directory, options, _FLAGS.no_verify_files | _FLAGS.upload_mode)


def for_fetch(
    source: Metainfo | Magnet, directory: Path, options: SessionOptions, *, have: Collection[int] = ()
) -> lt.add_torrent_params:
    """Fetch what is not in `have`; those pieces are neither read nor fetched. The session's IP filter applies to fetches only."""
    # The journal is the truth about the file, so libtorrent must not look at it: it would hash a sparse file from end to end.
    flags: int = _FLAGS.no_verify_files | _FLAGS.apply_ip_filter
    if isinstance(source, Magnet):
        flags |= _FLAGS.upload_mode  # asks for metadata, but for no piece before its name and form were checked
        params = _of_magnet(source)
    else:
        params = _loaded(source)
        params.have_pieces = [i in have for i in range(source.pieces)]
        _side_by_side(params, source)
    return _finish(params, directory, options, flags)


def _loaded(metainfo: Metainfo) -> lt.add_torrent_params:
    try:
        return lt.load_torrent_buffer(metainfo.raw)
    except RuntimeError as exc:
        raise ProtocolError(f"libtorrent does not take the torrent {metainfo.name!r}: {exc}") from None


def _side_by_side(params: lt.add_torrent_params, metainfo: Metainfo) -> None:
    """All files in the folder itself, under exactly their names: libtorrent shortens long ones, and makes a folder of several files."""
    loaded: Any = params.ti
    layout = loaded.layout()
    there = [i for i in range(layout.num_files()) if not layout.file_flags(i) & layout.flag_pad_file]
    if [layout.file_size(i) for i in there] != [file.length for file in metainfo.files]:
        raise ProtocolError(f"libtorrent sees other files in {metainfo.name!r} than its metadata names")
    params.renamed_files = dict(zip(there, names_of(metainfo), strict=True))


def _of_magnet(magnet: Magnet) -> lt.add_torrent_params:
    params = lt.add_torrent_params()
    v1, v2 = magnet.infohashes.v1, magnet.infohashes.v2
    sha1 = lt.sha1_hash(bytes.fromhex(v1)) if v1 else None
    sha256 = lt.sha256_hash(bytes.fromhex(v2)) if v2 else None
    params.info_hashes = lt.info_hash_t(*(h for h in (sha1, sha256) if h is not None))
    params.name = magnet.name or ""
    return params


def _finish(
    params: lt.add_torrent_params, directory: Path, options: SessionOptions, flags: int
) -> lt.add_torrent_params:
    flags |= _COMMON
    if not options.pex:
        flags |= _FLAGS.disable_pex
    if not options.dht:
        flags |= _FLAGS.disable_dht
    params.save_path = str(directory)
    params.flags = flags
    params.storage_mode = lt.storage_mode_t.storage_mode_sparse
    # Web seeds are sources of our own (share/range_lane.py): libtorrent bans one for the wrong blocks of peers.
    params.url_seeds, params.http_seeds = [], []
    params.trackers = []  # hali asks no trackers: they would learn who has what
    params.dht_nodes = []
    return params
