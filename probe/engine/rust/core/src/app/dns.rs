//! DNS over UDP and TCP (RFC 1035, RFC 6891, RFC 7766).
//!
//! Unicast DNS on port [`PORT`] only: mDNS (5353) and LLMNR (5355) answer another question, and
//! silence is normal there.

pub mod framer;
pub mod name;
pub mod tracker;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::app::reader::Reader;
pub use framer::DnsTcpFramer;
pub use name::Name;
pub use tracker::{DnsTracker, Transaction};

/// The port of DNS over UDP and TCP.
pub const PORT: u16 = 53;
/// Most addresses kept of one answer.
pub const MAX_ADDRESSES: usize = 8;

pub const RCODE_SERVFAIL: u16 = 2;
pub const RCODE_REFUSED: u16 = 5;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Why bytes are not taken for a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than the 12 bytes of a header")]
    Header,
    #[error("question cut off, or its name is longer than 255 bytes or points in circles")]
    Question,
}

/// The first question of a message.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub name: Name<'a>,
    pub qtype: u16,
}

/// One DNS message. Parsing allocates nothing: the name is read out of the message when asked for.
#[derive(Debug, Clone, Copy)]
pub struct DnsMessage<'a> {
    pub id: u16,
    pub is_response: bool,
    pub opcode: u8,
    /// With the upper bits of the OPT record, if there is one (RFC 6891 6.1.3).
    pub rcode: u16,
    pub truncated: bool,
    pub question: Option<Question<'a>>,
    addresses: [IpAddr; MAX_ADDRESSES],
    address_count: usize,
}

impl<'a> DnsMessage<'a> {
    /// Reads the message that `bytes` start with.
    ///
    /// Header and first question must be whole. Records are read as far as they go: a capture may
    /// be cut, and the outcome of a query stands in the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (mut message, counts) = read_header(&mut reader).ok_or(Malformed::Header)?;
        for index in 0..counts.questions {
            let question = read_question(bytes, &mut reader);
            match (index, question) {
                (0, None) => return Err(Malformed::Question),
                (0, found) => message.question = found,
                (_, None) => return Ok(message),
                (_, Some(_)) => {}
            }
        }
        message.read_records(reader, counts);
        Ok(message)
    }

    /// The A and AAAA records of the answer section, [`MAX_ADDRESSES`] at most.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.get(..self.address_count).unwrap_or_default()
    }

    /// The records are bounded by the bytes there are: each takes 11 at least.
    fn read_records(&mut self, mut reader: Reader<'a>, counts: Counts) {
        for index in 0..counts.records() {
            match read_record(&mut reader) {
                Some(record) => self.note_record(&record, index < u32::from(counts.answers)),
                None => return,
            }
        }
    }

    fn note_record(&mut self, record: &Record<'_>, is_answer: bool) {
        if record.kind == TYPE_OPT {
            let [upper, ..] = record.ttl;
            self.rcode |= u16::from(upper) << 4;
        } else if is_answer && record.class == CLASS_IN {
            self.note_address(record);
        }
    }

    fn note_address(&mut self, record: &Record<'_>) {
        let (Some(address), Some(place)) =
            (record.address(), self.addresses.get_mut(self.address_count))
        else {
            return;
        };
        *place = address;
        self.address_count = self.address_count.saturating_add(1);
    }
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    questions: u16,
    answers: u16,
    authorities: u16,
    additionals: u16,
}

impl Counts {
    fn records(self) -> u32 {
        u32::from(self.answers) + u32::from(self.authorities) + u32::from(self.additionals)
    }
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'a [u8],
}

impl Record<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.kind {
            TYPE_A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.data).ok()?).into()),
            TYPE_AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(self.data).ok()?).into()),
            _ => None,
        }
    }
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Option<(DnsMessage<'a>, Counts)> {
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = Counts {
        questions: reader.u16()?,
        answers: reader.u16()?,
        authorities: reader.u16()?,
        additionals: reader.u16()?,
    };
    let message = DnsMessage {
        id,
        is_response: flags & 0x8000 != 0,
        opcode: (flags >> 11 & 0xf) as u8,
        rcode: flags & 0xf,
        truncated: flags & 0x0200 != 0,
        question: None,
        addresses: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); MAX_ADDRESSES],
        address_count: 0,
    };
    Some((message, counts))
}

fn read_question<'a>(message: &'a [u8], reader: &mut Reader<'a>) -> Option<Question<'a>> {
    let name = Name::read(message, reader)?;
    let qtype = reader.u16()?;
    reader.u16()?; // class
    Some(Question { name, qtype })
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Option<Record<'a>> {
    name::skip(reader)?;
    Some(Record {
        kind: reader.u16()?,
        class: reader.u16()?,
        ttl: reader.array()?,
        data: reader.vector16()?,
    })
}

#[cfg(test)]
mod tests;
