//! Digests of a piece and of a file; a piece is hashed while its bytes are in the cache.

use blake3::hazmat::HasherExt;
use sha1::{Digest, Sha1};

use crate::{
    error::{Error, Result},
    layout::{BLOCK, PIECE, piece_span},
    merkle,
    sha256::{Hash, leaf},
};

/// Bytes given to one digest after another: fits into the L2 cache (1 MiB or more on servers,
/// 256 KiB on older desktops) and is a multiple of what BLAKE3 hashes side by side (16 KiB).
pub(crate) const STRIDE: usize = 128 << 10;

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

/// A piece being hashed: takes its bytes in strides.
pub(crate) struct PieceWork {
    index: u32,
    only: bool,
    expected: usize,
    got: usize,
    sha1: Sha1,
    leaves: Vec<Hash>,
    blake3: blake3::Hasher,
}

impl PieceWork {
    /// Ready for the bytes of piece `index` of a file of `length` bytes.
    pub(crate) fn new(index: u32, length: u64) -> Result<Self> {
        let (offset, expected) = piece_span(index, length)?;
        let mut blake3 = blake3::Hasher::new();
        blake3.set_input_offset(offset);
        Ok(Self {
            index,
            only: length <= PIECE,
            expected,
            got: 0,
            sha1: Sha1::new(),
            leaves: Vec::with_capacity(expected.div_ceil(BLOCK as usize)),
            blake3,
        })
    }

    /// Takes the next bytes; all strides but the last must be whole blocks.
    pub(crate) fn update(&mut self, data: &[u8]) {
        debug_assert_eq!(self.got % BLOCK as usize, 0);
        for stride in data.chunks(STRIDE) {
            self.sha1.update(stride);
            self.leaves.extend(stride.chunks(BLOCK as usize).map(leaf));
            self.blake3.update(stride);
        }
        self.got += data.len();
    }

    /// The digests.
    pub(crate) fn finish(self) -> Result<PieceDigests> {
        let Self { index, expected, got, .. } = self;
        if got != expected {
            return Err(Error::WrongSize { index, expected, got });
        }
        Ok(PieceDigests {
            sha1: self.sha1.finalize().into(),
            root: merkle::piece_root(self.leaves, self.only),
            // A lone piece is the root of the BLAKE3 tree, and roots are flagged as such.
            cv: if self.only { *self.blake3.finalize().as_bytes() } else { self.blake3.finalize_non_root() },
        })
    }
}

/// Digests of `data`, which must be exactly piece `index` of a file of `length` bytes.
pub fn hash_piece(data: &[u8], index: u32, length: u64) -> Result<PieceDigests> {
    let (_, expected) = piece_span(index, length)?;
    if data.len() != expected {
        return Err(Error::WrongSize { index, expected, got: data.len() });
    }
    let mut work = PieceWork::new(index, length)?;
    work.update(data);
    work.finish()
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
