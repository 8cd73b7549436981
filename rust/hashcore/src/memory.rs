//! Memory for pieces.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// A buffer of its own mapping, in huge pages where the system has some, given back when it is dropped.
///
/// Not a `Vec`: the eight or so buffers of a file in pages of 4 KiB take 5 ms each to get and 1 ms to give back, which
/// is more than a piece takes to hash; in huge pages 0.7 ms and nothing.
#[derive(Default)]
pub(crate) struct Buffer {
    map: Option<MmapMut>,
    size: usize,
}

impl Buffer {
    /// Makes the buffer exactly `size` bytes long, whatever they are.
    pub(crate) fn resize(&mut self, size: usize) -> Result<()> {
        if self.map.as_ref().is_none_or(|map| map.len() < size) {
            let map = MmapMut::map_anon(size.max(1)).map_err(|e| Error::io(e, None))?;
            // Advice that the system does not take costs nothing but speed.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            self.map = Some(map);
        }
        self.size = size;
        Ok(())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.size])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[..self.size])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_size_asked_for_and_keeps_its_memory() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for size in [5, 2 << 20, (6 << 20) + 1, 7, 0, 6] {
            buffer.resize(size).expect("memory");
            assert_eq!(buffer.len(), size);
            buffer.fill(1);
        }
    }
}
