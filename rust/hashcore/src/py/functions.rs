//! Functions of the module.

use pyo3::{prelude::*, types::PyBytes};

use super::{
    convert::{FileTuple, PieceTuple, Target, detached, file_tuple, natural, piece_tuple, with_bytes},
    hasher::PieceHasher,
};
use crate::{FileDigests, FileState, Progress, Watcher};

/// Threads a caller may ask for; each holds a 16 MiB buffer.
const MAX_THREADS: usize = 256;

/// Calls Python for each piece, on the thread that called `hash_file`; the GIL is held only here.
struct Callback {
    on_piece: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Callback {
    /// Notes what was raised, if anything; whether to go on.
    fn keep(&mut self, outcome: PyResult<bool>) -> bool {
        outcome.unwrap_or_else(|error| {
            self.raised = Some(error);
            false
        })
    }
}

fn call(py: Python<'_>, on_piece: &Py<PyAny>, progress: &Progress) -> PyResult<bool> {
    let midstate = PyBytes::new(py, &progress.chain.save());
    let answer = on_piece.bind(py).call1((progress.index, piece_tuple(py, &progress.digests), midstate))?;
    Ok(!answer.is(pyo3::types::PyBool::new(py, false)))
}

impl Watcher for Callback {
    fn piece(&mut self, progress: &Progress) -> bool {
        let outcome = Python::attach(|py| {
            py.check_signals()?;
            self.on_piece.as_ref().map_or(Ok(true), |on_piece| call(py, on_piece, progress))
        });
        self.keep(outcome)
    }

    fn tick(&mut self) -> bool {
        let outcome = Python::attach(|py| py.check_signals().map(|()| true));
        self.keep(outcome)
    }
}

fn run(file: Target, known: Option<&FileState>, threads: usize, watcher: &mut Callback) -> crate::Result<FileDigests> {
    let source = file.open()?;
    match known {
        Some(state) => crate::hash_file(&source, state, threads, watcher),
        None => crate::hash_file(&source, &FileState::new(source.length()?)?, threads, watcher),
    }
}

#[pyfunction]
#[pyo3(signature = (file, threads=0, on_piece=None, known=None))]
pub(super) fn hash_file<'py>(
    py: Python<'py>,
    file: Target,
    threads: i64,
    on_piece: Option<Py<PyAny>>,
    known: Option<&Bound<'py, PieceHasher>>,
) -> PyResult<FileTuple<'py>> {
    let threads = natural::<usize>("threads", threads)?.min(MAX_THREADS);
    let state = known.map(|hasher| &hasher.get().state);
    let mut watcher = Callback { on_piece, raised: None };
    let result = py.detach(|| run(file, state, threads, &mut watcher));
    if let Some(error) = watcher.raised {
        return Err(error);
    }
    Ok(file_tuple(py, &result?))
}

#[pyfunction]
pub(super) fn hash_piece<'py>(data: &Bound<'py, PyAny>, index: i64, length: i64) -> PyResult<PieceTuple<'py>> {
    let (index, length) = (natural("piece", index)?, natural("length", length)?);
    let digests = with_bytes(data, |bytes| crate::hash_piece(bytes, index, length))?;
    Ok(piece_tuple(data.py(), &digests))
}

#[pyfunction]
pub(super) fn blake3_ranges<'py>(
    py: Python<'py>,
    file: Target,
    ranges: Vec<(i64, i64)>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let natural_pair = |&(offset, len): &(i64, i64)| Ok((natural("offset", offset)?, natural("length", len)?));
    let ranges: Vec<(u64, u64)> = ranges.iter().map(natural_pair).collect::<PyResult<_>>()?;
    let hashes = detached(py, || crate::blake3_ranges(&file.open()?, &ranges))?;
    Ok(hashes.iter().map(|hash| PyBytes::new(py, hash)).collect())
}

#[pyfunction]
#[pyo3(signature = (file, threads=0))]
pub(super) fn sha1_pieces(py: Python<'_>, file: Target, threads: i64) -> PyResult<Bound<'_, PyBytes>> {
    let threads = natural::<usize>("threads", threads)?.min(MAX_THREADS);
    let hashes = detached(py, || crate::sha1_pieces(&file.open()?, threads))?;
    Ok(PyBytes::new(py, &hashes))
}

#[pyfunction]
pub(super) fn backend() -> PyResult<String> {
    Ok(crate::backend()?)
}

#[pyfunction]
pub(super) fn available_backends() -> Vec<&'static str> {
    crate::available_backends()
}

#[pyfunction]
pub(super) fn build_profile() -> &'static str {
    crate::build_profile()
}
