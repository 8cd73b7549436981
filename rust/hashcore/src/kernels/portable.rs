//! Plain Rust, one message after the other: what is left where a processor has nothing better.

use super::{Block, State1, State256, lanes, lanes::Words};

impl Words for u32 {
    const LANES: usize = 1;

    #[inline(always)]
    fn splat(word: u32) -> Self {
        word
    }

    #[inline(always)]
    fn from_slice(words: &[u32]) -> Self {
        words[0]
    }

    #[inline(always)]
    fn write(self, words: &mut [u32]) {
        words[0] = self;
    }

    #[inline(always)]
    fn blocks(messages: &[&[Block]], index: usize) -> [Self; 16] {
        let words = messages[0][index].as_chunks::<4>().0;
        std::array::from_fn(|i| u32::from_be_bytes(words[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    fn rotate<const L: i32, const R: i32>(self) -> Self {
        self.rotate_left(L as u32)
    }

    #[inline(always)]
    fn shift<const R: i32>(self) -> Self {
        self >> R
    }

    #[inline(always)]
    fn parity(a: Self, b: Self, c: Self) -> Self {
        a ^ b ^ c
    }

    #[inline(always)]
    fn choose(which: Self, yes: Self, no: Self) -> Self {
        no ^ (which & (yes ^ no))
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        (a & b) | (c & (a | b))
    }
}

/// SHA-1 of one message.
pub(crate) fn sha1(states: &mut [State1], messages: &[&[Block]]) {
    lanes::sha1::<u32>(states, messages);
}

/// SHA-256 of one message.
pub(crate) fn sha256(states: &mut [State256], messages: &[&[Block]]) {
    lanes::sha256::<u32>(states, messages);
}
