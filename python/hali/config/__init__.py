"""L1: every setting declared once, loaded from defaults, file, environment and flags; paths; files that survive a crash; the node's identity."""
