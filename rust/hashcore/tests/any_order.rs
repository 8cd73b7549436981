//! Pieces in any order, saved states, streams cut anywhere.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, TempFile, by_stream, content};
use hashcore::{BLOCK, Error, FileState, PIECE, Source, StreamHasher, hash_piece, piece_span};

fn piece(data: &[u8], index: u32) -> &[u8] {
    let (offset, size) = piece_span(index, data.len() as u64).unwrap();
    &data[offset as usize..][..size]
}

/// Lengths near block and piece edges, up to five pieces.
fn length(numbers: &mut Numbers) -> usize {
    let edge = [BLOCK, PIECE][numbers.below(2) as usize];
    let base = edge * numbers.below(5);
    (base + numbers.below(140)).saturating_sub(70) as usize
}

#[test]
fn any_order_of_pieces_gives_the_digests_of_the_stream() {
    let mut numbers = Numbers(42);
    for _ in 0..10 {
        let data = &content()[..length(&mut numbers)];
        let (state, file) = (FileState::new(data.len() as u64).unwrap(), TempFile::new(data));
        for index in numbers.shuffled(state.piece_count()) {
            state.add(index, piece(data, index)).unwrap();
        }
        assert_eq!(state.catch_up(&Source::open(&file.0).unwrap()).unwrap(), state.piece_count());
        assert_eq!(state.finish().unwrap(), by_stream(data), "{}", data.len());
    }
}

#[test]
fn small_files_of_every_length_agree_with_the_stream() {
    for length in 0..300 {
        let data = &content()[..length];
        let state = FileState::new(length as u64).unwrap();
        if length > 0 {
            state.add(0, data).unwrap();
        }
        assert_eq!(state.finish().unwrap(), by_stream(data), "{length}");
    }
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_digests() {
    let mut numbers = Numbers(7);
    let data = &content()[..2 * PIECE as usize + 999];
    let expected = by_stream(data);
    for most in [3 * BLOCK, PIECE, 3 * PIECE] {
        let mut hasher = StreamHasher::new().unwrap();
        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((numbers.below(most) as usize).min(rest.len()));
            hasher.update(now).unwrap();
            rest = later;
        }
        assert_eq!(hasher.length(), data.len() as u64);
        assert_eq!(hasher.finish(), expected);
    }
}

#[test]
fn the_chain_goes_on_from_where_it_was_saved() {
    let data = &content()[..3 * PIECE as usize + 100];
    for saved_after in 0..=4u32 {
        let first = FileState::new(data.len() as u64).unwrap();
        let digests: Vec<_> = (0..saved_after).map(|i| first.add(i, piece(data, i)).unwrap()).collect();
        let second = FileState::new(data.len() as u64).unwrap();
        second.restore_chain(&first.chain().save()).unwrap();
        for (index, digests) in digests.iter().enumerate() {
            second.record(index as u32, *digests).unwrap();
        }
        assert_eq!(second.chain().pieces(), saved_after);
        for index in saved_after..4 {
            second.add(index, piece(data, index)).unwrap();
        }
        assert_eq!(second.finish().unwrap(), by_stream(data));
    }
}

#[test]
fn a_saved_chain_of_another_file_or_size_is_refused() {
    let state = FileState::new(2 * PIECE).unwrap();
    let saved = state.chain().save();
    for bad in [&saved[..39], &[], &[0xff; 40], &[&[0; 7][..], &[3], &[0; 32]].concat()] {
        assert!(matches!(state.restore_chain(bad), Err(Error::BadMidstate(_))));
    }
    state.restore_chain(&saved).unwrap();
}

#[test]
fn finish_says_what_is_missing() {
    let data = &content()[..3 * PIECE as usize];
    let state = FileState::new(data.len() as u64).unwrap();
    state.add(2, piece(data, 2)).unwrap();
    assert_eq!((state.have(), state.missing(), state.complete()), (vec![2], vec![0, 1], false));
    let error = state.finish().unwrap_err();
    assert!(matches!(error, Error::Incomplete { missing: 2, prefix: 0, count: 3 }), "{error}");
}

#[test]
fn catch_up_goes_as_far_as_pieces_are_known() {
    let data = &content()[..3 * PIECE as usize];
    let (state, file) = (FileState::new(data.len() as u64).unwrap(), TempFile::new(data));
    let source = Source::open(&file.0).unwrap();
    for (index, prefix) in [(1, 0), (0, 2), (2, 3)] {
        state.record(index, hash_piece(piece(data, index), index, data.len() as u64).unwrap()).unwrap();
        assert_eq!(state.catch_up(&source).unwrap(), prefix);
    }
    assert_eq!(state.finish().unwrap(), by_stream(data));
}

#[test]
fn a_chain_found_beforehand_is_believed_only_where_it_fits() {
    let data = &content()[..2 * PIECE as usize + 5];
    let (state, file) = (FileState::new(data.len() as u64).unwrap(), TempFile::new(data));
    let source = Source::open(&file.0).unwrap();
    let (first, after_first) = state.hash_at(&source, 0).unwrap();
    assert!(state.hash_at(&source, 1).unwrap().1.is_none(), "the chain is not there yet");
    assert_eq!(state.chain().pieces(), 0, "looking changes nothing");
    let after_first = after_first.unwrap();
    state.record(0, first).unwrap();
    assert!(state.advance(after_first));
    assert!(!state.advance(after_first), "the chain has passed it");
    for index in 1..3 {
        let (digests, after) = state.hash_at(&source, index).unwrap();
        state.record(index, digests).unwrap();
        assert!(state.advance(after.unwrap()));
    }
    assert_eq!(state.finish().unwrap(), by_stream(data));
}

#[test]
fn threads_may_add_pieces_of_one_file_at_the_same_time() {
    let data = &content()[..5 * PIECE as usize - 1];
    let (state, file) = (FileState::new(data.len() as u64).unwrap(), TempFile::new(data));
    let source = Source::open(&file.0).unwrap();
    std::thread::scope(|scope| {
        for start in 0..3 {
            let (state, source) = (&state, &source);
            scope.spawn(move || {
                for index in (start..5).step_by(3) {
                    state.add(index, piece(data, index)).unwrap();
                    state.catch_up(source).unwrap();
                }
            });
        }
    });
    assert_eq!(state.finish().unwrap(), by_stream(data));
}
