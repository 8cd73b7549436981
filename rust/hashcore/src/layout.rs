//! Where pieces and blocks lie in a file.

use crate::error::{Error, Result};

/// Bytes of a piece: the v1 piece length and the node size of the v2 piece layer.
pub const PIECE: u64 = 16 << 20;

/// Bytes of a block, the leaf of the v2 merkle tree (fixed by BEP 52).
pub const BLOCK: u64 = 16 << 10;

/// Largest length taken: 16 TiB, ext4's file size limit. It keeps piece indices within `u32`
/// and stops a lying length from asking for a huge table.
pub const MAX_LENGTH: u64 = 16 << 40;

/// How many pieces a file of `length` bytes has; an empty file has none.
pub fn piece_count(length: u64) -> Result<u32> {
    if length > MAX_LENGTH {
        return Err(Error::TooLong { length });
    }
    // MAX_LENGTH / PIECE is 2^20.
    Ok(length.div_ceil(PIECE) as u32)
}

/// Offset and size of piece `index` in a file of `length` bytes.
pub fn piece_span(index: u32, length: u64) -> Result<(u64, usize)> {
    let count = piece_count(length)?;
    if index >= count {
        return Err(Error::BadIndex { index, count });
    }
    let offset = u64::from(index) * PIECE;
    Ok((offset, PIECE.min(length - offset) as usize))
}
