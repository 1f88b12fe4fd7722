//! Integers of either byte order, read from bytes that may be too short.

/// The byte order of a file or section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The 16-bit integer at offset `at`, if the bytes reach that far; likewise below.
    #[inline]
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(raw),
            Self::Big => u16::from_be_bytes(raw),
        })
    }

    #[inline]
    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(raw),
            Self::Big => u32::from_be_bytes(raw),
        })
    }

    /// The first `N` 32-bit integers.
    #[inline]
    pub fn words<const N: usize>(self, bytes: &[u8]) -> Option<[u32; N]> {
        let raw = *bytes.as_chunks().0.first_chunk()?;
        Some(match self {
            Self::Little => raw.map(u32::from_le_bytes),
            Self::Big => raw.map(u32::from_be_bytes),
        })
    }

    #[inline]
    pub fn i64(self, bytes: &[u8], at: usize) -> Option<i64> {
        let raw = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => i64::from_le_bytes(raw),
            Self::Big => i64::from_be_bytes(raw),
        })
    }
}
