//! What is known of a file: digests of its pieces in any order, and its SHA-256 as far as it goes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    backend::active,
    error::{Error, Result},
    layout::piece_count,
    memory::Buffer,
    merkle::{self, root_of},
    piece::{FileDigests, PieceDigests, blake3_of, hash_half},
    sha256::{Chain, Hash},
    source::Source,
};

struct Known {
    pieces: BTreeMap<u32, PieceDigests>,
    chain: Chain,
}

/// Collects piece digests in any order, from any thread.
///
/// Hashing happens outside the locks. `known` is held for table access only; `feeding` is held
/// while the SHA-256 chain takes a piece, so that one thread at a time moves it.
pub struct FileState {
    length: u64,
    count: u32,
    known: Mutex<Known>,
    feeding: Mutex<()>,
}

/// A panic elsewhere cannot leave the tables half-written: each change is a single store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileState {
    /// Nothing known yet of a file of `length` bytes.
    pub fn new(length: u64) -> Result<Self> {
        let count = piece_count(length)?;
        let known = Known { pieces: BTreeMap::new(), chain: Chain::new(length)? };
        Ok(Self { length, count, known: Mutex::new(known), feeding: Mutex::new(()) })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Pieces of the file.
    pub fn piece_count(&self) -> u32 {
        self.count
    }

    /// The SHA-256 chain as it is now; never waits for a piece being fed.
    pub fn chain(&self) -> Chain {
        lock(&self.known).chain
    }

    /// Whether the digests of piece `index` are known.
    pub fn has(&self, index: u32) -> bool {
        lock(&self.known).pieces.contains_key(&index)
    }

    /// The digests of piece `index`, when they are known.
    pub fn get(&self, index: u32) -> Option<PieceDigests> {
        lock(&self.known).pieces.get(&index).copied()
    }

    /// Indices of the known pieces, ascending.
    pub fn have(&self) -> Vec<u32> {
        lock(&self.known).pieces.keys().copied().collect()
    }

    /// Indices of the unknown pieces, ascending.
    pub fn missing(&self) -> Vec<u32> {
        let known = lock(&self.known);
        (0..self.count).filter(|i| !known.pieces.contains_key(i)).collect()
    }

    /// Whether [`FileState::finish`] will succeed.
    pub fn complete(&self) -> bool {
        let known = lock(&self.known);
        known.pieces.len() == self.count as usize && known.chain.pieces() == self.count
    }

    /// Takes digests computed elsewhere or earlier; a second record of a piece replaces the first.
    pub fn record(&self, index: u32, digests: PieceDigests) -> Result<()> {
        if index >= self.count {
            return Err(Error::BadIndex { index, count: self.count });
        }
        lock(&self.known).pieces.insert(index, digests);
        Ok(())
    }

    /// Hashes a piece from memory, records it, and moves the chain when it is next in line.
    pub fn add(&self, index: u32, data: &[u8]) -> Result<PieceDigests> {
        let half = hash_half(data, index, self.length)?;
        let digests = half.with_root(self.feed_for_root(index, data)?);
        self.record(index, digests)?;
        Ok(digests)
    }

    /// Hashes a piece on disk and changes nothing. If it is the next one for the chain, also the chain after it: the
    /// bytes are in the cache, and may be believed later by [`FileState::record`] and [`FileState::advance`].
    pub fn hash_at(&self, source: &Source, index: u32) -> Result<(PieceDigests, Option<Chain>)> {
        let mut piece = Buffer::default();
        source.read_piece(index, self.length, &mut piece)?;
        let half = hash_half(&piece, index, self.length)?;
        let chain = self.chain();
        if chain.pieces() != index {
            return Ok((half.with_root(root_of(active()?, &piece, self.length)), None));
        }
        let (after, root) = chain.fed_with_root(&piece, self.length)?;
        Ok((half.with_root(root), Some(after)))
    }

    /// Moves the chain to where [`FileState::hash_at`] found it to be, if it still is one piece before; says whether.
    pub fn advance(&self, after: Chain) -> bool {
        let _one_at_a_time = lock(&self.feeding);
        let mut known = lock(&self.known);
        let next = known.chain.pieces() + 1 == after.pieces();
        if next {
            known.chain = after;
        }
        next
    }

    /// Gives the chain piece `index` if that is the next one; says whether it was.
    pub fn feed(&self, index: u32, data: &[u8]) -> Result<bool> {
        let fed = self.feed_by(index, |chain| Ok((chain.fed(data, self.length)?, ())))?;
        Ok(fed.is_some())
    }

    /// The merkle root of piece `index`; gives the piece to the chain on the way if it is the next one.
    pub(crate) fn feed_for_root(&self, index: u32, data: &[u8]) -> Result<Hash> {
        match self.feed_by(index, |chain| chain.fed_with_root(data, self.length))? {
            Some(root) => Ok(root),
            None => Ok(root_of(active()?, data, self.length)),
        }
    }

    /// Moves the chain by `step` if it stands before piece `index`; what else `step` gave.
    fn feed_by<T>(&self, index: u32, step: impl FnOnce(Chain) -> Result<(Chain, T)>) -> Result<Option<T>> {
        let _one_at_a_time = lock(&self.feeding);
        let chain = self.chain();
        if chain.pieces() != index {
            return Ok(None);
        }
        let (fed, more) = step(chain)?;
        lock(&self.known).chain = fed;
        Ok(Some(more))
    }

    /// Reads the known pieces just beyond the chain from `source` into it; returns the new prefix.
    ///
    /// Known pieces must be readable from `source` when this is called.
    pub fn catch_up(&self, source: &Source) -> Result<u32> {
        let mut buffer = Buffer::default();
        loop {
            let next = self.chain().pieces();
            if next == self.count || !self.has(next) {
                return Ok(next);
            }
            source.read_piece(next, self.length, &mut buffer)?;
            self.feed(next, &buffer)?;
        }
    }

    /// A saved chain of this file.
    pub fn load_chain(&self, saved: &[u8]) -> Result<Chain> {
        Chain::load(saved, self.count)
    }

    /// Puts the chain where a saved one was. Trusted: a wrong one gives a wrong SHA-256.
    pub fn restore_chain(&self, saved: &[u8]) -> Result<()> {
        let chain = Chain::load(saved, self.count)?;
        let _one_at_a_time = lock(&self.feeding);
        lock(&self.known).chain = chain;
        Ok(())
    }

    /// The digests of the file, when all pieces are known and in the chain.
    pub fn finish(&self) -> Result<FileDigests> {
        let known = lock(&self.known);
        let (missing, prefix) = (self.count - known.pieces.len() as u32, known.chain.pieces());
        if missing > 0 || prefix < self.count {
            return Err(Error::Incomplete { missing, prefix, count: self.count });
        }
        let pieces: Vec<_> = known.pieces.values().copied().collect();
        assemble(self.length, known.chain.state_bytes(), &pieces)
    }
}

/// Joins the digests of all pieces, in order.
fn assemble(length: u64, sha256: Hash, pieces: &[PieceDigests]) -> Result<FileDigests> {
    let (v2_root, v2_layer) = merkle::root_and_layer(active()?, pieces.iter().map(|p| p.root).collect());
    Ok(FileDigests {
        length,
        sha256,
        blake3: blake3_of(pieces.iter().map(|p| p.cv).collect()),
        sha1_pieces: pieces.iter().flat_map(|p| p.sha1).collect(),
        v2_root,
        v2_layer,
    })
}
