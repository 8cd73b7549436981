//! The SHA instructions of x86, several messages interleaved.
//!
//! One message waits for the result of each step (SHA-1: 20 × 6 cycles a block on Zen 4); a second and a third fill
//! that time. The order of the instructions follows Intel's SHA Extensions white paper.

#![allow(clippy::needless_range_loop)] // `index` and `m` walk through several arrays at once

use std::arch::x86_64::*;

use super::{Block, State1, State256, constants::K256};

/// Loads 16 bytes of a block, at word `4 * quarter`.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn load(block: &Block, quarter: usize, order: __m128i) -> __m128i {
    let bytes: &[u8; 16] = &block.as_chunks::<16>().0[quarter];
    // SAFETY: `bytes` is 16 readable bytes, and loadu asks for no alignment.
    _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, order)
}

#[inline]
#[target_feature(enable = "sse2")]
fn words(d: u32, c: u32, b: u32, a: u32) -> __m128i {
    _mm_set_epi32(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
}

#[inline]
#[target_feature(enable = "sse2")]
fn unpack(vector: __m128i) -> [u32; 4] {
    let mut out = [0u32; 4];
    // SAFETY: `out` is 16 writable bytes, and storeu asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), vector) };
    out
}

/// Feeds each message's blocks (the same number in all) to its SHA-1 state.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) fn sha1<const N: usize>(states: &mut [State1; N], messages: [&[Block]; N]) {
    let order = words(0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f);
    let mut abcd = states.map(|s| words(s[0], s[1], s[2], s[3]));
    let mut e = states.map(|s| words(s[4], 0, 0, 0));
    let zero = _mm_setzero_si128();
    for index in 0..messages[0].len() {
        let (abcd_before, e_before) = (abcd, e);
        let mut w = [[zero; N]; 4];
        // Four rounds; `$i` counts them, `$f` is the function of their 20.
        macro_rules! four {
            ($f:literal: $($i:literal)*) => {$(
                for m in 0..N {
                    if $i < 4 {
                        w[$i % 4][m] = load(&messages[m][index], $i % 4, order);
                    } else {
                        let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(w[$i % 4][m], w[($i + 1) % 4][m]), w[($i + 2) % 4][m]);
                        w[$i % 4][m] = _mm_sha1msg2_epu32(mixed, w[($i + 3) % 4][m]);
                    }
                    let next = if $i == 0 { _mm_add_epi32(e[m], w[0][m]) } else { _mm_sha1nexte_epu32(e[m], w[$i % 4][m]) };
                    e[m] = abcd[m];
                    abcd[m] = _mm_sha1rnds4_epu32::<$f>(abcd[m], next);
                }
            )*};
        }
        four!(0: 0 1 2 3 4);
        four!(1: 5 6 7 8 9);
        four!(2: 10 11 12 13 14);
        four!(3: 15 16 17 18 19);
        for m in 0..N {
            e[m] = _mm_sha1nexte_epu32(e[m], e_before[m]);
            abcd[m] = _mm_add_epi32(abcd[m], abcd_before[m]);
        }
    }
    for m in 0..N {
        let [d, c, b, a] = unpack(abcd[m]);
        states[m] = [a, b, c, d, unpack(e[m])[3]];
    }
}

/// The order in which the SHA-256 instructions want a state: (ABEF, CDGH).
#[inline]
#[target_feature(enable = "sse2")]
fn split(s: &State256) -> [__m128i; 2] {
    [words(s[0], s[1], s[4], s[5]), words(s[2], s[3], s[6], s[7])]
}

#[inline]
#[target_feature(enable = "sse2")]
fn join([abef, cdgh]: [__m128i; 2]) -> State256 {
    let ([f, e, b, a], [h, g, d, c]) = (unpack(abef), unpack(cdgh));
    [a, b, c, d, e, f, g, h]
}

/// Feeds `M` messages to `N` SHA-256 states: state `n` takes message `n % M`, whose schedule is computed once.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn sha256_of<const N: usize, const M: usize>(states: &mut [State256; N], messages: [&[Block]; M]) {
    let order = words(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut h: [[__m128i; 2]; N] = std::array::from_fn(|n| split(&states[n]));
    let zero = _mm_setzero_si128();
    for index in 0..messages[0].len() {
        let before = h;
        let mut w = [[zero; M]; 4];
        macro_rules! four {
            ($($i:literal)*) => {$(
                let k = &K256.as_chunks::<4>().0[$i];
                // SAFETY: `k` is 16 readable bytes, and loadu asks for no alignment.
                let k = unsafe { _mm_loadu_si128(k.as_ptr().cast()) };
                let mut low = [zero; M];
                for m in 0..M {
                    if $i < 4 {
                        w[$i % 4][m] = load(&messages[m][index], $i % 4, order);
                    } else {
                        let between = _mm_alignr_epi8::<4>(w[($i + 3) % 4][m], w[($i + 2) % 4][m]);
                        let mixed = _mm_add_epi32(_mm_sha256msg1_epu32(w[$i % 4][m], w[($i + 1) % 4][m]), between);
                        w[$i % 4][m] = _mm_sha256msg2_epu32(mixed, w[($i + 3) % 4][m]);
                    }
                    low[m] = _mm_add_epi32(w[$i % 4][m], k);
                }
                for n in 0..N {
                    let [abef, cdgh] = h[n];
                    h[n][1] = _mm_sha256rnds2_epu32(cdgh, abef, low[n % M]);
                }
                for n in 0..N {
                    let [abef, cdgh] = h[n];
                    h[n][0] = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32::<0x0e>(low[n % M]));
                }
            )*};
        }
        four!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for n in 0..N {
            for half in 0..2 {
                h[n][half] = _mm_add_epi32(h[n][half], before[n][half]);
            }
        }
    }
    for n in 0..N {
        states[n] = join(h[n]);
    }
}

/// Feeds each message's blocks (the same number in all) to its SHA-256 state.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) fn sha256<const N: usize>(states: &mut [State256; N], messages: [&[Block]; N]) {
    sha256_of(states, messages);
}

/// Feeds the same blocks to two SHA-256 states, in little more time than to one.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) fn sha256_pair(states: &mut [State256; 2], message: &[Block]) {
    sha256_of(states, [message]);
}
