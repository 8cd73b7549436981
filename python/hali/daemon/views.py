"""What IPC answers say about models, jobs, peers: the shapes that the CLI and tests rely on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from hali.model.errors import HaliError
from hali.model.splits import parts_beside
from hali.model.units import piece_count
from hali.wire.gguf import read_header_file

if TYPE_CHECKING:  # `hali list` without a daemon uses this module: it shall load neither engines nor transfers
    from hali.engine.entry import EngineStatus
    from hali.model.digests import FileDigests
    from hali.share.job import Job
    from hali.share.library import Entry, Library
    from hali.store.usage import Use
    from hali.transfer.lan import LanAnnouncer
    from hali.transfer.regulator import Allowance


def describe_model(library: Library, entry: Entry, use: Use) -> dict[str, Any]:
    """A model for `hali list --json` and `hali info`; null is unknown."""
    return library.describe(entry) | {
        "pinned": use.pinned,
        "last_used": use.last_used,
        "uploaded": use.uploaded,
        "ratio": round(use.uploaded / entry.record.meta.size, 3),
    }


def describe_header(entry: Entry) -> dict[str, Any] | None:
    """What the GGUF header says; None of a file that has none or cannot be read. Blocks, 80 ms for a large vocabulary."""
    try:
        header, *rest = [read_header_file(part) for part in parts_beside(entry.record.path)]
    except (HaliError, OSError):  # any file can be shared; what is wrong with it is in the state
        return None
    return {
        "architecture": header.architecture,
        "parameters": sum(part.parameters for part in (header, *rest)),
        "layers": header.block_count,
        "context": header.context_length,
        "embedding": header.embedding_length,
        "quantization": header.quantization,
        "license": header.license,
        "chat_template": header.has_chat_template,
    }


def verified(entry: Entry, digests: Sequence[FileDigests]) -> dict[str, Any]:
    """The answer of a verification that found nothing wrong; `digests` of all files."""
    return {
        "model_id": entry.record.meta.model_id,
        "sha256": entry.record.meta.sha256,
        "size": sum(each.length for each in digests),
        "pieces": sum(piece_count(each.length) for each in digests),
        "verified": True,
    }


def freed_by(entry: Entry) -> int:
    """Bytes that the disk has again when the model is deleted: not those of files that have another name, or are gone."""
    return entry.record.own_bytes


def describe_allowance(allowance: Allowance) -> dict[str, Any]:
    """What transfers may do now; caps in megabits per second, 0 = none; `paused_until` in local time."""
    until = datetime.fromtimestamp(allowance.until).astimezone() if allowance.until is not None else None
    return {
        "paused": allowance.paused,
        "paused_until": until.isoformat(timespec="seconds") if until is not None else None,
        "paused_by": allowance.by,
        "download_cap_mbps": allowance.caps.download_mbps,
        "upload_cap_mbps": allowance.caps.upload_mbps,
    }


def describe_traffic(lan: LanAnnouncer | None) -> dict[str, Any] | None:
    """Packets of the LAN service, drops by reason and what is remembered; None while it does not run."""
    found: dict[str, Any] | None = None if lan is None else msgspec.to_builtins(lan.traffic)
    return found


def describe_job(job: Job, position: int | None = None) -> dict[str, Any]:
    """A job, how far it is, and its position in the queue if it waits there, from 1."""
    progress = job.progress
    return {
        "id": job.spec.id,
        "kind": job.spec.kind,
        "what": job.spec.what,
        "priority": job.priority,
        "position": position,
        "state": progress.state,
        "name": progress.name,
        "done": progress.done,
        "total": progress.total,
        "rate": progress.rate,
        "peers": progress.peers,
        "sources": progress.sources,
        "waits_s": progress.waits_s,
    }


def describe_engine(status: EngineStatus) -> dict[str, Any]:
    """A model in memory, for `hali ps`."""
    info, stats = status.info, status.stats
    return {
        "model_id": status.model_id.partition("@")[0],  # engines are named id@sha256, see ServedModel.engine_name
        "state": status.state,
        "pid": info.pid if info is not None else None,
        "sha256_prefix": status.model_id.partition("@")[2],
        "n_ctx": info.n_ctx if info is not None else None,
        "gpu_layers": info.gpu_layers if info is not None else None,
        "draft": info.draft if info is not None else None,
        "kv_used": stats.kv_used,
        "kv_total": stats.kv_total,
        "memory_bytes": stats.rss_bytes,
        "reserved_bytes": status.reserved_bytes,
        "active": status.active,
        "tokens_per_s": stats.tokens_per_s,
        "idle_s": status.idle_s,
        "expires_in_s": status.expires_in_s,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
    }
