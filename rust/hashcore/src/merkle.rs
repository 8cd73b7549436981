//! The v2 hash tree (BEP 52): binary, leaves are the SHA-256 of 16 KiB blocks.

use std::sync::OnceLock;

use crate::{
    layout::{BLOCK, PIECE},
    sha256::{Hash, node},
};

/// BEP 52 fills missing leaves with zero *hashes*, not with hashes of zero bytes.
const NO_LEAF: Hash = [0; 32];

/// Levels between a block and the piece layer.
const PIECE_LEVELS: u32 = (PIECE / BLOCK).trailing_zeros();

/// Climbs `levels` levels from `layer`; what is missing on the right counts as `pad`. In place.
fn climb(layer: &mut Vec<Hash>, mut pad: Hash, levels: u32) -> Hash {
    for _ in 0..levels {
        if layer.len() % 2 == 1 {
            layer.push(pad);
        }
        for i in 0..layer.len() / 2 {
            layer[i] = node(&layer[2 * i], &layer[2 * i + 1]);
        }
        layer.truncate(layer.len() / 2);
        pad = node(&pad, &pad);
    }
    layer.first().copied().unwrap_or(pad)
}

/// Levels of the smallest tree with `n` leaves.
fn levels_for(n: usize) -> u32 {
    n.next_power_of_two().trailing_zeros()
}

/// The piece-layer hash of a piece from its leaves (consumed).
///
/// `only` means that the file is no larger than one piece: its tree is then only as high as its
/// blocks need, and the result is the file's root.
pub(crate) fn piece_root(mut leaves: Vec<Hash>, only: bool) -> Hash {
    let levels = if only { levels_for(leaves.len()) } else { PIECE_LEVELS };
    climb(&mut leaves, NO_LEAF, levels)
}

/// The pieces root of a file from its piece layer (two hashes or more).
fn file_root(mut layer: Vec<Hash>) -> Hash {
    static EMPTY_PIECE: OnceLock<Hash> = OnceLock::new();
    let pad = *EMPTY_PIECE.get_or_init(|| climb(&mut Vec::new(), NO_LEAF, PIECE_LEVELS));
    let levels = levels_for(layer.len());
    climb(&mut layer, pad, levels)
}

/// Pieces root and piece layer as BEP 52 writes them, from the roots of all pieces.
///
/// An empty file has no root (zeros here); a file of one piece is its own root and has no layer.
pub(crate) fn root_and_layer(roots: Vec<Hash>) -> (Hash, Vec<u8>) {
    match roots.as_slice() {
        [] => (NO_LEAF, Vec::new()),
        [only] => (*only, Vec::new()),
        several => {
            let layer = several.concat();
            (file_root(roots), layer)
        }
    }
}
