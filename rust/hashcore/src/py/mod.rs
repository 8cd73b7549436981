//! Python bindings: convert, release the GIL, map errors. The docs are in `hashcore.pyi`.

mod convert;
mod functions;
mod hasher;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod hashcore {
    #[pymodule_export]
    use super::convert::{Cancelled, FileChanged, NoBackend};
    #[pymodule_export]
    use super::functions::{
        available_backends, backend, blake3_ranges, build_profile, hash_file, hash_piece, sha1_pieces,
    };
    #[pymodule_export]
    use super::hasher::{PieceHasher, StreamHasher};
}
