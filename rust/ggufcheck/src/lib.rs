//! Tells GGUF files that llama.cpp can load from those that would kill or mislead it.
//!
//! One flipped bit in a header can make llama.cpp abort its process, or load a model that is another one. Everything here
//! counts with checked arithmetic within a budget (`limits`), reads headers only, and believes no number before it has
//! been compared with the bytes that are there. The rules are those that llama.cpp's loader, vocabularies and graphs
//! assert; a file that it refuses by itself, with a message, may pass.
//!
//! The core is plain Rust; the `python` feature adds the bindings in `py.rs`.

mod adapter;
mod archs;
mod blocks;
mod charsmap;
mod cursor;
mod ggml;
mod header;
mod hparams;
pub mod limits;
mod model;
mod refusal;
mod special;
mod tensor;
mod value;
mod vocabulary;

#[cfg(feature = "python")]
mod py;

pub use cursor::Span;
pub use ggml::{Class, TensorType, tensor_type};
pub use header::Header;
pub use refusal::{Error, Refusal, Result};
pub use tensor::Tensor;
pub use value::{Kind, Value};

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The header of one file, or why it must not be believed.
pub fn read_header(source: impl Read, size: u64) -> Result<Header> {
    Header::read(source, size)
}

/// Refused if the files of a model, the first one first, must not reach llama.cpp.
pub fn check_model(headers: &[Header]) -> Result<()> {
    let model = model::Model::new(headers)?;
    let tokens = vocabulary::check(&model)?;
    hparams::check(&model)?;
    blocks::check(&model, tokens)
}

/// `check_model` of files. With the error comes the number of the file that it is about.
pub fn check_files<P: AsRef<Path>>(paths: &[P]) -> std::result::Result<(), (usize, Error)> {
    let mut headers = Vec::with_capacity(paths.len());
    for (number, path) in paths.iter().enumerate() {
        headers.push(open(path.as_ref()).map_err(|error| (number, error))?);
    }
    check_model(&headers).map_err(|error| (0, error))
}

/// Refused if the header of a file of any other kind (a projector) is not well formed.
pub fn check_header_file(path: &Path) -> Result<()> {
    open(path).map(|_| ())
}

/// Refused if a LoRA adapter must not reach llama.cpp.
pub fn check_adapter(header: &Header) -> Result<()> {
    adapter::check(header)
}

/// `check_adapter` of a file.
pub fn check_adapter_file(path: &Path) -> Result<()> {
    check_adapter(&open(path)?)
}

fn open(path: &Path) -> Result<Header> {
    if !std::fs::metadata(path)?.is_file() {
        // asked before it is opened: opening a pipe would wait for a writer
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    read_header(file, size)
}
