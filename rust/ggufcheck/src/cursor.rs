//! Reads forward; every length is compared with what can be there before a byte is allocated for it.

use std::io::{self, Read};

use crate::{
    limits::{MAX_HEADER, WINDOW},
    refusal::{Result, demand, refuse},
};

/// Bytes of the header, by their place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// How many bytes.
    pub fn size(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The bytes in the header that the span was made of.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// A header as far as it was read. Holds at most `MAX_HEADER` bytes, and reads no more than it was asked for and a window.
pub(crate) struct Cursor<R> {
    source: R,
    size: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl<R: Read> Cursor<R> {
    /// At the beginning of `source`, a file of `size` bytes.
    pub(crate) fn new(source: R, size: u64) -> Self {
        Self { source, size, bytes: Vec::new(), at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// All bytes read so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer, when nothing is left to read.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }

    /// Refused unless `count` more bytes can be there.
    pub(crate) fn need(&self, count: u64) -> Result<()> {
        let Some(end) = self.at().checked_add(count) else {
            return refuse("limit", format!("a length of {count} bytes"));
        };
        demand(end <= self.size, "truncated", || {
            format!("the header wants {count} bytes at {}, and the file ends at {}", self.at, self.size)
        })?;
        demand(end <= MAX_HEADER, "budget", || format!("a header of more than {MAX_HEADER} bytes"))
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<Span> {
        self.need(count)?;
        let end = self.at + count as usize; // at most MAX_HEADER, which fits any usize and u32
        self.fill(end)?;
        let span = Span { start: self.at as u32, end: end as u32 };
        self.at = end;
        Ok(span)
    }

    fn fill(&mut self, end: usize) -> Result<()> {
        let have = self.bytes.len();
        if end <= have {
            return Ok(());
        }
        let wanted = (end - have).max(WINDOW) as u64;
        self.source.by_ref().take(wanted).read_to_end(&mut self.bytes)?;
        if self.bytes.len() < end {
            let text = format!("the file ended at {}, inside its header", self.bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into()); // it was longer a moment ago
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let span = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(span.of(&self.bytes));
        Ok(out)
    }

    /// A little-endian u32.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A little-endian u64.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A u64 that is a length of at most `limit`.
    pub(crate) fn length(&mut self, limit: u64, what: &str) -> Result<u64> {
        let value = self.u64()?;
        demand(value <= limit, "limit", || format!("{what} of {value}, at most {limit}"))?;
        Ok(value)
    }

    /// The bytes of a string with its length in front.
    pub(crate) fn string(&mut self, limit: u64, what: &str) -> Result<Span> {
        let length = self.length(limit, what)?;
        self.take(length)
    }
}
