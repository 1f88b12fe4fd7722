//! What the record header of a capture file says about one packet.

use super::LinkType;

/// Most bytes of one packet that are believed; a longer record is corrupt. It bounds the buffer of
/// a file, and is the limit of libpcap and Wireshark for all link types that are decoded here.
pub(super) const MAX_CAPTURED: u32 = 256 * 1024;

/// One packet of a file; its bytes are in the file's window until the next record is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// Nanoseconds since the Unix epoch, as the file says.
    pub time_ns: u64,
    /// Index into the ledgers of the source.
    pub interface: u32,
    pub link: LinkType,
    pub wire_len: u32,
    pub data: Span,
}

/// A place in a window's buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}
