//! From packets to messages of the control plane.

use crate::control::message::{Identity, Malformed, Message};
use crate::control::sctp::{Limits, Payload, Sctp};
use crate::control::{gtp, ngap, pfcp, radius, s1ap};
use crate::decap::{Inner, Transport};
use crate::memory::wipe_stack;

const UDP_HEADER: usize = 8;

/// Finds the messages of the control plane among all packets, and reads them.
#[derive(Debug, Default)]
pub struct Reader {
    sctp: Sctp,
    /// Messages that could not be read, by [`Malformed::ALL`].
    malformed: [u64; Malformed::ALL.len()],
    pub messages: u64,
    /// Messages have named somebody since the stack was wiped.
    named: bool,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            sctp: Sctp::new(Limits::default()),
            ..Self::default()
        }
    }

    /// Whether a packet may be of the control plane. What is within a subscriber's tunnel is not: a
    /// device may send what it likes.
    #[inline]
    pub fn is_control(inner: &Inner<'_>) -> bool {
        match inner.transport {
            Transport::Sctp => inner.tunnel().is_none(),
            Transport::Udp => inner.tunnel().is_none() && ports_of(inner).is_some_and(are_known),
            _ => false,
        }
    }

    /// Reads a packet, and gives each message that it completes.
    pub fn on_packet(&mut self, inner: &Inner<'_>, time_ns: u64, mut give: impl FnMut(&Message)) {
        let mut named = false;
        self.read(inner, time_ns, |message| {
            let Identity {
                imsi, msisdn, imei, ..
            } = &message.identity;
            named |= imsi.is_some() || msisdn.is_some() || imei.is_some();
            give(message);
        });
        self.named |= named;
    }

    /// Gives up what waits for the rest of its message since long, and wipes the stack below the caller if
    /// messages named somebody; call this now and then.
    pub fn expire(&mut self, now_ns: u64) {
        self.sctp.expire(now_ns);
        if std::mem::take(&mut self.named) {
            wipe_stack();
        }
    }

    #[inline(never)]
    fn read(&mut self, inner: &Inner<'_>, time_ns: u64, mut give: impl FnMut(&Message)) {
        let Self {
            sctp,
            malformed,
            messages,
            ..
        } = self;
        let mut take = |read: Result<Message, Malformed>| match read {
            Ok(message) => {
                *messages += 1;
                give(&message);
            }
            Err(why) => malformed[why as usize] += 1,
        };
        if inner.transport == Transport::Sctp {
            let (source, destination) = (inner.source, inner.destination);
            sctp.on_packet(source, destination, inner.segment, time_ns, |of, bytes| {
                take(match of {
                    Payload::S1ap => s1ap::read(bytes),
                    Payload::Ngap => ngap::read(bytes),
                });
            });
            return;
        }
        let (Some(ports), Some(payload)) = (ports_of(inner), payload_of(inner)) else {
            return;
        };
        if gtp::is_control(ports, payload) {
            gtp::messages(payload).for_each(take);
        } else if ports.contains(&pfcp::PORT) {
            pfcp::read_all(payload).for_each(take);
        } else if ports.iter().any(|port| radius::PORTS.contains(port)) {
            // An identifier is the client port's own (RFC 2865 3): a busy client has several.
            let client = ports.iter().find(|port| !radius::PORTS.contains(port));
            take(radius::read(payload).map(|message| Message {
                sequence: message.sequence | u32::from(*client.unwrap_or(&0)) << 8,
                ..message
            }));
        }
    }

    /// What could not be read, by reason, and the parts of messages that were given up.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let [truncated, length, version, value] = self.malformed;
        let sctp = self.sctp.counters();
        [
            ("control_messages", self.messages),
            ("control_malformed_truncated", truncated + sctp.truncated),
            ("control_malformed_length", length + sctp.malformed),
            ("control_malformed_version", version),
            ("control_malformed_value", value),
            ("control_fragments_shed", sctp.fragments_shed),
            ("control_directions_shed", sctp.directions_shed),
        ]
        .into_iter()
    }
}

#[inline]
fn ports_of(inner: &Inner<'_>) -> Option<[u16; 2]> {
    let &[high, low, to_high, to_low] = inner.segment.first_chunk()?;
    Some([
        u16::from_be_bytes([high, low]),
        u16::from_be_bytes([to_high, to_low]),
    ])
}

#[inline]
fn are_known(ports: [u16; 2]) -> bool {
    ports.into_iter().any(is_control_port)
}

/// UDP ports of the control plane.
#[inline]
pub fn is_control_port(port: u16) -> bool {
    matches!(port, gtp::PORT | pfcp::PORT) || radius::PORTS.contains(&port)
}

fn payload_of<'a>(inner: &Inner<'a>) -> Option<&'a [u8]> {
    let stated = usize::from(u16::from_be_bytes([
        *inner.segment.get(4)?,
        *inner.segment.get(5)?,
    ]));
    let captured = inner.segment.get(UDP_HEADER..)?;
    captured
        .get(..stated.saturating_sub(UDP_HEADER))
        .or(Some(captured))
}
