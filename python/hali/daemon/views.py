"""What IPC answers say about models, jobs, peers: the shapes that the CLI and tests rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hali.model.units import piece_count

if TYPE_CHECKING:  # `hali list` without a daemon uses this module: it shall load neither engines nor transfers
    from hali.engine.pool import EngineStatus
    from hali.model.digests import FileDigests
    from hali.share.job import Job
    from hali.share.library import Entry


def verified(entry: Entry, digests: FileDigests) -> dict[str, Any]:
    """The answer of a verification that found nothing wrong."""
    return {
        "model_id": entry.record.meta.model_id,
        "sha256": digests.sha256.hex(),
        "size": digests.length,
        "pieces": piece_count(digests.length),
        "verified": True,
    }


def describe_job(job: Job) -> dict[str, Any]:
    """A job and how far it is."""
    progress = job.progress
    return {
        "id": job.spec.id,
        "kind": job.spec.kind,
        "what": job.spec.what,
        "state": progress.state,
        "name": progress.name,
        "done": progress.done,
        "total": progress.total,
        "rate": progress.rate,
        "peers": progress.peers,
        "sources": progress.sources,
    }


def describe_engine(status: EngineStatus) -> dict[str, Any]:
    """A model in memory, for `hali ps`."""
    info, stats = status.info, status.stats
    return {
        "model_id": status.model_id.partition("@")[0],  # engines are named id@sha256, see ServedModel.engine_name
        "state": status.state,
        "pid": info.pid if info is not None else None,
        "n_ctx": info.n_ctx if info is not None else None,
        "memory_bytes": stats.rss_bytes,
        "active": status.active,
        "idle_s": status.idle_s,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
    }
