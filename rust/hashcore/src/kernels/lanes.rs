//! SHA-1 and SHA-256 over vectors of 32-bit words: lane `l` of each vector belongs to message `l`.
//!
//! Everything is inlined into the function of `x86` or `portable` that names the vector, so that the compiler may use
//! the instructions which that function enables.

use super::{
    Block, State1, State256,
    constants::{K1, K256},
};

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// A vector of 32-bit words, one a message.
pub(super) trait Words: Copy {
    /// Messages side by side.
    const LANES: usize;
    /// The same word in each lane.
    fn splat(word: u32) -> Self;
    /// One word a lane, from `LANES` words.
    fn from_slice(words: &[u32]) -> Self;
    /// The lanes in order.
    fn write(self, words: &mut [u32]);
    /// Word `i` of the block at `index` of each of `LANES` messages, for `i` from 0 to 15.
    fn blocks(messages: &[&[Block]], index: usize) -> [Self; 16];
    /// Sum modulo 2^32.
    fn add(self, other: Self) -> Self;
    /// `a ^ b`.
    fn xor(self, other: Self) -> Self;
    /// Rotation to the left by `L`; `R` is `32 - L`, which const generics cannot say.
    fn rotate<const L: i32, const R: i32>(self) -> Self;
    /// Shift to the right.
    fn shift<const R: i32>(self) -> Self;
    /// `a ^ b ^ c`.
    fn parity(a: Self, b: Self, c: Self) -> Self;
    /// For each bit: `yes` where `which` is set, `no` elsewhere.
    fn choose(which: Self, yes: Self, no: Self) -> Self;
    /// For each bit, what at least two say.
    fn majority(a: Self, b: Self, c: Self) -> Self;
}

/// A message for each lane; all have as many blocks as the first one, which the bounds checks then know.
#[inline(always)]
fn filled<'a, V: Words>(messages: &[&'a [Block]]) -> [&'a [Block]; MOST_LANES] {
    let blocks = messages[0].len();
    assert!(messages.len() <= V::LANES);
    std::array::from_fn(|lane| &messages.get(lane).unwrap_or(&messages[0])[..blocks])
}

/// The words of one chaining value, lane by lane: from states to vectors.
#[inline(always)]
fn gather<V: Words, const N: usize>(states: &[[u32; N]]) -> [V; N] {
    std::array::from_fn(|word| {
        let mut column = [0; MOST_LANES];
        for (slot, state) in column.iter_mut().zip(states) {
            *slot = state[word];
        }
        V::from_slice(&column)
    })
}

/// From vectors back to states; lanes beyond them held copies and are dropped.
#[inline(always)]
fn scatter<V: Words, const N: usize>(vectors: [V; N], states: &mut [[u32; N]]) {
    for (word, vector) in vectors.into_iter().enumerate() {
        let mut column = [0; MOST_LANES];
        vector.write(&mut column);
        for (state, value) in states.iter_mut().zip(column) {
            state[word] = value;
        }
    }
}

/// Feeds each message's blocks (the same number in all, at most `LANES` messages) to its state.
///
/// Lanes without a message work on a copy of the first one.
#[inline(always)]
pub(super) fn sha1<V: Words>(states: &mut [State1], messages: &[&[Block]]) {
    let messages = &filled::<V>(messages)[..V::LANES];
    let mut h: [V; 5] = gather(states);
    for index in 0..messages[0].len() {
        let mut w = V::blocks(messages, index);
        let before = h;
        // Spelt out round by round: only then do schedule and state stay in registers.
        macro_rules! rounds {
            ($f:expr, $k:literal: $($t:literal)*) => {
                let k = V::splat(K1[$k]);
                $(
                    if $t >= 16 {
                        let [a, b] = [w[($t + 13) & 15], w[($t + 8) & 15]];
                        let mixed = V::parity(a, b, w[($t + 2) & 15]).xor(w[$t & 15]);
                        w[$t & 15] = mixed.rotate::<1, 31>();
                    }
                    let [a, b, c, d, e] = h;
                    let sum = e.add(k).add(w[$t & 15]).add($f(b, c, d)).add(a.rotate::<5, 27>());
                    h = [sum, a, b.rotate::<30, 2>(), c, d];
                )*
            };
        }
        rounds!(V::choose, 0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        rounds!(V::parity, 1: 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
        rounds!(V::majority, 2: 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
        rounds!(V::parity, 3: 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
        for (word, old) in h.iter_mut().zip(before) {
            *word = word.add(old);
        }
    }
    scatter(h, states);
}

/// SHA-256 as [`sha1`] does it.
#[inline(always)]
pub(super) fn sha256<V: Words>(states: &mut [State256], messages: &[&[Block]]) {
    let messages = &filled::<V>(messages)[..V::LANES];
    let mut h: [V; 8] = gather(states);
    for index in 0..messages[0].len() {
        let mut w = V::blocks(messages, index);
        let before = h;
        macro_rules! rounds {
            ($($t:literal)*) => {$(
                if $t >= 16 {
                    let (x, y) = (w[($t + 1) & 15], w[($t + 14) & 15]);
                    let s0 = V::parity(x.rotate::<25, 7>(), x.rotate::<14, 18>(), x.shift::<3>());
                    let s1 = V::parity(y.rotate::<15, 17>(), y.rotate::<13, 19>(), y.shift::<10>());
                    w[$t & 15] = w[$t & 15].add(s0).add(w[($t + 9) & 15]).add(s1);
                }
                let [a, b, c, d, e, f, g, hh] = h;
                let s1 = V::parity(e.rotate::<26, 6>(), e.rotate::<21, 11>(), e.rotate::<7, 25>());
                let t1 = hh.add(w[$t & 15]).add(V::splat(K256[$t])).add(V::choose(e, f, g)).add(s1);
                let s0 = V::parity(a.rotate::<30, 2>(), a.rotate::<19, 13>(), a.rotate::<10, 22>());
                h = [t1.add(s0).add(V::majority(a, b, c)), a, b, c, d.add(t1), e, f, g];
            )*};
        }
        rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
        rounds!(32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
        for (word, old) in h.iter_mut().zip(before) {
            *word = word.add(old);
        }
    }
    scatter(h, states);
}
