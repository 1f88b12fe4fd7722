//! A range of a packet: what was captured of it, and how long it was on the wire.

/// Captured bytes and their length on the wire, which is greater where the capture was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [u8],
    wire_len: usize,
}

/// Why a header cannot be read.
pub(super) enum Short {
    /// It was on the wire, but the capture was cut before its end.
    Cut,
    /// It was not on the wire.
    Missing,
}

impl<'a> View<'a> {
    /// A `wire_len` below the captured length is a capture's mistake: the captured bytes were there.
    #[inline]
    pub fn new(data: &'a [u8], wire_len: usize) -> Self {
        let wire_len = wire_len.max(data.len());
        Self { data, wire_len }
    }

    #[inline]
    pub fn data(self) -> &'a [u8] {
        self.data
    }

    #[inline]
    pub fn wire_len(self) -> usize {
        self.wire_len
    }

    /// The first `N` bytes.
    #[inline]
    pub fn header<const N: usize>(self) -> Result<&'a [u8; N], Short> {
        self.data.first_chunk().ok_or_else(|| self.shortage(N))
    }

    /// The byte at `offset`.
    pub fn byte(self, offset: usize) -> Result<u8, Short> {
        let byte = self.data.get(offset).copied();
        byte.ok_or_else(|| self.shortage(offset + 1))
    }

    #[cold]
    fn shortage(self, wanted: usize) -> Short {
        if self.wire_len < wanted {
            Short::Missing
        } else {
            Short::Cut
        }
    }

    /// What follows the first `count` bytes.
    #[inline]
    pub fn skip(self, count: usize) -> Self {
        Self {
            data: self.data.get(count..).unwrap_or_else(nothing),
            wire_len: self.wire_len.saturating_sub(count),
        }
    }

    /// These bytes as a packet whose header states `length`: without what a lower layer appended
    /// (padding, a checksum), and cut where the header states more than there is.
    #[inline]
    pub fn with_len(self, length: usize) -> Self {
        Self {
            data: self.data.get(..length).unwrap_or(self.data),
            wire_len: length,
        }
    }

    /// The first `count` bytes.
    #[inline]
    pub fn limit(self, count: usize) -> Self {
        Self {
            data: self.data.get(..count).unwrap_or(self.data),
            wire_len: self.wire_len.min(count),
        }
    }
}

/// No bytes; apart, as it is rare that a capture was cut so early.
#[cold]
fn nothing<'a>() -> &'a [u8] {
    &[]
}

/// The big-endian number in two bytes.
#[inline]
pub(super) fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}
