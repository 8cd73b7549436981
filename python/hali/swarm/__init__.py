"""L3: the libp2p node. Empty until the mesh is built (mesh.md); the wall stands so that nothing else moves in."""
