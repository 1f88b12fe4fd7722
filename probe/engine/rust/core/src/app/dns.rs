//! DNS over UDP and TCP (RFC 1035, RFC 6891, RFC 7766).
//!
//! Multicast DNS (RFC 6762) and LLMNR (RFC 4795) have the same messages, but there silence is normal:
//! they are read for the name asked, and measured in nothing else.

pub mod framer;
pub mod name;
pub mod resolution;
pub mod tracker;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::app::reader::Reader;
pub use framer::DnsTcpFramer;
pub use name::Name;
pub use resolution::Resolution;
pub use tracker::{DnsTracker, Transaction};

/// The port of DNS over UDP and TCP.
pub const PORT: u16 = 53;
/// The ports of multicast DNS and of LLMNR.
pub const MDNS_PORT: u16 = 5353;
pub const LLMNR_PORT: u16 = 5355;

pub const RCODE_SERVFAIL: u16 = 2;
pub const RCODE_REFUSED: u16 = 5;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
const CLASS_IN: u16 = 1;

/// More records than this stand in no message that a client gets.
const MOST_RECORDS: u32 = 1024;

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
    counts: Counts,
    bytes: &'a [u8],
    /// From the answer section on.
    records: Reader<'a>,
}

impl<'a> DnsMessage<'a> {
    /// Reads the message that `bytes` start with.
    ///
    /// Header and first question must be whole. Records are read as far as they go: a capture may
    /// be cut, and the outcome of a query stands in the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut message = read_header(bytes, &mut reader).ok_or(Malformed::Header)?;
        for index in 0..message.counts.questions {
            let question = read_question(bytes, &mut reader);
            match (index, question) {
                (0, None) => return Err(Malformed::Question),
                (0, found) => message.question = found,
                (_, None) => return Ok(message),
                (_, Some(_)) => {}
            }
        }
        message.records = reader;
        message.read_options();
        Ok(message)
    }

    /// Whether bytes begin with a header that DNS can have. Those of something else on its port
    /// hardly ever do: a known operation (RFC 1035 4.1.1, RFC 2136, RFC 8490), one question at most
    /// (RFC 9619), and records in numbers that a message can hold.
    pub fn begins_plausibly(bytes: &[u8]) -> bool {
        let header = read_header(bytes, &mut Reader::new(bytes));
        header.is_some_and(|message| {
            let known_operation = matches!(message.opcode, 0..=2 | 4..=6);
            let few = message.counts.records() < MOST_RECORDS;
            known_operation && message.counts.questions <= 1 && few
        })
    }

    /// Whether this is what a stub resolver sends: a standard query with one question, no answer,
    /// and nothing behind its records.
    pub fn is_plain_query(&self) -> bool {
        let counts = self.counts;
        let mut rest = self.records;
        let whole = (0..counts.records()).all(|_| read_record(self.bytes, &mut rest).is_some());
        let plain = !self.is_response && self.opcode == 0 && self.rcode == 0;
        plain && counts.questions == 1 && counts.answers == 0 && whole && rest.is_empty()
    }

    /// Records of the answer section with their owners, as far as they can be read.
    fn answers(&self) -> impl Iterator<Item = (Name<'a>, Record<'a>)> {
        let (bytes, mut reader) = (self.bytes, self.records);
        (0..self.counts.answers)
            .map_while(move |_| {
                let owner = Name::read(bytes, &mut reader.clone());
                read_record(bytes, &mut reader).map(|record| (owner, record))
            })
            .filter(|(_, record)| record.class == CLASS_IN)
            .filter_map(|(owner, record)| owner.map(|owner| (owner, record)))
    }

    /// The name that begins `at` so many bytes from the start of the message.
    fn name_at(&self, at: usize) -> Option<Name<'a>> {
        Name::read(self.bytes, &mut Reader::new(self.bytes.get(at..)?))
    }

    /// The records are bounded by the bytes there are: each takes 11 at least.
    fn read_options(&mut self) {
        let mut reader = self.records;
        for _ in 0..self.counts.records() {
            let Some(record) = read_record(self.bytes, &mut reader) else {
                return;
            };
            if record.kind == TYPE_OPT {
                let [upper, ..] = record.ttl;
                self.rcode |= u16::from(upper) << 4;
            }
        }
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
    /// Where the data begin, from the start of the message.
    data_at: usize,
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

fn read_header<'a>(bytes: &'a [u8], reader: &mut Reader<'a>) -> Option<DnsMessage<'a>> {
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = Counts {
        questions: reader.u16()?,
        answers: reader.u16()?,
        authorities: reader.u16()?,
        additionals: reader.u16()?,
    };
    Some(DnsMessage {
        id,
        is_response: flags & 0x8000 != 0,
        opcode: (flags >> 11 & 0xf) as u8,
        rcode: flags & 0xf,
        truncated: flags & 0x0200 != 0,
        question: None,
        counts,
        bytes,
        records: Reader::new(&[]),
    })
}

fn read_question<'a>(message: &'a [u8], reader: &mut Reader<'a>) -> Option<Question<'a>> {
    let name = Name::read(message, reader)?;
    let qtype = reader.u16()?;
    reader.u16()?; // class
    Some(Question { name, qtype })
}

fn read_record<'a>(message: &'a [u8], reader: &mut Reader<'a>) -> Option<Record<'a>> {
    name::skip(reader)?;
    let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.array()?);
    let data = reader.vector16()?;
    let behind = reader.rest().len() + data.len();
    Some(Record {
        kind,
        class,
        ttl,
        data,
        data_at: message.len().checked_sub(behind)?,
    })
}

#[cfg(test)]
mod tests;
