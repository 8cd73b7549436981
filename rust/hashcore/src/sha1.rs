//! SHA-1 of pieces, several at once.

use crate::{
    backend::Backend,
    kernels::{Block, State1, constants::IV1},
    sha256::last_blocks,
};

/// A SHA-1 digest.
pub(crate) type Sha1Hash = [u8; 20];

/// A SHA-1 message that came so far in whole 64-byte blocks.
#[derive(Clone, Copy)]
pub(crate) struct Sha1 {
    state: State1,
    bytes: u64,
}

impl Sha1 {
    pub(crate) fn new() -> Self {
        Self { state: IV1, bytes: 0 }
    }

    /// Feeds each message its stride, all at once as far as they are equally long; returns what is left of each, less
    /// than a block.
    pub(crate) fn update_all<'a>(backend: &Backend, messages: &mut [&mut Self], strides: &[&'a [u8]]) -> Vec<&'a [u8]> {
        let (blocks, rests): (Vec<&[Block]>, Vec<&[u8]>) =
            strides.iter().map(|stride| stride.as_chunks::<64>()).unzip();
        let together = blocks.iter().map(|b| b.len()).min().unwrap_or(0);
        let mut states: Vec<State1> = messages.iter().map(|message| message.state).collect();
        let first: Vec<&[Block]> = blocks.iter().map(|b| &b[..together]).collect();
        (backend.sha1)(&mut states, &first);
        for ((message, state), blocks) in messages.iter_mut().zip(states).zip(&blocks) {
            message.state = state;
            message.bytes += 64 * blocks.len() as u64;
            (backend.sha1)(std::slice::from_mut(&mut message.state), &[&blocks[together..]]);
        }
        rests
    }

    /// The digest, after `rest`: what `update_all` left last.
    pub(crate) fn finish(mut self, backend: &Backend, rest: &[u8]) -> Sha1Hash {
        let (last, count) = last_blocks(rest, self.bytes + rest.len() as u64);
        (backend.sha1)(std::slice::from_mut(&mut self.state), &[&last[..count]]);
        let mut out = [0; 20];
        for (chunk, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *chunk = word.to_be_bytes();
        }
        out
    }
}
