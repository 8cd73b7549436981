//! Reading a file at positions, from several threads at once.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    layout::piece_span,
    memory::Buffer,
};

/// An open file and the name to give it in errors.
pub struct Source {
    file: File,
    path: Option<PathBuf>,
}

/// What tells that a file was written to: its length and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) length: u64,
    modified: (i64, i64),
}

impl Source {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> Result<Self> {
        // Opening a FIFO would wait for a writer; regular files ignore the flag.
        let options = File::options().read(true).custom_flags(libc::O_NONBLOCK).clone();
        let file = options.open(path).map_err(|e| Error::io(e, Some(path)))?;
        Ok(Self { file, path: Some(path.into()) })
    }

    /// Wraps a file that is already open.
    pub fn from_file(file: File) -> Self {
        Self { file, path: None }
    }

    fn name(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| "<file descriptor>".into())
    }

    pub(crate) fn changed(&self, what: String) -> Error {
        Error::Changed { path: self.name(), what }
    }

    /// Length and modification time as they are now.
    pub(crate) fn stamp(&self) -> Result<Stamp> {
        let meta = self.file.metadata().map_err(|e| Error::io(e, self.path.as_deref()))?;
        if !meta.is_file() {
            // Folders and devices open fine and have a length, but not one that says what is in them.
            let dir = || io::Error::from_raw_os_error(libc::EISDIR);
            let other = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(if meta.is_dir() { dir() } else { other() }, self.path.as_deref()));
        }
        Ok(Stamp { length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Length of the file as it is now.
    pub fn length(&self) -> Result<u64> {
        Ok(self.stamp()?.length)
    }

    /// Fails unless the file still is as it was at `before`.
    pub(crate) fn check_unchanged(&self, before: Stamp) -> Result<()> {
        let now = self.stamp()?;
        if now.length != before.length {
            let what = format!("changed from {} to {} bytes while it was hashed", before.length, now.length);
            return Err(self.changed(what));
        }
        if now != before {
            return Err(self.changed("was written to while it was hashed".into()));
        }
        Ok(())
    }

    /// Fills `buffer` from `offset`; a file that ends before is [`Error::Changed`].
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(format!("ends before byte {}", offset + buffer.len() as u64)),
            _ => Error::io(e, self.path.as_deref()),
        })
    }

    /// Makes `buffer` hold piece `index` of a file of `length` bytes.
    pub(crate) fn read_piece(&self, index: u32, length: u64, buffer: &mut Buffer) -> Result<()> {
        let (offset, size) = piece_span(index, length)?;
        buffer.resize(size)?;
        self.read_at(buffer, offset)
    }

    /// Tells the kernel what will be read soon, so that a cold disk works while we hash.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open for as long as `self`; advice touches no memory.
            // The result is ignored because advice that fails costs nothing but speed.
            let _ = unsafe {
                libc::posix_fadvise(self.file.as_raw_fd(), offset as i64, len as i64, libc::POSIX_FADV_WILLNEED)
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}
