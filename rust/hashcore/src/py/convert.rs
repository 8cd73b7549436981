//! The border: buffers, files, numbers and errors.

use std::{
    fs::File,
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
};

use pyo3::{
    buffer::PyUntypedBuffer,
    create_exception,
    exceptions::{PyException, PyOSError, PyValueError},
    prelude::*,
    types::PyBytes,
};

use crate::{Error, FileDigests, PieceDigests, Source};

create_exception!(hali._native.hashcore, Cancelled, PyException, "A callback returned False.");
create_exception!(hali._native.hashcore, FileChanged, PyOSError, "The file changed while it was hashed.");
create_exception!(
    hali._native.hashcore,
    NoBackend,
    PyValueError,
    "HALI_HASH_BACKEND names no backend of this processor."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, path } => os_error(&source, path),
            Error::Changed { .. } => FileChanged::new_err(error.to_string()),
            Error::NoBackend { .. } => NoBackend::new_err(error.to_string()),
            Error::Cancelled => Cancelled::new_err(error.to_string()),
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}

/// `OSError(errno, text, filename)`, which Python turns into `FileNotFoundError` and the like.
fn os_error(source: &std::io::Error, path: Option<PathBuf>) -> PyErr {
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    // Only our own refusals (not a regular file, a NUL in the name) come without an errno.
    let errno = source.raw_os_error().unwrap_or(libc::EINVAL);
    match path {
        Some(path) => PyOSError::new_err((errno, text, path.into_os_string())),
        None => PyOSError::new_err((errno, text)),
    }
}

/// Runs `work` without the GIL and maps its error.
pub(super) fn detached<R: Send>(py: Python<'_>, work: impl FnOnce() -> crate::Result<R> + Send) -> PyResult<R> {
    py.detach(work).map_err(PyErr::from)
}

/// Runs `work` on the bytes of a buffer, without a copy and without the GIL.
pub(super) fn with_bytes<R: Send>(
    data: &Bound<'_, PyAny>,
    work: impl FnOnce(&[u8]) -> crate::Result<R> + Send,
) -> PyResult<R> {
    let buffer = PyUntypedBuffer::get(data)?;
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("the buffer is not contiguous"));
    }
    let len = buffer.len_bytes();
    let bytes: &[u8] = if len == 0 {
        &[] // an empty buffer may have a null pointer, which a slice must not
    } else {
        // SAFETY: a C-contiguous export is `len` readable bytes, and while the export is held the
        // exporter neither frees nor moves them; `buffer` outlives `bytes`. That nobody writes to
        // them meanwhile cannot be enforced (hashlib has the same limit); the stub demands it.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), len) }
    };
    let result = detached(data.py(), || work(bytes));
    buffer.release(data.py());
    result
}

/// A file named by the caller: a path, or a descriptor of an open file.
pub(super) enum Target {
    Path(PathBuf),
    Open(OwnedFd),
}

impl Target {
    /// Opens the file; may wait for the disk, so call it without the GIL.
    pub(super) fn open(self) -> crate::Result<Source> {
        match self {
            Self::Path(path) => Source::open(&path),
            Self::Open(fd) => Ok(Source::from_file(File::from(fd))),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Target {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(fd) = object.extract::<i32>() else {
            return Ok(Self::Path(object.extract()?));
        };
        if fd < 0 {
            return Err(PyValueError::new_err(format!("{fd} is not a file descriptor")));
        }
        // SAFETY: `fd` is not -1, and it is only used for the call that duplicates it, under the
        // GIL. A closed one gives EBADF. The duplicate stays ours if Python closes `fd` meanwhile.
        let owned = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        Ok(Self::Open(owned.map_err(|e| os_error(&e, None))?))
    }
}

/// A Python int that must not be negative and must fit.
pub(super) fn natural<T: TryFrom<i64>>(name: &str, value: i64) -> PyResult<T> {
    T::try_from(value).map_err(|_| PyValueError::new_err(format!("{name} {value} is out of range")))
}

/// Exactly `N` bytes.
pub(super) fn exactly<const N: usize>(name: &str, bytes: &[u8]) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| PyValueError::new_err(format!("{name} has {} bytes instead of {N}", bytes.len())))
}

/// `(sha1, root, cv)`.
pub(super) type PieceTuple<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

pub(super) fn piece_tuple<'py>(py: Python<'py>, digests: &PieceDigests) -> PieceTuple<'py> {
    (PyBytes::new(py, &digests.sha1), PyBytes::new(py, &digests.root), PyBytes::new(py, &digests.cv))
}

/// `(length, sha256, blake3, sha1_pieces, v2_root, v2_layer)`.
pub(super) type FileTuple<'py> =
    (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

pub(super) fn file_tuple<'py>(py: Python<'py>, digests: &FileDigests) -> FileTuple<'py> {
    (
        digests.length,
        PyBytes::new(py, &digests.sha256),
        PyBytes::new(py, &digests.blake3),
        PyBytes::new(py, &digests.sha1_pieces),
        PyBytes::new(py, &digests.v2_root),
        PyBytes::new(py, &digests.v2_layer),
    )
}
