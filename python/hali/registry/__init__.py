"""L5: signed manifests and search. Empty until the registry is built (sharing.md, Registry)."""
