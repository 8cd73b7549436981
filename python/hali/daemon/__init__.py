"""L6: the composition root, the IPC that the CLI speaks, start-up and shutdown."""
