//! The UDP header (RFC 768) in front of a tunnel's own.

use super::Undecodable;
use super::view::{Short, View, be16};

/// Why there is no tunnel in a UDP packet.
pub(super) enum Stop {
    /// Something else uses the port.
    Foreign,
    /// The capture was cut before the end of the tunnel's header.
    Cut,
    Undecodable(Undecodable),
}

/// A header that was never sent shows that something else uses the port.
impl From<Short> for Stop {
    fn from(short: Short) -> Self {
        match short {
            Short::Cut => Self::Cut,
            Short::Missing => Self::Foreign,
        }
    }
}

/// Source and destination port, as far as they were captured.
#[inline]
pub(super) fn ports(segment: &[u8]) -> Option<(u16, u16)> {
    match segment {
        [a, b, c, d, ..] => Some((be16(*a, *b), be16(*c, *d))),
        _ => None,
    }
}

/// The bytes that the UDP length field covers; a length of 0 is a segment that was not divided yet.
#[inline]
pub(super) fn payload(segment: View<'_>) -> Result<View<'_>, Stop> {
    let header: &[u8; 8] = segment.header()?;
    match usize::from(be16(header[4], header[5])) {
        0 => Ok(segment.skip(8)),
        length if length < 8 || length > segment.wire_len() => Err(Stop::Foreign),
        length => Ok(segment.limit(length).skip(8)),
    }
}
