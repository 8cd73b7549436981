//! SHA-256 on whole 64-byte blocks: leaves and nodes of the merkle tree, and the file's own chain.
//!
//! The compression function is used directly because the state between two blocks is then eight words we can save and
//! restore, and because all inputs but the last piece are whole blocks.

use crate::{
    backend::{Backend, active},
    error::{Error, Result},
    kernels::{Block, State256, constants::IV256},
    layout::{BLOCK, PIECE, piece_span},
    merkle,
};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The padding block after a message that is a multiple of 64 bytes (FIPS 180-4, 5.1.1).
const fn padding(bytes: u64) -> Block {
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

static NODE_PADDING: [Block; 1] = [padding(64)];
static LEAF_PADDING: [Block; 1] = [padding(BLOCK)];

fn to_bytes(state: &State256) -> Hash {
    let mut out = [0; 32];
    for (chunk, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *chunk = word.to_be_bytes();
    }
    out
}

fn from_bytes(bytes: &Hash) -> State256 {
    let words = bytes.as_chunks::<4>().0;
    std::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

/// The last one or two blocks of a SHA-1 or SHA-256 message: `rest`, less than a block, of `total` bytes.
pub(crate) fn last_blocks(rest: &[u8], total: u64) -> ([Block; 2], usize) {
    let mut last = [[0u8; 64]; 2];
    let bytes = last.as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    // The eight length bytes need room after the 0x80; past 55 bytes they go to a block more.
    let blocks = if rest.len() < 56 { 1 } else { 2 };
    bytes[64 * blocks - 8..64 * blocks].copy_from_slice(&(total * 8).to_be_bytes());
    (last, blocks)
}

/// Feeds the end of a message of `total` bytes: `tail` and the padding.
fn finish(backend: &Backend, state: &mut State256, tail: &[u8], total: u64) {
    let (blocks, rest) = tail.as_chunks::<64>();
    let (last, count) = last_blocks(rest, total);
    let state = std::slice::from_mut(state);
    (backend.sha256)(state, &[blocks]);
    (backend.sha256)(state, &[&last[..count]]);
}

/// Digests of messages of the same length, `padding` being what ends each.
fn digests(backend: &Backend, messages: &[&[Block]], padding: &[Block]) -> Vec<Hash> {
    let mut states = vec![IV256; messages.len()];
    (backend.sha256)(&mut states, messages);
    (backend.sha256)(&mut states, &vec![padding; messages.len()]);
    states.iter().map(to_bytes).collect()
}

/// Digests of the 16 KiB blocks of some stretches of a file; only the last block of a stretch may be shorter.
///
/// Blocks of all stretches are hashed side by side; the digests come stretch by stretch.
pub(crate) fn leaves(backend: &Backend, stretches: &[&[u8]]) -> Vec<Vec<Hash>> {
    let whole: Vec<&[Block]> =
        stretches.iter().flat_map(|s| s.chunks_exact(BLOCK as usize)).map(|block| block.as_chunks().0).collect();
    let mut found = digests(backend, &whole, &LEAF_PADDING).into_iter();
    let mut all = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        let mut mine: Vec<Hash> = found.by_ref().take(stretch.len() / BLOCK as usize).collect();
        let rest = stretch.chunks_exact(BLOCK as usize).remainder();
        if !rest.is_empty() {
            let mut state = IV256;
            finish(backend, &mut state, rest, rest.len() as u64);
            mine.push(to_bytes(&state));
        }
        all.push(mine);
    }
    all
}

/// Digests of pairs of child hashes.
pub(crate) fn nodes(backend: &Backend, pairs: &[Block]) -> Vec<Hash> {
    let messages: Vec<&[Block]> = pairs.iter().map(std::slice::from_ref).collect();
    digests(backend, &messages, &NODE_PADDING)
}

/// The file's SHA-256 after its first pieces: `pieces` and 32 bytes, at rest or in motion.
///
/// When all pieces are in, the 32 bytes are the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pieces: u32,
    state: State256,
}

impl Chain {
    /// Bytes of a saved chain: `pieces` as a big-endian `u64`, then the state.
    pub const SAVED: usize = 40;

    /// The chain of a file of `length` bytes before its first piece.
    pub(crate) fn new(length: u64) -> Result<Self> {
        let mut state = IV256;
        if length == 0 {
            finish(active()?, &mut state, &[], 0); // no piece will come to do it
        }
        Ok(Self { pieces: 0, state })
    }

    /// Pieces in the prefix.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The chain after one piece more; `data` must be exactly that piece.
    pub(crate) fn fed(self, data: &[u8], length: u64) -> Result<Self> {
        let backend = active()?;
        self.step(data, length, |state, blocks| (backend.sha256)(std::slice::from_mut(state), &[blocks]))
    }

    /// The chain after one piece more, and the merkle root of that piece.
    ///
    /// Both hash the same bytes: a processor that can keep two states does the leaves while the chain waits.
    pub(crate) fn fed_with_root(self, data: &[u8], length: u64) -> Result<(Self, Hash)> {
        let backend = active()?;
        let Some(pair) = backend.pair else {
            return Ok((self.fed(data, length)?, merkle::root_of(backend, data, length)));
        };
        let mut leaves = Vec::with_capacity((PIECE / BLOCK) as usize);
        let chain = self.step(data, length, |state, blocks| {
            for block in blocks.chunks_exact((BLOCK / 64) as usize) {
                let mut states = [*state, IV256];
                pair(&mut states, block);
                *state = states[0];
                (backend.sha256)(&mut states[1..], &[&LEAF_PADDING]);
                leaves.push(to_bytes(&states[1]));
            }
            let rest = blocks.chunks_exact((BLOCK / 64) as usize).remainder();
            (backend.sha256)(std::slice::from_mut(state), &[rest]);
        })?;
        let hashed = leaves.len() * BLOCK as usize;
        leaves.extend(self::leaves(backend, &[&data[hashed..]]).concat());
        Ok((chain, merkle::piece_root(backend, leaves, length <= PIECE)))
    }

    /// Checks that `data` is the next piece and has `feed` take its whole 64-byte blocks.
    fn step(mut self, data: &[u8], length: u64, feed: impl FnOnce(&mut State256, &[Block])) -> Result<Self> {
        let (offset, expected) = piece_span(self.pieces, length)?;
        if data.len() != expected {
            return Err(Error::WrongSize { index: self.pieces, expected, got: data.len() });
        }
        let (blocks, rest) = data.as_chunks::<64>();
        feed(&mut self.state, blocks);
        if offset + data.len() as u64 == length {
            finish(active()?, &mut self.state, rest, length);
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
