//! Why a file is not to be loaded.

use std::{fmt, io};

/// A file that must not reach llama.cpp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A short word for tests and logs.
    pub reason: &'static str,
    /// The sentence for people. Names in it come from the file, cut short and escaped.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// A refusal, or a file that could not be read.
#[derive(Debug)]
pub enum Error {
    /// The bytes are there and wrong.
    Refused(Refusal),
    /// The operating system did not give the bytes.
    Io(io::Error),
}

/// What every check here returns.
pub type Result<T> = std::result::Result<T, Error>;

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// `Err` of a refusal.
pub(crate) fn refuse<T>(reason: &'static str, message: String) -> Result<T> {
    Err(Error::Refused(Refusal { reason, message }))
}

/// Ok if `held`, else a refusal in the words that `message` makes.
pub(crate) fn demand(held: bool, reason: &'static str, message: impl FnOnce() -> String) -> Result<()> {
    if held { Ok(()) } else { refuse(reason, message()) }
}

/// A stranger's name as it may stand in a message: 60 characters, everything unusual escaped.
pub(crate) fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(60).collect::<String>())
}
