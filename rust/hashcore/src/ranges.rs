//! BLAKE3 of any byte ranges of a file, many at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{
    error::{Error, Result},
    file::default_threads,
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
    let hashes = in_parallel(ranges, |&(offset, len)| hash_range(source, offset, len))?;
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

/// Maps `work` over `items` on a few threads; results in order, or the first error met.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut mine = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(mine) };
            mine.push((at, work(item)?));
        }
    };
    let parts: Vec<Result<Vec<(usize, R)>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..default_threads().min(items.len())).map(|_| scope.spawn(worker)).collect();
        let join = |t: thread::ScopedJoinHandle<'_, _>| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        threads.into_iter().map(join).collect()
    });
    let mut all = Vec::with_capacity(items.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
