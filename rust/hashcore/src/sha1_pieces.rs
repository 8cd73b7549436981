//! The v1 piece hashes of a file by themselves.

use crate::{
    backend::active,
    error::Result,
    file::default_threads,
    layout::{piece_count, piece_span},
    parallel::in_parallel,
    sha1::{Sha1, Sha1Hash},
    source::Source,
};

/// Bytes read at a time, of all pieces of a group together: below it the calls cost, above it the caches miss.
///
/// A mapped file would save the copy (0.23 s instead of 0.26 for a GiB on one core), but a file that is cut short
/// meanwhile would then end the process with SIGBUS instead of an error.
const READ: usize = 3 << 20;

/// SHA-1 of each 16 MiB piece of `source`, one after the other; `threads = 0` means [`default_threads`].
///
/// Takes little memory: strides of as many pieces as the backend hashes side by side.
pub fn sha1_pieces(source: &Source, threads: usize) -> Result<Vec<u8>> {
    let before = source.stamp()?;
    let backend = active()?;
    let indices: Vec<u32> = (0..piece_count(before.length)?).collect();
    let threads = if threads == 0 { default_threads() } else { threads };
    let share = indices.len().div_ceil(threads).max(1);
    let groups: Vec<&[u32]> = indices.chunks(backend.lanes.min(share)).collect();
    let hashes = in_parallel(&groups, threads, |group| hash_group(source, group, before.length))?;
    source.check_unchanged(before)?;
    Ok(hashes.concat().concat())
}

fn hash_group(source: &Source, indices: &[u32], length: u64) -> Result<Vec<Sha1Hash>> {
    let backend = active()?;
    let spans: Vec<(u64, usize)> = indices.iter().map(|&index| piece_span(index, length)).collect::<Result<_>>()?;
    let mut works = vec![Sha1::new(); indices.len()];
    let stride = (READ / backend.lanes).next_multiple_of(64 << 10);
    let mut buffers = vec![vec![0; stride]; indices.len()];
    let mut rests = vec![Vec::new(); indices.len()];
    let longest = spans.iter().map(|span| span.1).max().unwrap_or(0);
    for at in (0..longest).step_by(stride) {
        let mut strides = Vec::with_capacity(indices.len());
        for (&(offset, size), buffer) in spans.iter().zip(&mut buffers) {
            let part = &mut buffer[..stride.min(size.saturating_sub(at))];
            source.read_at(part, offset + at as u64)?;
            strides.push(&*part);
        }
        let mut messages: Vec<&mut Sha1> = works.iter_mut().collect();
        for (rest, left) in rests.iter_mut().zip(Sha1::update_all(backend, &mut messages, &strides)) {
            rest.extend_from_slice(left);
        }
    }
    Ok(works.into_iter().zip(rests).map(|(work, rest)| work.finish(backend, &rest)).collect())
}
