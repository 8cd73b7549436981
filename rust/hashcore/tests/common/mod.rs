//! What the tests share: content, temporary files, the table of known answers.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    sync::atomic::{AtomicU32, Ordering},
};

use hashcore::{FileDigests, PIECE, StreamHasher};

/// Longest content any test needs.
pub const LONGEST: usize = 5 * PIECE as usize;

/// The bytes of which all test files are prefixes (same as in `make_bep52.py`).
pub fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let mut bytes = vec![0; LONGEST];
        blake3::Hasher::new().update(b"hali hashing vectors").finalize_xof().fill(&mut bytes);
        bytes
    })
}

/// Digests by the streaming hasher, which shares little code with the others.
pub fn by_stream(data: &[u8]) -> FileDigests {
    let mut hasher = StreamHasher::new().unwrap();
    hasher.update(data).unwrap();
    hasher.finish()
}

pub fn hex(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches('-');
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The rows of `bep52.txt`.
pub fn known_answers() -> Vec<FileDigests> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/hashing/bep52.txt");
    let row = |line: &str| {
        let columns: Vec<&str> = line.split(' ').collect();
        let hash = |i: usize| hex(columns[i]).try_into().unwrap_or([0; 32]);
        FileDigests {
            length: columns[0].parse().unwrap(),
            sha256: hash(1),
            blake3: hash(2),
            sha1_pieces: hex(columns[3]),
            v2_root: hash(4),
            v2_layer: hex(columns[5]),
        }
    };
    fs::read_to_string(table).unwrap().lines().skip(1).map(row).collect()
}

/// A file that goes with the value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(data: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hashcore-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, data).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// A small deterministic source of numbers (xorshift64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
}
