"""L4: the use cases of sharing: acquire, seed, verify, remove."""
