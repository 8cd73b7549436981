"""L1: every setting declared once, loaded from defaults, file, environment and flags; paths; crash-safe files; the node's identity."""
