//! The v2 hash tree (BEP 52): binary, leaves are the SHA-256 of 16 KiB blocks.

use crate::{
    backend::Backend,
    kernels::Block,
    layout::{BLOCK, PIECE},
    sha256::{Hash, leaves, nodes},
};

/// BEP 52 fills missing leaves with zero *hashes*, not with hashes of zero bytes.
const NO_LEAF: Hash = [0; 32];

/// Levels between a block and the piece layer.
const PIECE_LEVELS: u32 = (PIECE / BLOCK).trailing_zeros();

/// Two child hashes as the block that is hashed for their parent.
fn pair(left: &Hash, right: &Hash) -> Block {
    let mut block = [0; 64];
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    block
}

/// Climbs `levels` levels from `layer`; what is missing on the right counts as `pad`.
fn climb(backend: &Backend, mut layer: Vec<Hash>, mut pad: Hash, levels: u32) -> Hash {
    for _ in 0..levels {
        let mut pairs: Vec<Block> = layer.chunks(2).map(|c| pair(&c[0], c.get(1).unwrap_or(&pad))).collect();
        pairs.push(pair(&pad, &pad)); // the next level's pad, hashed beside the others
        layer = nodes(backend, &pairs);
        pad = layer.pop().unwrap_or(NO_LEAF);
    }
    layer.first().copied().unwrap_or(pad)
}

/// Levels of the smallest tree with `n` leaves.
fn levels_for(n: usize) -> u32 {
    n.next_power_of_two().trailing_zeros()
}

/// The piece-layer hash of a piece from its leaves.
///
/// `only` means that the file is no larger than one piece: its tree is then only as high as its
/// blocks need, and the result is the file's root.
pub(crate) fn piece_root(backend: &Backend, leaves: Vec<Hash>, only: bool) -> Hash {
    let levels = if only { levels_for(leaves.len()) } else { PIECE_LEVELS };
    climb(backend, leaves, NO_LEAF, levels)
}

/// The piece-layer hash of `data`, a piece of a file of `length` bytes.
pub(crate) fn root_of(backend: &Backend, data: &[u8], length: u64) -> Hash {
    piece_root(backend, leaves(backend, &[data]).concat(), length <= PIECE)
}

/// The pieces root of a file from its piece layer (two hashes or more).
fn file_root(backend: &Backend, layer: Vec<Hash>) -> Hash {
    let pad = climb(backend, Vec::new(), NO_LEAF, PIECE_LEVELS);
    let levels = levels_for(layer.len());
    climb(backend, layer, pad, levels)
}

/// Pieces root and piece layer as BEP 52 writes them, from the roots of all pieces.
///
/// An empty file has no root (zeros here); a file of one piece is its own root and has no layer.
pub(crate) fn root_and_layer(backend: &Backend, roots: Vec<Hash>) -> (Hash, Vec<u8>) {
    match roots.as_slice() {
        [] => (NO_LEAF, Vec::new()),
        [only] => (*only, Vec::new()),
        several => {
            let layer = several.concat();
            (file_root(backend, roots), layer)
        }
    }
}
