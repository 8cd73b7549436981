//! What can go wrong, grouped by what the caller can do about it.

use std::{fmt, io, path::PathBuf};

/// Result of everything fallible in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why hashing failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; `path` is set when the caller named one.
    Io {
        /// What the operating system said.
        source: io::Error,
        /// The file, when it was opened by name.
        path: Option<PathBuf>,
    },
    /// The file is not (or no longer) the one that was to be hashed.
    Changed {
        /// Name of the file, or `<file descriptor>`.
        path: PathBuf,
        /// What differs, in words.
        what: String,
    },
    /// The watcher asked to stop.
    Cancelled,
    /// A length above [`crate::MAX_LENGTH`].
    TooLong {
        /// The length asked for.
        length: u64,
    },
    /// No such piece.
    BadIndex {
        /// The index asked for.
        index: u32,
        /// How many pieces there are.
        count: u32,
    },
    /// The data given for a piece has the wrong size.
    WrongSize {
        /// The piece.
        index: u32,
        /// Its size in bytes.
        expected: usize,
        /// The bytes given.
        got: usize,
    },
    /// `finish` before everything is known.
    Incomplete {
        /// Pieces with no digests.
        missing: u32,
        /// Pieces covered by the file's SHA-256.
        prefix: u32,
        /// All pieces.
        count: u32,
    },
    /// A byte range that does not lie in the file.
    BadRange {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Length of the file.
        length: u64,
    },
    /// A saved state that cannot belong to this file.
    BadMidstate(String),
    /// `HALI_HASH_BACKEND` names a backend that this processor (or this program) does not have.
    NoBackend {
        /// The name.
        asked: String,
    },
}

impl Error {
    /// An I/O error on `path`.
    pub fn io(source: io::Error, path: Option<&std::path::Path>) -> Self {
        Self::Io { source, path: path.map(PathBuf::from) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { source, path: Some(path) } => write!(f, "{}: {source}", path.display()),
            Self::Io { source, path: None } => write!(f, "{source}"),
            Self::Changed { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Cancelled => write!(f, "hashing was cancelled"),
            Self::TooLong { length } => {
                write!(f, "length {length} is above the limit of {} bytes", crate::MAX_LENGTH)
            }
            Self::BadIndex { index, count } => write!(f, "no piece {index}: there are {count}"),
            Self::WrongSize { index, expected, got } => {
                write!(f, "piece {index} has {expected} bytes, got {got}")
            }
            Self::Incomplete { missing, prefix, count } => {
                write!(f, "not complete: {missing} of {count} pieces missing, SHA-256 covers {prefix}")
            }
            Self::BadRange { offset, len, length } => {
                write!(f, "range of {len} bytes at {offset} is outside a file of {length} bytes")
            }
            Self::NoBackend { asked } => {
                let have = crate::available_backends().join(", ");
                write!(f, "{} is {asked:?}; this processor has {have}", crate::backend::VARIABLE)
            }
            Self::BadMidstate(why) => write!(f, "bad SHA-256 midstate: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
