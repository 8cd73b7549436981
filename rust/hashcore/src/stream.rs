//! Digests of a stream whose length is not known before its end.

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::{
    backend::{Backend, active},
    error::{Error, Result},
    layout::{BLOCK, MAX_LENGTH, PIECE},
    merkle,
    piece::FileDigests,
    sha256::Hash,
};

/// Hashes bytes as they come. One thread; use [`crate::FileState`] when the length is known.
///
/// The `sha1` and `sha2` crates hash here, whatever the backend: with one message there is nothing to do side by side,
/// and the tests get an implementation that shares little with the others.
pub struct StreamHasher {
    backend: &'static Backend,
    length: u64,
    file: Sha256,
    blake3: blake3::Hasher,
    piece: Sha1,
    block: Sha256,
    leaves: Vec<Hash>,
    sha1_pieces: Vec<u8>,
    layer: Vec<Hash>,
}

impl StreamHasher {
    /// Nothing taken yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            backend: active()?,
            length: 0,
            file: Sha256::default(),
            blake3: blake3::Hasher::default(),
            piece: Sha1::default(),
            block: Sha256::default(),
            leaves: Vec::new(),
            sha1_pieces: Vec::new(),
            layer: Vec::new(),
        })
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes, any number of them.
    pub fn update(&mut self, mut data: &[u8]) -> Result<()> {
        let length = self.length + data.len() as u64;
        if length > MAX_LENGTH {
            return Err(Error::TooLong { length });
        }
        while !data.is_empty() {
            // A piece that is exactly full stays open until a byte follows: if none does, it is
            // the only piece and closes by other rules.
            if self.length > 0 && self.length.is_multiple_of(PIECE) {
                self.close_piece(false);
            }
            let room = (BLOCK - self.length % BLOCK) as usize;
            let (now, later) = data.split_at(room.min(data.len()));
            self.take(now);
            data = later;
        }
        Ok(())
    }

    /// Takes bytes that lie within one block.
    fn take(&mut self, data: &[u8]) {
        self.file.update(data);
        self.blake3.update(data);
        self.piece.update(data);
        self.block.update(data);
        self.length += data.len() as u64;
        if self.length.is_multiple_of(BLOCK) {
            self.leaves.push(self.block.finalize_reset().into());
        }
    }

    fn close_piece(&mut self, only: bool) {
        self.sha1_pieces.extend_from_slice(&self.piece.finalize_reset());
        let leaves = std::mem::take(&mut self.leaves);
        self.layer.push(merkle::piece_root(self.backend, leaves, only));
    }

    /// The digests of all bytes taken.
    pub fn finish(mut self) -> FileDigests {
        if !self.length.is_multiple_of(BLOCK) {
            self.leaves.push(self.block.finalize_reset().into());
        }
        if self.length > 0 {
            self.close_piece(self.length <= PIECE);
        }
        let (v2_root, v2_layer) = merkle::root_and_layer(self.backend, self.layer);
        FileDigests {
            length: self.length,
            sha256: self.file.finalize().into(),
            blake3: *self.blake3.finalize().as_bytes(),
            sha1_pieces: self.sha1_pieces,
            v2_root,
            v2_layer,
        }
    }
}
