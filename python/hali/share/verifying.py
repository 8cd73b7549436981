"""What a second reading of a model means: nothing, or which pieces of which file are wrong. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hali.model.digests import FileDigests
from hali.model.errors import VerificationFailed
from hali.model.units import piece_count
from hali.share.torrents import wrong_pieces
from hali.store.models import Record, StoredFile
from hali.transfer import metainfo
from hali.transfer.metainfo import Metainfo
from hali.transfer.torrent_files import TorrentFile


def judge(record: Record, digests: Sequence[FileDigests], torrent: bytes | None) -> None:
    """VerificationFailed when a file, in the order of `meta.files`, is not what its SHA-256 says; `torrent` is ours of the model."""
    promised = _promised(metainfo.parse(torrent)) if torrent is not None else {}
    pairs = zip(record.meta.each, digests, strict=True)
    found = [_damage(file, have, promised.get(file.name)) for file, have in pairs if have.sha256.hex() != file.sha256]
    if not found:
        return
    if len(record.meta.files) == 1:
        what = f"{_told(found[0])}: {record.path}"
    else:
        what = f": {'; '.join(damage['file'] + _told(damage) for damage in found)}: {record.directory}"
    raise VerificationFailed(
        f"{record.meta.model_id} is damaged{what}",
        hint="pull or add it again",
        details={"files": found} | {key: found[0][key] for key in ("pieces", "sha256", "expected_sha256")},
    )


def _promised(torrent: Metainfo) -> dict[str, TorrentFile]:
    return {file.path[-1]: file for file in torrent.files}


def _damage(file: StoredFile, have: FileDigests, promised: TorrentFile | None) -> dict[str, Any]:
    return {
        "file": file.name,
        "pieces": wrong_pieces(have, promised) if promised is not None else [],
        "of": piece_count(max(have.length, file.size)),
        "size": have.length,
        "expected_size": file.size,
        "sha256": have.sha256.hex(),
        "expected_sha256": file.sha256,
    }


def _told(damage: dict[str, Any]) -> str:
    wrong, size, expected = damage["pieces"], damage["size"], damage["expected_size"]
    where = f", wrong {'piece' if len(wrong) == 1 else 'pieces'} {_ranges(wrong)} of {damage['of']}" if wrong else ""
    return where + ("" if size == expected else f", {size} bytes instead of {expected}")


def _ranges(indices: Sequence[int]) -> str:
    shown = ", ".join(str(i) for i in indices[:8])  # more would not fit a line
    return f"{shown} and {len(indices) - 8} more" if len(indices) > 8 else shown
