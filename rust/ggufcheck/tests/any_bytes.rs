//! Whatever the bytes, the checker passes or refuses: it neither panics nor counts beyond its numbers.

mod common;

use common::{Image, judged};

/// xorshift64*: the same damage each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

fn rounds() -> usize {
    if std::env::var_os("HALI_LONG").is_some() { 400_000 } else { 10_000 }
}

#[test]
fn damaged_headers_pass_or_are_refused() {
    let (good, size) = Image::llama().pack();
    let edges = [0_u64, 1, 31, 255, 1 << 16, 1 << 31, u32::MAX.into(), 1 << 32, 1 << 62, u64::MAX];
    let mut chance = Chance(1);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..rounds() {
        let mut bytes = good.clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len());
            match chance.below(4) {
                0 | 1 => bytes[at] ^= 1 << chance.below(8),
                2 => bytes[at] = chance.below(256) as u8,
                _ => {
                    let edge = edges[chance.below(edges.len())].to_le_bytes();
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&edge[..end - at]);
                }
            }
        }
        match judged(&bytes, size) {
            Ok(()) => passed += 1,
            Err(refusal) => {
                assert!(!refusal.message.is_empty() && refusal.message.len() < 1000, "{}", refusal.message);
                refused += 1;
            }
        }
    }
    assert!(passed > 0 && refused > rounds() / 4, "{passed} passed and {refused} were refused");
}

#[test]
fn garbage_behind_the_magic_is_refused() {
    let mut chance = Chance(2);
    for _ in 0..rounds() / 10 {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((0..chance.below(300)).map(|_| chance.below(256) as u8));
        assert!(judged(&bytes, bytes.len() as u64).is_err());
    }
}
