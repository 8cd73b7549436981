//! Vectors of AVX2 (8 words) and AVX-512 (16 words).

use std::arch::x86_64::*;

use super::{Block, State1, State256, lanes, lanes::Words};

/// Calls intrinsics from the trait's methods, which cannot say themselves which instructions they need.
macro_rules! v {
    ($call:expr) => {
        // SAFETY: all of this is inlined into the four functions at the end of this file, which enable the
        // instructions. Loads and stores take any alignment, and their arrays are as large as the vector.
        unsafe { $call }
    };
}

/// Eight messages.
#[derive(Clone, Copy)]
struct V8(__m256i);

impl Words for V8 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(v!(_mm256_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn from_slice(words: &[u32]) -> Self {
        let words: &[u32; 8] = &words.as_chunks().0[0];
        Self(v!(_mm256_loadu_si256(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn write(self, words: &mut [u32]) {
        let words: &mut [u32; 8] = &mut words.as_chunks_mut().0[0];
        v!(_mm256_storeu_si256(words.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn blocks(messages: &[&[Block]], index: usize) -> [Self; 16] {
        // Two 8 × 8 transpositions: words 0 to 7 of each block, then 8 to 15.
        let half = |at: usize| {
            let rows: [__m256i; 8] = std::array::from_fn(|lane| {
                let bytes: &[u8; 32] = &messages[lane][index].as_chunks().0[at];
                v!(_mm256_shuffle_epi8(
                    _mm256_loadu_si256(bytes.as_ptr().cast()),
                    _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
                ))
            });
            transpose8(rows)
        };
        let (low, high) = (half(0), half(1));
        std::array::from_fn(|i| Self(if i < 8 { low[i] } else { high[i - 8] }))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(v!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(v!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate<const L: i32, const R: i32>(self) -> Self {
        const { assert!(L + R == 32) };
        Self(v!(_mm256_or_si256(_mm256_slli_epi32::<L>(self.0), _mm256_srli_epi32::<R>(self.0))))
    }

    #[inline(always)]
    fn shift<const R: i32>(self) -> Self {
        Self(v!(_mm256_srli_epi32::<R>(self.0)))
    }

    #[inline(always)]
    fn parity(a: Self, b: Self, c: Self) -> Self {
        Self(v!(_mm256_xor_si256(_mm256_xor_si256(a.0, b.0), c.0)))
    }

    #[inline(always)]
    fn choose(which: Self, yes: Self, no: Self) -> Self {
        Self(v!(_mm256_xor_si256(no.0, _mm256_and_si256(which.0, _mm256_xor_si256(yes.0, no.0)))))
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        Self(v!(_mm256_or_si256(_mm256_and_si256(a.0, b.0), _mm256_and_si256(c.0, _mm256_or_si256(a.0, b.0)))))
    }
}

#[inline(always)]
fn transpose8(r: [__m256i; 8]) -> [__m256i; 8] {
    v!({
        // pairs of words, then of double words, then of halves
        let a: [__m256i; 8] = std::array::from_fn(|i| {
            let (x, y) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
            if i % 2 == 0 { _mm256_unpacklo_epi32(x, y) } else { _mm256_unpackhi_epi32(x, y) }
        });
        let b: [__m256i; 8] = std::array::from_fn(|i| {
            let (x, y) = (a[i / 4 * 4 + i % 4 / 2], a[i / 4 * 4 + i % 4 / 2 + 2]);
            if i % 2 == 0 { _mm256_unpacklo_epi64(x, y) } else { _mm256_unpackhi_epi64(x, y) }
        });
        std::array::from_fn(|i| {
            let (x, y) = (b[i % 4], b[i % 4 + 4]);
            if i < 4 { _mm256_permute2x128_si256::<0x20>(x, y) } else { _mm256_permute2x128_si256::<0x31>(x, y) }
        })
    })
}

/// Sixteen messages.
#[derive(Clone, Copy)]
struct V16(__m512i);

impl Words for V16 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(v!(_mm512_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn from_slice(words: &[u32]) -> Self {
        let words: &[u32; 16] = &words.as_chunks().0[0];
        Self(v!(_mm512_loadu_si512(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn write(self, words: &mut [u32]) {
        let words: &mut [u32; 16] = &mut words.as_chunks_mut().0[0];
        v!(_mm512_storeu_si512(words.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn blocks(messages: &[&[Block]], index: usize) -> [Self; 16] {
        let rows: [__m512i; 16] = std::array::from_fn(|lane| {
            let bytes: &Block = &messages[lane][index];
            v!(_mm512_shuffle_epi8(
                _mm512_loadu_si512(bytes.as_ptr().cast()),
                _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
            ))
        });
        transpose16(rows).map(Self)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(v!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(v!(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate<const L: i32, const R: i32>(self) -> Self {
        const { assert!(L + R == 32) };
        Self(v!(_mm512_rol_epi32::<L>(self.0)))
    }

    #[inline(always)]
    fn shift<const R: i32>(self) -> Self {
        // srli wants a u32, and a const cannot be converted; with a constant count this is the same instruction
        Self(v!(_mm512_srl_epi32(self.0, _mm_cvtsi32_si128(R))))
    }

    // The tables of vpternlogd: bit (4a + 2b + c) of the constant is the result.
    #[inline(always)]
    fn parity(a: Self, b: Self, c: Self) -> Self {
        Self(v!(_mm512_ternarylogic_epi32::<0x96>(a.0, b.0, c.0)))
    }

    #[inline(always)]
    fn choose(which: Self, yes: Self, no: Self) -> Self {
        Self(v!(_mm512_ternarylogic_epi32::<0xca>(which.0, yes.0, no.0)))
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        Self(v!(_mm512_ternarylogic_epi32::<0xe8>(a.0, b.0, c.0)))
    }
}

#[inline(always)]
fn transpose16(r: [__m512i; 16]) -> [__m512i; 16] {
    v!({
        let a: [__m512i; 16] = std::array::from_fn(|i| {
            let (x, y) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
            if i % 2 == 0 { _mm512_unpacklo_epi32(x, y) } else { _mm512_unpackhi_epi32(x, y) }
        });
        // b[4q + w]: word w of each 128-bit quarter, of lanes 4q to 4q + 3
        let b: [__m512i; 16] = std::array::from_fn(|i| {
            let (x, y) = (a[i / 4 * 4 + i % 4 / 2], a[i / 4 * 4 + i % 4 / 2 + 2]);
            if i % 2 == 0 { _mm512_unpacklo_epi64(x, y) } else { _mm512_unpackhi_epi64(x, y) }
        });
        // c: quarters (0, 2) or (1, 3) of two of those
        let c: [__m512i; 16] = std::array::from_fn(|i| {
            let (x, y) = (b[i / 8 * 8 + i % 4], b[i / 8 * 8 + i % 4 + 4]);
            if i % 8 < 4 { _mm512_shuffle_i32x4::<0x88>(x, y) } else { _mm512_shuffle_i32x4::<0xdd>(x, y) }
        });
        std::array::from_fn(|i| {
            let (quarter, word) = (i / 4, i % 4);
            let (x, y) = (c[quarter % 2 * 4 + word], c[quarter % 2 * 4 + word + 8]);
            if quarter < 2 { _mm512_shuffle_i32x4::<0x88>(x, y) } else { _mm512_shuffle_i32x4::<0xdd>(x, y) }
        })
    })
}

/// SHA-1 of up to eight messages of the same length.
#[target_feature(enable = "avx2")]
pub(crate) fn sha1_avx2(states: &mut [State1], messages: &[&[Block]]) {
    lanes::sha1::<V8>(states, messages);
}

/// SHA-256 of up to eight messages of the same length.
#[target_feature(enable = "avx2")]
pub(crate) fn sha256_avx2(states: &mut [State256], messages: &[&[Block]]) {
    lanes::sha256::<V8>(states, messages);
}

/// SHA-1 of up to sixteen messages of the same length.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn sha1_avx512(states: &mut [State1], messages: &[&[Block]]) {
    lanes::sha1::<V16>(states, messages);
}

/// SHA-256 of up to sixteen messages of the same length.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn sha256_avx512(states: &mut [State256], messages: &[&[Block]]) {
    lanes::sha256::<V16>(states, messages);
}
