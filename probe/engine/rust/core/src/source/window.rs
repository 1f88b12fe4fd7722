//! A window over a stream of bytes that slides forward, with one buffer that is used again.

use std::io::{ErrorKind, Read};

use super::fault::Fault;
use super::record::Span;

/// Bytes asked of the reader at once: many records per system call, and they stay in the L2 cache.
const READ_LEN: usize = 128 * 1024;

/// The bytes of a capture that are not consumed yet, as far as they have been read.
///
/// Nothing is copied per packet: bytes are read once into the buffer and handed out from there.
/// The buffer grows only to what `has` and `require` ask for, so callers bound it.
pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    /// How the stream is compressed, for messages.
    coding: Option<&'static str>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `buffer[0]` in the stream.
    base: u64,
}

impl Window {
    pub fn new(reader: Box<dyn Read + Send>, coding: Option<&'static str>) -> Self {
        Self {
            reader,
            coding,
            buffer: vec![0; READ_LEN],
            start: 0,
            end: 0,
            base: 0,
        }
    }

    /// Offset of the first byte that is not consumed.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// The bytes that have been read and not consumed.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        let read = self.buffer.get(self.start..self.end);
        read.unwrap_or_else(nothing)
    }

    /// The bytes of a place that `take` returned, until the next call of `has` or `require`.
    #[inline]
    pub fn at(&self, span: Span) -> &[u8] {
        let taken = self.buffer.get(span.start..span.end);
        taken.unwrap_or_else(nothing)
    }

    /// Says whether `len` bytes follow, reading on where needed.
    #[inline(always)]
    pub fn has(&mut self, len: usize) -> Result<bool, Fault> {
        if self.end - self.start >= len {
            return Ok(true);
        }
        self.read_until(len)
    }

    /// Makes sure that the `len` bytes of `what` follow; a stream that ends before is truncated.
    #[inline]
    pub fn require(&mut self, len: usize, what: &'static str) -> Result<(), Fault> {
        if self.has(len)? {
            return Ok(());
        }
        Err(self.truncated(len as u64, what))
    }

    /// The fault of a stream that ends within the `needs` bytes of `what`.
    #[cold]
    pub fn truncated(&self, needs: u64, what: &'static str) -> Fault {
        Fault::Truncated {
            what,
            offset: self.offset(),
            needs,
            left: self.bytes().len() as u64,
        }
    }

    /// The fault of a record that begins here.
    #[cold]
    pub fn corrupt(&self, why: &'static str) -> Fault {
        Fault::Corrupt {
            offset: self.offset(),
            why,
        }
    }

    /// Consumes `total` bytes that were read; the data between is where the returned place says.
    #[inline]
    pub fn take(&mut self, data_at: usize, data_len: usize, total: usize) -> Span {
        let start = self.start + data_at;
        self.start = (self.start + total).min(self.end);
        Span {
            start,
            end: start + data_len,
        }
    }

    /// Consumes bytes without looking at them; returns how many of them the stream had.
    pub fn skip(&mut self, len: u64) -> Result<u64, Fault> {
        let mut left = len;
        while left > 0 && self.has(1)? {
            let step = left.min(self.bytes().len() as u64);
            self.start += step as usize;
            left -= step;
        }
        Ok(len - left)
    }

    #[cold]
    fn read_until(&mut self, len: usize) -> Result<bool, Fault> {
        self.move_to_front();
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        while self.end < len {
            if self.read_once()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
    }

    /// Reads what the reader has at hand: a live pipe must not wait for a full buffer.
    fn read_once(&mut self) -> Result<usize, Fault> {
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        loop {
            match self.reader.read(free) {
                Ok(count) => {
                    let count = count.min(free.len());
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_fault(error)),
            }
        }
    }

    fn read_fault(&self, error: std::io::Error) -> Fault {
        let offset = self.base + self.end as u64;
        match self.coding {
            Some(coding) => Fault::Damaged {
                coding,
                offset,
                error,
            },
            None => Fault::Read { offset, error },
        }
    }
}

/// No bytes; apart, so that what is always there is not chosen between.
#[cold]
fn nothing<'a>() -> &'a [u8] {
    &[]
}
