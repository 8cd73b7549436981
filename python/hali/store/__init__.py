"""L3: models on disk with their metadata, the journal of unfinished ones, and the node's SQLite database."""
