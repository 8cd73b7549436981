//! `PieceHasher` and `StreamHasher`.

use std::sync::{Mutex, PoisonError};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use super::convert::{FileTuple, PieceTuple, Target, detached, exactly, file_tuple, natural, piece_tuple, with_bytes};
use crate::{FileState, PieceDigests};

#[pyclass(module = "hali._native.hashcore", frozen)]
pub(super) struct PieceHasher {
    pub(super) state: FileState,
}

#[pymethods]
impl PieceHasher {
    #[new]
    fn new(length: i64) -> PyResult<Self> {
        Ok(Self { state: FileState::new(natural("length", length)?)? })
    }

    #[getter]
    fn length(&self) -> u64 {
        self.state.length()
    }

    #[getter]
    fn piece_count(&self) -> u32 {
        self.state.piece_count()
    }

    #[getter]
    fn prefix(&self) -> u32 {
        self.state.chain().pieces()
    }

    #[getter]
    fn complete(&self) -> bool {
        self.state.complete()
    }

    fn add_piece<'py>(&self, index: i64, data: &Bound<'py, PyAny>) -> PyResult<PieceTuple<'py>> {
        let index = natural("piece", index)?;
        let digests = with_bytes(data, |bytes| self.state.add(index, bytes))?;
        Ok(piece_tuple(data.py(), &digests))
    }

    fn hash_piece_at<'py>(
        &self,
        py: Python<'py>,
        file: Target,
        index: i64,
    ) -> PyResult<(PieceTuple<'py>, Option<Bound<'py, PyBytes>>)> {
        let index = natural("piece", index)?;
        let (digests, after) = detached(py, || self.state.hash_at(&file.open()?, index))?;
        Ok((piece_tuple(py, &digests), after.map(|chain| PyBytes::new(py, &chain.save()))))
    }

    fn advance(&self, py: Python<'_>, midstate: &[u8]) -> PyResult<bool> {
        // Detached because it waits for a piece that another thread feeds.
        detached(py, || Ok(self.state.advance(self.state.load_chain(midstate)?)))
    }

    fn record(&self, index: i64, sha1: &[u8], root: &[u8], cv: &[u8]) -> PyResult<()> {
        let digests =
            PieceDigests { sha1: exactly("sha1", sha1)?, root: exactly("root", root)?, cv: exactly("cv", cv)? };
        Ok(self.state.record(natural("piece", index)?, digests)?)
    }

    fn piece<'py>(&self, py: Python<'py>, index: i64) -> PyResult<Option<PieceTuple<'py>>> {
        Ok(self.state.get(natural("piece", index)?).map(|digests| piece_tuple(py, &digests)))
    }

    fn catch_up(&self, py: Python<'_>, file: Target) -> PyResult<u32> {
        detached(py, || self.state.catch_up(&file.open()?))
    }

    fn midstate<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.state.chain().save())
    }

    fn restore_midstate(&self, py: Python<'_>, saved: &[u8]) -> PyResult<()> {
        // Detached because it waits for a piece that another thread feeds.
        detached(py, || self.state.restore_chain(saved))
    }

    fn have(&self) -> Vec<u32> {
        self.state.have()
    }

    fn missing(&self) -> Vec<u32> {
        self.state.missing()
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<FileTuple<'py>> {
        Ok(file_tuple(py, &detached(py, || self.state.finish())?))
    }
}

#[pyclass(module = "hali._native.hashcore", frozen)]
pub(super) struct StreamHasher {
    inner: Mutex<Option<crate::StreamHasher>>,
}

impl StreamHasher {
    /// `None` once finished. Taken without the GIL: another thread may be hashing under the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<crate::StreamHasher>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the stream is finished")
}

#[pymethods]
impl StreamHasher {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self { inner: Mutex::new(Some(crate::StreamHasher::new()?)) })
    }

    #[getter]
    fn length(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.lock().as_ref().map(crate::StreamHasher::length)).ok_or_else(finished)
    }

    fn update(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let taken = with_bytes(data, |bytes| self.lock().as_mut().map(|hasher| hasher.update(bytes)).transpose())?;
        taken.ok_or_else(finished)
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<FileTuple<'py>> {
        let digests = py.detach(|| self.lock().take().map(crate::StreamHasher::finish)).ok_or_else(finished)?;
        Ok(file_tuple(py, &digests))
    }
}
