//! The transport header of a packet, read as far as flows need it.

use crate::decap::{Inner, Transport};
use crate::engine::icmp::{Echo, IcmpError};
use crate::engine::ledger::Untracked;
use crate::tcp::Segment;

/// A packet's transport header, read.
pub enum Payload<'a> {
    Segment(Segment<'a>),
    Datagram(&'a [u8]),
    Echo(Echo),
    IcmpError(IcmpError),
    Opaque,
}

pub struct Transported<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Payload<'a>,
    pub payload_len: u32,
}

impl<'a> Transported<'a> {
    #[inline(always)]
    pub fn read(inner: &Inner<'a>) -> Result<Self, Untracked> {
        let read = match inner.transport {
            Transport::Tcp => read_tcp(inner),
            Transport::Udp => read_udp(inner),
            Transport::Sctp => read_sctp(inner),
            Transport::Icmp => read_icmp(inner),
            Transport::Other(_) => return Err(Untracked::Unsupported),
        };
        read.ok_or(Untracked::Truncated)
    }
}

#[inline(always)]
fn read_tcp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let mut segment = Segment::parse(inner.segment, inner.segment_len)?;
    segment.hop_limit = inner.ttl;
    segment.identification = inner.identification;
    Some(Transported {
        source_port: segment.source_port,
        destination_port: segment.destination_port,
        payload_len: segment.payload_len,
        payload: Payload::Segment(segment),
    })
}

const UDP_HEADER: u32 = 8;

#[inline(always)]
fn read_udp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let header: &[u8; UDP_HEADER as usize] = inner.segment.first_chunk()?;
    // The length field of a super-segment or a jumbogram is 0 (RFC 2675 4): the IP length counts.
    let stated = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let length = if stated < UDP_HEADER {
        inner.segment_len
    } else {
        stated.min(inner.segment_len)
    };
    let payload_len = length.saturating_sub(UDP_HEADER);
    let captured = inner.segment.get(UDP_HEADER as usize..)?;
    let payload = captured.get(..payload_len as usize).unwrap_or(captured);
    Some(Transported {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        payload_len,
        payload: Payload::Datagram(payload),
    })
}

const SCTP_HEADER: u32 = 12;

#[cold]
fn read_sctp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let ports: &[u8; 4] = inner.segment.first_chunk()?;
    Some(Transported {
        source_port: u16::from_be_bytes([ports[0], ports[1]]),
        destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        payload_len: inner.segment_len.saturating_sub(SCTP_HEADER),
        payload: Payload::Opaque,
    })
}

/// Echo requests and replies of one identifier are one flow; all other messages between two hosts
/// are another (identifier 0).
#[cold]
fn read_icmp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    const ECHO_TYPES: [u8; 4] = [0, 8, 128, 129];
    let header: &[u8; 4] = inner.segment.first_chunk()?;
    let identifier = match inner.segment.get(4..6) {
        Some(&[high, low]) if ECHO_TYPES.contains(&header[0]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    Some(Transported {
        source_port: identifier,
        destination_port: identifier,
        payload_len: inner.segment_len.saturating_sub(8),
        payload: icmp_payload(inner),
    })
}

fn icmp_payload<'a>(inner: &Inner<'a>) -> Payload<'a> {
    match (Echo::read(inner), IcmpError::read(inner)) {
        (Some(echo), _) => Payload::Echo(echo),
        (None, Some(error)) => Payload::IcmpError(error),
        (None, None) => Payload::Opaque,
    }
}
