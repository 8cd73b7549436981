//! Digests against published vectors and against tables made by other programs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{by_stream, content, hex, known_answers};
use hashcore::{FileState, PIECE, hash_piece, piece_count, piece_span};

/// Digests by pieces given in order.
fn by_pieces(data: &[u8]) -> hashcore::FileDigests {
    let state = FileState::new(data.len() as u64).unwrap();
    for (index, piece) in data.chunks(PIECE as usize).enumerate() {
        state.add(index as u32, piece).unwrap();
    }
    state.finish().unwrap()
}

#[test]
fn sha1_and_sha256_give_the_answers_of_fips_180() {
    let million = vec![b'a'; 1_000_000];
    // Examples of FIPS 180-2, appendices A and B, and the empty message.
    let cases: [(&[u8], &str, &str); 3] = [
        (
            b"abc",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            &million,
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    for (data, sha1, sha256) in cases {
        let digests = by_pieces(data);
        assert_eq!(digests.sha1_pieces, hex(sha1));
        assert_eq!(digests.sha256.to_vec(), hex(sha256));
    }
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(by_pieces(b"").sha256.to_vec(), hex(empty));
}

#[test]
fn blake3_gives_the_answers_of_its_authors() {
    // test_vectors.json of BLAKE3: input is 0, 1, …, 250, 0, 1, … of that length.
    let cases = [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
        (3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"),
        (7169, "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817"),
    ];
    for (length, expected) in cases {
        let data: Vec<u8> = (0..=250u8).cycle().take(length).collect();
        assert_eq!(by_pieces(&data).blake3.to_vec(), hex(expected), "{length}");
        assert_eq!(by_stream(&data).blake3.to_vec(), hex(expected), "{length}");
    }
}

#[test]
fn pieces_and_stream_give_what_libtorrent_hashlib_and_blake3_gave() {
    let answers = known_answers();
    assert!(answers.len() > 20);
    for expected in answers {
        let data = &content()[..expected.length as usize];
        assert_eq!(by_pieces(data), expected, "pieces, {}", expected.length);
        assert_eq!(by_stream(data), expected, "stream, {}", expected.length);
    }
}

#[test]
fn a_piece_of_the_wrong_size_or_index_is_refused() {
    let length = PIECE + 5;
    assert!(hash_piece(&content()[..PIECE as usize], 0, length).is_ok());
    assert!(hash_piece(&content()[..5], 1, length).is_ok());
    for (size, index) in [(PIECE as usize - 1, 0), (5, 0), (4, 1), (6, 1), (0, 1), (0, 2), (5, u32::MAX)] {
        let error = hash_piece(&content()[..size], index, length).unwrap_err().to_string();
        assert!(error.contains("piece"), "{error}");
    }
}

#[test]
fn a_length_that_no_file_has_is_refused_before_memory_is_asked_for() {
    assert_eq!(piece_count(hashcore::MAX_LENGTH).unwrap(), 1 << 20);
    for length in [hashcore::MAX_LENGTH + 1, u64::MAX] {
        assert!(piece_count(length).is_err() && piece_span(0, length).is_err() && FileState::new(length).is_err());
    }
}
