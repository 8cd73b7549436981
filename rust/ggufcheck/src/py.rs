//! Python bindings: convert, release the GIL, map errors. The docs are in `ggufcheck.pyi`.

use std::{io, path::PathBuf};

use pyo3::{
    create_exception,
    exceptions::{PyOSError, PyValueError},
    prelude::*,
};

use crate::Error;

create_exception!(hali._native.ggufcheck, Refused, PyValueError, "A file that must not reach llama.cpp.");

#[pymodule(gil_used = false)]
mod ggufcheck {
    #[pymodule_export]
    use super::{Refused, check, check_adapter, check_header};
}

/// See the stub.
#[pyfunction]
fn check(py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<()> {
    py.detach(|| crate::check_files(&paths))
        .map_err(|(number, error)| mapped(error, number, paths.get(number).cloned().unwrap_or_default()))
}

/// See the stub.
#[pyfunction]
fn check_adapter(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    py.detach(|| crate::check_adapter_file(&path)).map_err(|error| mapped(error, 0, path))
}

/// See the stub.
#[pyfunction]
fn check_header(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    py.detach(|| crate::check_header_file(&path)).map_err(|error| mapped(error, 0, path))
}

fn mapped(error: Error, number: usize, path: PathBuf) -> PyErr {
    match error {
        Error::Refused(refusal) => Refused::new_err((refusal.reason, refusal.message, number)),
        Error::Io(error) => os_error(&error, path),
    }
}

/// `OSError(errno, text, filename)`, which Python turns into `FileNotFoundError` and the like.
fn os_error(error: &io::Error, path: PathBuf) -> PyErr {
    const EIO: i32 = 5; // our own words, of a file that is none or was cut meanwhile, come without a number
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    PyOSError::new_err((error.raw_os_error().unwrap_or(EIO), text, path.into_os_string()))
}
