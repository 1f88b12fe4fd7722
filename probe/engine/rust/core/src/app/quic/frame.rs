//! The frames of Initial packets (RFC 9000 19); others may not stand there.

use super::packet::varint;
use crate::app::reader::Reader;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    Ping,
    /// The largest packet number acknowledged.
    Ack(u64),
    Crypto {
        offset: u64,
        data: &'a [u8],
    },
    /// CONNECTION_CLOSE with a transport error code (RFC 9000 20.1).
    Close(u64),
}

impl Frame<'_> {
    /// Whether the receiver answers with an acknowledgment of its own (RFC 9002 2).
    pub fn is_ack_eliciting(&self) -> bool {
        matches!(self, Self::Ping | Self::Crypto { .. })
    }
}

/// The frames of an opened packet, padding left out; ends where one cannot be read.
pub fn frames(payload: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut reader = Reader::new(payload);
    std::iter::from_fn(move || next(&mut reader))
}

fn next<'a>(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
    skip_padding(reader)?;
    match varint(reader)? {
        1 => Some(Frame::Ping),
        kind @ (2 | 3) => ack(reader, kind == 3),
        6 => crypto(reader),
        0x1c => varint(reader).map(Frame::Close),
        _ => None,
    }
}

/// PADDING frames are zero bytes, most of a short hello's datagram; none if nothing else follows.
fn skip_padding(reader: &mut Reader<'_>) -> Option<()> {
    let padding = reader.rest().iter().position(|&byte| byte != 0)?;
    reader.take(padding).map(drop)
}

fn ack<'a>(reader: &mut Reader<'a>, with_ecn: bool) -> Option<Frame<'a>> {
    let largest = varint(reader)?;
    varint(reader)?; // delay: 0 for Initial packets, which are acknowledged at once
    let further_ranges = varint(reader)?;
    varint(reader)?; // first range
    // Each takes bytes of the packet, so a lying count ends with them.
    for _ in 0..further_ranges {
        varint(reader)?;
        varint(reader)?;
    }
    if with_ecn {
        (0..3).try_for_each(|_| varint(reader).map(drop))?;
    }
    Some(Frame::Ack(largest))
}

fn crypto<'a>(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
    let offset = varint(reader)?;
    let length = usize::try_from(varint(reader)?).ok()?;
    let data = reader.take(length)?;
    Some(Frame::Crypto { offset, data })
}
