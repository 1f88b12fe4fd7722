//! ICMP: what an error says of the flow whose packet it quotes, and echoes (RFC 792, RFC 4443).

use crate::decap::{Inner, Quote, Transport};
use crate::engine::notes::Note;
use crate::flow::{Direction, FlowKey};
use crate::record::names::FailureCause;

/// UDP ports to which traceroute sends in order to be refused: from 33434 on, one more with each
/// probe.
const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// An ICMP error with the packet that it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    pub note: Note,
    pub quote: Quote,
}

impl IcmpError {
    /// Reads an error message; none of other messages, of redirects, which tell of nothing that went
    /// wrong, and of errors that do not quote enough.
    pub fn read(inner: &Inner<'_>) -> Option<Self> {
        let &[kind, code, ..] = inner.segment else {
            return None;
        };
        let note = match inner.source.as_v4() {
            Some(_) => note_v4(kind, code)?,
            None => note_v6(kind, code)?,
        };
        let quote = Quote::read(inner.segment.get(8..)?)?;
        Some(Self { note, quote })
    }

    /// The flow that the quoted packet belongs to, and its direction there.
    pub fn subject(&self) -> (FlowKey, Direction) {
        let quote = &self.quote;
        FlowKey::of(
            quote.source,
            quote.source_port,
            quote.destination,
            quote.destination_port,
            quote.transport,
        )
    }

    /// The failure of a flow whose first packets met this and no answer. Packets that were too big
    /// are sent again smaller (RFC 1191, RFC 8201), and a timed-out UDP probe, or one refused at
    /// its ports, is what traceroute is for. Nor is a ping more than a question.
    pub fn cause(&self) -> Option<FailureCause> {
        let udp = self.quote.transport == Transport::Udp;
        let traced = udp && TRACEROUTE_PORTS.contains(&self.quote.destination_port);
        match self.note {
            _ if traced || self.quote.transport == Transport::Icmp => None,
            Note::IcmpTimeExceeded if udp => None,
            Note::IcmpProhibited => Some(FailureCause::ConnectProhibited),
            Note::IcmpNetworkUnreachable
            | Note::IcmpHostUnreachable
            | Note::IcmpProtocolUnreachable
            | Note::IcmpPortUnreachable
            | Note::IcmpTimeExceeded => Some(FailureCause::ConnectUnreachable),
            _ => None,
        }
    }

    /// By its ports, whether the quoted packet went to a server (below 1024, RFC 6335 6).
    pub fn quotes_a_client(&self) -> bool {
        !(self.quote.source_port < 1024 && self.quote.destination_port >= 1024)
    }
}

/// Types 3, 11 and 12 (RFC 792); the codes of type 3 by RFC 1122 3.2.2.1 and RFC 1812 5.2.7.1.
fn note_v4(kind: u8, code: u8) -> Option<Note> {
    match (kind, code) {
        (3, 0 | 6 | 11) => Some(Note::IcmpNetworkUnreachable),
        (3, 1 | 5 | 7 | 8 | 12) => Some(Note::IcmpHostUnreachable),
        (3, 2) => Some(Note::IcmpProtocolUnreachable),
        (3, 3) => Some(Note::IcmpPortUnreachable),
        (3, 4) => Some(Note::IcmpPacketTooBig),
        (3, 9 | 10 | 13..=15) => Some(Note::IcmpProhibited),
        (11, 0) => Some(Note::IcmpTimeExceeded),
        (11, 1) => Some(Note::IcmpReassemblyTimeout),
        (12, _) => Some(Note::IcmpParameterProblem),
        _ => None,
    }
}

/// Types 1 to 4 (RFC 4443 3).
fn note_v6(kind: u8, code: u8) -> Option<Note> {
    match (kind, code) {
        (1, 0 | 2) => Some(Note::IcmpNetworkUnreachable),
        (1, 3) => Some(Note::IcmpHostUnreachable),
        (1, 4) => Some(Note::IcmpPortUnreachable),
        (1, 1 | 5 | 6) => Some(Note::IcmpProhibited),
        (2, _) => Some(Note::IcmpPacketTooBig),
        (3, 0) => Some(Note::IcmpTimeExceeded),
        (3, 1) => Some(Note::IcmpReassemblyTimeout),
        (4, 1) => Some(Note::IcmpProtocolUnreachable),
        (4, _) => Some(Note::IcmpParameterProblem),
        _ => None,
    }
}

/// An echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    pub is_request: bool,
    pub sequence: u16,
}

impl Echo {
    /// Types 8 and 0 of ICMP, 128 and 129 of ICMPv6.
    pub fn read(inner: &Inner<'_>) -> Option<Self> {
        let &[kind @ (0 | 8 | 128 | 129), 0, _, _, _, _, high, low, ..] = inner.segment else {
            return None;
        };
        Some(Self {
            is_request: matches!(kind, 8 | 128),
            sequence: u16::from_be_bytes([high, low]),
        })
    }
}
