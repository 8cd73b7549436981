"""Taking a model away: out of memory, off the disk, out of the records of use."""

from __future__ import annotations

import anyio.to_thread

from hali.daemon.catalog import served
from hali.engine.pool import EnginePool
from hali.model.errors import NotFound
from hali.share.library import Entry, Library
from hali.store.usage import Usage


async def unload(engines: EnginePool, entry: Entry) -> bool:
    """Stop the engine of a model; False when it was not loaded."""
    try:
        await engines.stop(served(entry).engine_name)
    except NotFound:
        return False
    return True


async def remove(library: Library, engines: EnginePool, usage: Usage, entry: Entry) -> None:
    """Delete a model and forget it."""
    await unload(engines, entry)
    await library.remove(entry)
    await anyio.to_thread.run_sync(usage.forget, entry.record.meta.sha256)
