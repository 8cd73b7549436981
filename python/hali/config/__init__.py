"""L1: every setting declared once, loaded from defaults, file, environment and flags; paths; the node's identity."""
