//! Digests of a piece and of a file; a piece is hashed while its bytes are in the cache.

use blake3::hazmat::HasherExt;

use crate::{
    backend::{Backend, active},
    error::{Error, Result},
    layout::{BLOCK, PIECE, piece_span},
    merkle,
    sha1::{Sha1, Sha1Hash},
    sha256::{self, Hash},
};

/// Bytes of a piece given to one digest after another: four pieces side by side fit into the L2 cache (512 KiB to
/// 2 MiB), and it is a multiple of what BLAKE3 hashes side by side (16 KiB).
pub(crate) const STRIDE: usize = 64 << 10;

/// What is kept of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceDigests {
    /// SHA-1 of the bytes (BitTorrent v1).
    pub sha1: [u8; 20],
    /// v2 piece-layer hash; for a file of at most one piece, its pieces root.
    pub root: Hash,
    /// BLAKE3 chaining value of the piece's subtree; for a file of at most one piece, its BLAKE3.
    pub cv: [u8; 32],
}

/// What is kept of a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigests {
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// BLAKE3 of the file.
    pub blake3: [u8; 32],
    /// SHA-1 of each piece, one after the other.
    pub sha1_pieces: Vec<u8>,
    /// BEP 52 pieces root; zeros for an empty file, which has none.
    pub v2_root: Hash,
    /// BEP 52 piece layer; empty for a file of at most one piece.
    pub v2_layer: Vec<u8>,
}

/// A piece being hashed: takes its bytes in strides, several pieces side by side.
pub(crate) struct PieceWork {
    index: u32,
    only: bool,
    expected: usize,
    got: usize,
    sha1: Sha1,
    rest: Vec<u8>,
    blake3: blake3::Hasher,
    /// `None` when somebody else hashes the blocks.
    leaves: Option<Vec<Hash>>,
}

/// What [`PieceWork::finish`] gives.
pub(crate) enum Hashed {
    /// All digests, where the leaves were asked for.
    Whole(PieceDigests),
    /// All but the merkle root.
    Half(Half),
}

/// The digests of a piece that need no merkle tree.
#[derive(Clone, Copy)]
pub(crate) struct Half {
    sha1: Sha1Hash,
    cv: [u8; 32],
}

impl Half {
    /// All digests, with the merkle root that was found elsewhere.
    pub(crate) fn with_root(self, root: Hash) -> PieceDigests {
        PieceDigests { sha1: self.sha1, root, cv: self.cv }
    }
}

impl PieceWork {
    /// Ready for the bytes of piece `index` of a file of `length` bytes; hashes the merkle leaves only `with_leaves`.
    pub(crate) fn new(index: u32, length: u64, with_leaves: bool) -> Result<Self> {
        let (offset, expected) = piece_span(index, length)?;
        let mut blake3 = blake3::Hasher::new();
        blake3.set_input_offset(offset);
        let leaves = with_leaves.then(|| Vec::with_capacity(expected.div_ceil(BLOCK as usize)));
        let only = length <= PIECE;
        Ok(Self { index, only, expected, got: 0, sha1: Sha1::new(), rest: Vec::new(), blake3, leaves })
    }

    /// Gives each work its next bytes; all strides but the last of a piece must be whole blocks.
    pub(crate) fn update_all(backend: &Backend, works: &mut [Self], strides: &[&[u8]]) {
        debug_assert!(works.iter().all(|work| work.got.is_multiple_of(BLOCK as usize)));
        let mut sha1s: Vec<&mut Sha1> = works.iter_mut().map(|work| &mut work.sha1).collect();
        let rests = Sha1::update_all(backend, &mut sha1s, strides);
        let mut with_leaves: Vec<(&mut Vec<Hash>, &[u8])> = Vec::with_capacity(works.len());
        for ((work, stride), rest) in works.iter_mut().zip(strides).zip(rests) {
            work.rest.extend_from_slice(rest);
            work.blake3.update(stride);
            work.got += stride.len();
            with_leaves.extend(work.leaves.as_mut().map(|leaves| (leaves, *stride)));
        }
        let stretches: Vec<&[u8]> = with_leaves.iter().map(|(_, stride)| *stride).collect();
        for ((leaves, _), found) in with_leaves.iter_mut().zip(sha256::leaves(backend, &stretches)) {
            leaves.extend(found);
        }
    }

    /// The digests: all of them if the leaves were asked for.
    pub(crate) fn finish(self, backend: &Backend) -> Result<Hashed> {
        let Self { index, expected, got, .. } = self;
        if got != expected {
            return Err(Error::WrongSize { index, expected, got });
        }
        let half = Half {
            sha1: self.sha1.finish(backend, &self.rest),
            // A lone piece is the root of the BLAKE3 tree, and roots are flagged as such.
            cv: if self.only { *self.blake3.finalize().as_bytes() } else { self.blake3.finalize_non_root() },
        };
        Ok(match self.leaves {
            Some(leaves) => Hashed::Whole(half.with_root(merkle::piece_root(backend, leaves, self.only))),
            None => Hashed::Half(half),
        })
    }
}

/// All but the merkle root of `data`, which must be exactly piece `index` of a file of `length` bytes.
pub(crate) fn hash_half(data: &[u8], index: u32, length: u64) -> Result<Half> {
    let backend = active()?;
    let mut work = PieceWork::new(index, length, false)?;
    for stride in data.chunks(STRIDE) {
        PieceWork::update_all(backend, std::slice::from_mut(&mut work), &[stride]);
    }
    match work.finish(backend)? {
        Hashed::Half(half) => Ok(half),
        Hashed::Whole(PieceDigests { sha1, cv, .. }) => Ok(Half { sha1, cv }),
    }
}

/// Digests of `data`, which must be exactly piece `index` of a file of `length` bytes.
pub fn hash_piece(data: &[u8], index: u32, length: u64) -> Result<PieceDigests> {
    Ok(hash_half(data, index, length)?.with_root(merkle::root_of(active()?, data, length)))
}

/// BLAKE3 of a file from the chaining values of its pieces.
pub(crate) fn blake3_of(mut cvs: Vec<[u8; 32]>) -> [u8; 32] {
    use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
    // Left subtrees of BLAKE3 are the largest power of two of chunks. Pieces are powers of two,
    // so pairing neighbours and carrying an odd last one up gives the same tree.
    while cvs.len() > 2 {
        let pair = |c: &[[u8; 32]]| match c {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            _ => c[0],
        };
        cvs = cvs.chunks(2).map(pair).collect();
    }
    match cvs.as_slice() {
        [] => *blake3::hash(&[]).as_bytes(),
        [only] => *only,
        [left, right, ..] => *merge_subtrees_root(left, right, Mode::Hash).as_bytes(),
    }
}
