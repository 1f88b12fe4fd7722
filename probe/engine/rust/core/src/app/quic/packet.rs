//! Packets in a datagram, as far as they can be read without keys (RFC 8999, RFC 9000 17).

use super::version::{self, LongType};
use crate::app::reader::Reader;

/// Most bytes of a connection ID (RFC 9000 17.2).
pub const MAX_CONNECTION_ID: usize = 20;

/// A connection ID, kept by value.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    length: u8,
    bytes: [u8; MAX_CONNECTION_ID],
}

impl ConnectionId {
    /// None if it is longer than any QUIC of today has.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self {
            length: u8::try_from(bytes.len()).ok()?,
            ..Self::default()
        };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One packet of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Long(Long<'a>),
    Retry {
        version: u32,
        source: ConnectionId,
    },
    VersionNegotiation {
        destination: ConnectionId,
        source: ConnectionId,
        /// What the server would speak, four bytes each.
        versions: &'a [u8],
    },
    /// 1-RTT: all but the spin bit is protected.
    Short {
        spin: bool,
    },
}

/// A packet with a long header and a packet number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Long<'a> {
    pub kind: LongType,
    pub version: u32,
    pub destination: ConnectionId,
    pub source: ConnectionId,
    /// From the first byte up to what the Length field says, or what of it was captured.
    pub bytes: &'a [u8],
    /// Where in `bytes` the protected packet number stands.
    pub number_at: usize,
    /// Nothing of the packet is missing.
    pub is_whole: bool,
}

/// The packets that a datagram holds one behind the other (RFC 9000 12.2).
#[derive(Debug, Clone, Copy)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    pub fn of(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    /// A packet that says no length ends the datagram, and so does whatever is no packet.
    fn next(&mut self) -> Option<Packet<'a>> {
        let bytes = std::mem::take(&mut self.rest);
        let first = *bytes.first()?;
        if first & 0x80 == 0 {
            let spin = first & SPIN_BIT != 0;
            return (first & FIXED_BIT != 0).then_some(Packet::Short { spin });
        }
        let packet = read_long(first, bytes)?;
        if let Packet::Long(long) = &packet {
            self.rest = bytes.get(long.bytes.len()..)?;
        }
        Some(packet)
    }
}

const FIXED_BIT: u8 = 0x40;
const SPIN_BIT: u8 = 0x20;

/// The spin bit of a datagram that holds one 1-RTT packet; none if it holds anything else.
#[inline]
pub fn spin_of(datagram: &[u8]) -> Option<bool> {
    let first = *datagram.first()?;
    (first & 0xc0 == FIXED_BIT).then_some(first & SPIN_BIT != 0)
}

fn read_long(first: u8, bytes: &[u8]) -> Option<Packet<'_>> {
    let mut reader = Reader::new(bytes);
    reader.u8()?;
    let version = u32::from_be_bytes(reader.array()?);
    let destination = ConnectionId::new(reader.vector8()?)?;
    let source = ConnectionId::new(reader.vector8()?)?;
    if version == 0 {
        return Some(Packet::VersionNegotiation {
            destination,
            source,
            versions: reader.rest(),
        });
    }
    let kind = LongType::of(first, version);
    match kind {
        LongType::Retry => return Some(Packet::Retry { version, source }),
        LongType::Initial => {
            let token = usize::try_from(varint(&mut reader)?).ok()?;
            reader.take(token)?;
        }
        LongType::ZeroRtt | LongType::Handshake => {}
    }
    let length = usize::try_from(varint(&mut reader)?).ok()?;
    let number_at = bytes.len().checked_sub(reader.rest().len())?;
    let end = number_at.checked_add(length)?;
    Some(Packet::Long(Long {
        kind,
        version,
        destination,
        source,
        bytes: bytes.get(..end).unwrap_or(bytes),
        number_at,
        is_whole: end <= bytes.len(),
    }))
}

/// A variable-length integer (RFC 9000 16).
pub fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = (1usize << (first >> 6)) - 1;
    let start = u64::from(first & 0x3f);
    let rest = reader.take(more)?;
    Some(
        rest.iter()
            .fold(start, |value, &byte| value << 8 | u64::from(byte)),
    )
}

/// Whether a flow's first datagram is QUIC: a long header of a version that is or was in use, with
/// connection IDs that fit; or a packet of Google's QUIC that names its version.
///
/// A reserved version is believed only in a datagram as long as a client's first (RFC 9000 14.1).
pub fn looks_like_quic(datagram: &[u8]) -> bool {
    const SHORTEST_FIRST_DATAGRAM: usize = 1200;
    if google_version(datagram).is_some() {
        return true;
    }
    let Some((&[first, a, b, c, d], rest)) = datagram.split_first_chunk() else {
        return false;
    };
    match u32::from_be_bytes([a, b, c, d]) {
        0 => first & 0x80 != 0 && is_version_negotiation(datagram),
        _ if first & 0xc0 != 0xc0 => false,
        number if version::is_google(number) => true,
        number if version::is_reserved(number) => {
            datagram.len() >= SHORTEST_FIRST_DATAGRAM && ids_fit(rest)
        }
        number => version::is_known(number) && ids_fit(rest),
    }
}

fn ids_fit(after_version: &[u8]) -> bool {
    let mut reader = Reader::new(after_version);
    let mut fits = || Some(reader.vector8()?.len() <= MAX_CONNECTION_ID);
    fits() == Some(true) && fits() == Some(true)
}

fn is_version_negotiation(datagram: &[u8]) -> bool {
    let Some(Packet::VersionNegotiation { versions, .. }) = Packets::of(datagram).next() else {
        return false;
    };
    let (numbers, rest) = versions.as_chunks();
    let known = |number: &[u8; 4]| version::is_known(u32::from_be_bytes(*number));
    rest.is_empty() && numbers.iter().any(known)
}

/// The version that a client's packet of Google's QUIC up to Q043 names: public flags with the
/// version and the connection ID announced, and those.
pub fn google_version(datagram: &[u8]) -> Option<u32> {
    const VERSION_AND_ID: u8 = 0x09;
    let mut reader = Reader::new(datagram);
    let flags = reader.u8()?;
    reader.take(8)?;
    let version = u32::from_be_bytes(reader.array()?);
    (flags & 0xc9 == VERSION_AND_ID && version::is_google(version)).then_some(version)
}
