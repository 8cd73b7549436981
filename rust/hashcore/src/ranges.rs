//! BLAKE3 of any byte ranges of a file, many at once.

use crate::{
    error::{Error, Result},
    file::default_threads,
    parallel::in_parallel,
    source::Source,
};

/// Bytes read at a time: large enough for BLAKE3's widest SIMD, small enough for the L2 cache.
const READ: u64 = 256 << 10;

/// BLAKE3 of each `(offset, len)` of `source`, in the order given. Ranges may overlap.
pub fn blake3_ranges(source: &Source, ranges: &[(u64, u64)]) -> Result<Vec<[u8; 32]>> {
    let before = source.stamp()?;
    for &(offset, len) in ranges {
        if offset.checked_add(len).is_none_or(|end| end > before.length) {
            return Err(Error::BadRange { offset, len, length: before.length });
        }
    }
    let hashes = in_parallel(ranges, default_threads(), |&(offset, len)| hash_range(source, offset, len))?;
    source.check_unchanged(before)?;
    Ok(hashes)
}

fn hash_range(source: &Source, offset: u64, len: u64) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ.min(len) as usize];
    let mut done = 0;
    while done < len {
        let now = READ.min(len - done) as usize;
        source.read_at(&mut buffer[..now], offset + done)?;
        hasher.update(&buffer[..now]);
        done += now as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}
