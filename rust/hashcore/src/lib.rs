//! Piece hashing: one pass over bytes gives every digest hali needs of a model file.
//!
//! A *piece* is 16 MiB (v1 piece and v2 piece-layer node), a *block* 16 KiB (v2 leaf, BEP 52).
//! The core is plain Rust; the `python` feature adds the bindings in `py/`.

#[cfg(not(unix))]
compile_error!("hashcore reads files with pread and needs a Unix");

mod backend;
mod error;
mod file;
mod kernels;
mod layout;
mod memory;
mod merkle;
mod parallel;
mod piece;
mod queue;
mod ranges;
mod sha1;
mod sha1_pieces;
mod sha256;
mod source;
mod state;
mod stream;

#[cfg(feature = "python")]
mod py;

pub use backend::{available as available_backends, describe as backend};
pub use error::{Error, Result};
pub use file::{Progress, Watcher, default_threads, hash_file};
pub use layout::{BLOCK, MAX_LENGTH, PIECE, piece_count, piece_span};
pub use piece::{FileDigests, PieceDigests, hash_piece};
pub use ranges::blake3_ranges;
pub use sha1_pieces::sha1_pieces;
pub use sha256::{Chain, Hash};
pub use source::Source;
pub use state::FileState;
pub use stream::StreamHasher;

/// `release` or `debug`; a benchmark refuses to run on a debug build.
pub fn build_profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}
