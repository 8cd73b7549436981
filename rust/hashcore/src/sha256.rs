//! SHA-256 on whole 64-byte blocks: leaves and nodes of the merkle tree, and the file's own chain.
//!
//! The compression function is used directly because the state between two blocks is then eight
//! words we can save and restore, and because all inputs but the last piece are whole blocks.

use sha2::block_api::compress256;

use crate::{
    error::{Error, Result},
    layout::{BLOCK, PIECE, piece_span},
};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Initial state (FIPS 180-4, 5.3.3).
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The padding block after a message that is a multiple of 64 bytes (FIPS 180-4, 5.1.1).
const fn padding(bytes: u64) -> [u8; 64] {
    let mut block = [0; 64];
    block[0] = 0x80;
    let bits = (bytes * 8).to_be_bytes();
    let mut i = 0;
    while i < 8 {
        block[56 + i] = bits[i];
        i += 1;
    }
    block
}

const NODE_PADDING: [u8; 64] = padding(64);
const LEAF_PADDING: [u8; 64] = padding(BLOCK);

fn to_bytes(state: &[u32; 8]) -> Hash {
    let mut out = [0; 32];
    for (chunk, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *chunk = word.to_be_bytes();
    }
    out
}

fn from_bytes(bytes: &Hash) -> [u32; 8] {
    let words = bytes.as_chunks::<4>().0;
    std::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

/// Feeds the end of a message of `total` bytes: `tail` and the padding.
fn finish(state: &mut [u32; 8], tail: &[u8], total: u64) {
    let (blocks, rest) = tail.as_chunks::<64>();
    compress256(state, blocks);
    let mut last = [0u8; 128];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    // The eight length bytes need room after the 0x80; past 55 bytes they go to a block more.
    let end = if rest.len() < 56 { 64 } else { 128 };
    last[end - 8..end].copy_from_slice(&(total * 8).to_be_bytes());
    compress256(state, last[..end].as_chunks::<64>().0);
}

/// Digest of one block of the file; only the last may be shorter than [`BLOCK`].
pub(crate) fn leaf(block: &[u8]) -> Hash {
    let mut state = IV;
    if block.len() as u64 == BLOCK {
        compress256(&mut state, block.as_chunks::<64>().0);
        compress256(&mut state, &[LEAF_PADDING]);
    } else {
        finish(&mut state, block, block.len() as u64);
    }
    to_bytes(&state)
}

/// Digest of two child hashes.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    let mut block = [0; 64];
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    let mut state = IV;
    compress256(&mut state, &[block, NODE_PADDING]);
    to_bytes(&state)
}

/// The file's SHA-256 after its first pieces: `pieces` and 32 bytes, at rest or in motion.
///
/// When all pieces are in, the 32 bytes are the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pieces: u32,
    state: [u32; 8],
}

impl Chain {
    /// Bytes of a saved chain: `pieces` as a big-endian `u64`, then the state.
    pub const SAVED: usize = 40;

    /// The chain of a file of `length` bytes before its first piece.
    pub(crate) fn new(length: u64) -> Self {
        let mut state = IV;
        if length == 0 {
            finish(&mut state, &[], 0); // no piece will come to do it
        }
        Self { pieces: 0, state }
    }

    /// Pieces in the prefix.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The chain after one piece more; `data` must be exactly that piece.
    pub(crate) fn fed(mut self, data: &[u8], length: u64) -> Result<Self> {
        let (offset, expected) = piece_span(self.pieces, length)?;
        if data.len() != expected {
            return Err(Error::WrongSize { index: self.pieces, expected, got: data.len() });
        }
        if offset + data.len() as u64 == length {
            finish(&mut self.state, data, length);
        } else {
            debug_assert_eq!(data.len() as u64, PIECE);
            compress256(&mut self.state, data.as_chunks::<64>().0);
        }
        self.pieces += 1;
        Ok(self)
    }

    /// The state words as bytes: the digest, once all pieces are in.
    pub fn state_bytes(&self) -> Hash {
        to_bytes(&self.state)
    }

    /// The chain as bytes that [`Chain::load`] takes.
    pub fn save(&self) -> [u8; Self::SAVED] {
        let mut out = [0; Self::SAVED];
        out[..8].copy_from_slice(&u64::from(self.pieces).to_be_bytes());
        out[8..].copy_from_slice(&self.state_bytes());
        out
    }

    /// Reads back a saved chain for a file of `count` pieces.
    pub(crate) fn load(bytes: &[u8], count: u32) -> Result<Self> {
        let bad = |why: String| Error::BadMidstate(why);
        let saved: &[u8; Self::SAVED] =
            bytes.try_into().map_err(|_| bad(format!("{} bytes instead of {}", bytes.len(), Self::SAVED)))?;
        let (pieces, state) = saved.split_at(8);
        let pieces = pieces.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        if pieces > u64::from(count) {
            return Err(bad(format!("it covers {pieces} pieces of {count}")));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(state);
        Ok(Self { pieces: pieces as u32, state: from_bytes(&hash) })
    }
}
