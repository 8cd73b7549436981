"""L4: who holds which layers. Empty until the mesh is built (mesh.md)."""
