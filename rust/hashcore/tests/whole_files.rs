//! `hash_file` and `blake3_ranges` on real files.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs::OpenOptions, path::Path};

use common::{TempFile, by_stream, content, known_answers};
use hashcore::{Error, FileState, PIECE, Progress, Source, Watcher, blake3_ranges, hash_file};

/// Keeps what it is told, and stops after `limit` pieces.
struct Keeper {
    seen: Vec<Progress>,
    limit: usize,
}

impl Watcher for Keeper {
    fn piece(&mut self, progress: &Progress) -> bool {
        self.seen.push(*progress);
        self.seen.len() < self.limit
    }
}

fn keeper(limit: usize) -> Keeper {
    Keeper { seen: Vec::new(), limit }
}

fn open(path: &Path) -> Source {
    Source::open(path).unwrap()
}

#[test]
fn one_or_many_threads_give_the_known_answers() {
    for expected in known_answers() {
        let file = TempFile::new(&content()[..expected.length as usize]);
        for threads in [1, 2, 5] {
            let (state, mut watcher) = (FileState::new(expected.length).unwrap(), keeper(usize::MAX));
            let found = hash_file(&open(&file.0), &state, threads, &mut watcher).unwrap();
            assert_eq!(found, expected, "{} bytes, {threads} threads", expected.length);
            assert_eq!(watcher.seen.len(), state.piece_count() as usize);
        }
    }
}

#[test]
fn a_cancelled_run_keeps_its_pieces_and_the_next_one_only_reads_the_rest() {
    let data = content();
    let file = TempFile::new(data);
    let state = FileState::new(data.len() as u64).unwrap();
    let stopped = hash_file(&open(&file.0), &state, 1, &mut keeper(2));
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let (held, prefix) = (state.have(), state.chain().pieces());
    assert!(held.len() >= 2);
    let mut watcher = keeper(usize::MAX);
    assert_eq!(hash_file(&open(&file.0), &state, 2, &mut watcher).unwrap(), by_stream(data));
    let again = watcher.seen.iter().filter(|p| held.contains(&p.index));
    assert!(again.clone().all(|p| p.index >= prefix), "read a piece that nothing needed");
}

#[test]
fn what_the_watcher_kept_is_enough_to_go_on_after_a_crash() {
    let data = &content()[..4 * PIECE as usize + 17];
    let file = TempFile::new(data);
    let mut watcher = keeper(3);
    let lost = FileState::new(data.len() as u64).unwrap();
    assert!(hash_file(&open(&file.0), &lost, 2, &mut watcher).is_err());
    let state = FileState::new(data.len() as u64).unwrap();
    for kept in &watcher.seen {
        state.record(kept.index, kept.digests).unwrap();
        state.restore_chain(&kept.chain.save()).unwrap();
    }
    assert_eq!(hash_file(&open(&file.0), &state, 2, &mut keeper(usize::MAX)).unwrap(), by_stream(data));
}

#[test]
fn nothing_is_read_when_all_is_known() {
    let data = &content()[..2 * PIECE as usize];
    let file = TempFile::new(data);
    let state = FileState::new(data.len() as u64).unwrap();
    let expected = hash_file(&open(&file.0), &state, 0, &mut keeper(usize::MAX)).unwrap();
    let mut watcher = keeper(usize::MAX);
    assert_eq!(hash_file(&open(&file.0), &state, 0, &mut watcher).unwrap(), expected);
    assert!(watcher.seen.is_empty());
}

#[test]
fn known_pieces_below_a_restored_chain_may_be_missing_and_are_found_again() {
    let data = &content()[..3 * PIECE as usize];
    let file = TempFile::new(data);
    let whole = FileState::new(data.len() as u64).unwrap();
    hash_file(&open(&file.0), &whole, 0, &mut keeper(usize::MAX)).unwrap();
    let state = FileState::new(data.len() as u64).unwrap();
    state.restore_chain(&whole.chain().save()).unwrap();
    assert_eq!(hash_file(&open(&file.0), &state, 2, &mut keeper(usize::MAX)).unwrap(), by_stream(data));
}

/// Changes the file after the first piece.
struct Meddler<'a> {
    path: &'a Path,
    length: u64,
    done: bool,
}

impl Watcher for Meddler<'_> {
    fn piece(&mut self, _: &Progress) -> bool {
        if !std::mem::replace(&mut self.done, true) {
            OpenOptions::new().write(true).open(self.path).unwrap().set_len(self.length).unwrap();
        }
        true
    }
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_hashed_is_an_error() {
    let data = content();
    for length in [PIECE, data.len() as u64 + 1] {
        let file = TempFile::new(data);
        let state = FileState::new(data.len() as u64).unwrap();
        let mut watcher = Meddler { path: &file.0, length, done: false };
        let error = hash_file(&open(&file.0), &state, 1, &mut watcher).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
}

#[test]
fn a_file_of_another_length_than_expected_is_an_error() {
    let file = TempFile::new(b"four");
    let state = FileState::new(5).unwrap();
    let error = hash_file(&open(&file.0), &state, 1, &mut keeper(9)).unwrap_err();
    assert!(error.to_string().contains("has 4 bytes instead of 5"), "{error}");
}

#[test]
fn a_folder_a_device_and_a_missing_file_are_io_errors_with_their_name() {
    let folder = std::env::temp_dir();
    let error = open(&folder).length().unwrap_err();
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    assert!(open(Path::new("/dev/null")).length().unwrap_err().to_string().contains("not a regular file"));
    let missing = folder.join("no such file");
    assert!(Source::open(&missing).is_err_and(|e| e.to_string().contains("no such file: ")));
}

#[test]
fn a_piece_on_disk_hashes_as_in_memory() {
    let data = &content()[..PIECE as usize + 77_777];
    let file = TempFile::new(data);
    for (index, piece) in data.chunks(PIECE as usize).enumerate() {
        let expected = hashcore::hash_piece(piece, index as u32, data.len() as u64).unwrap();
        let state = FileState::new(data.len() as u64).unwrap();
        let (found, after) = state.hash_at(&open(&file.0), index as u32).unwrap();
        assert_eq!(found, expected);
        assert_eq!(after.map(|chain| chain.pieces()), (index == 0).then_some(1));
    }
}

#[test]
fn ranges_are_hashed_as_files_of_their_own() {
    let data = &content()[..PIECE as usize];
    let file = TempFile::new(data);
    let mut ranges = vec![(0, PIECE), (PIECE, 0), (1, 1), (12_345, 600_001), (PIECE - 1, 1), (0, 0)];
    // Many of many sizes, so that threads finish them in another order than the one asked for.
    ranges.extend((0..60).map(|i| (i * 77_777, (i % 7) * 300_000)));
    let found = blake3_ranges(&open(&file.0), &ranges).unwrap();
    for ((offset, len), hash) in ranges.iter().zip(found) {
        assert_eq!(hash, *blake3::hash(&data[*offset as usize..][..*len as usize]).as_bytes());
    }
    for bad in [(PIECE, 1), (0, PIECE + 1), (u64::MAX, 1), (1, u64::MAX)] {
        assert!(matches!(blake3_ranges(&open(&file.0), &[bad]), Err(Error::BadRange { .. })));
    }
}
