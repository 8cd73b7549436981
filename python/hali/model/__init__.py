"""L0: the words of hali. Frozen values and pure functions; no I/O, no asyncio."""
