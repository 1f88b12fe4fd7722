//! Which part of the engine a packet belongs to, where several share the work of one capture.
//!
//! All of a subscriber meets one part, by the subscriber's address: names and flows, a race's two
//! connections, an error and what it quotes. A kernel's fanout program does the same sums on 32 bits, so
//! they are simple: the *key* of an IPv4 address is the address, that of an IPv6 address its upper 64 bits
//! folded in two (a subscriber has a /64, RFC 7066 2); the part is a Fibonacci hash of the key (Knuth vol. 3, 6.4).
//!
//! The control plane is for all parts: each learns who is where, and the lead alone tells of it.

use crate::control::attribution::Prefix;
use crate::control::reader::{Reader, is_control_port};
use crate::decap::{Address, Decoded, Inner, Transport, Tunnel, TunnelDirection};
use crate::engine::icmp::IcmpError;
use crate::engine::options::Options;
use crate::flow::FlowKey;

/// Floor of 2^32 divided by the golden ratio, made odd.
const GOLDEN_RATIO: u32 = 0x9e37_79b1;

/// One of several that share a capture's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub number: u16,
    pub of: u16,
}

impl Part {
    /// The part of a capture that is not shared.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Whether this part tells of what all parts see: it counts the packets of the control plane, and
    /// writes their records.
    pub fn is_lead(self) -> bool {
        self.number == 0
    }
}

/// Who takes a packet in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    One(u16),
    All,
}

/// 32 bits of an address in which subscribers differ.
pub fn key_of(address: Address) -> u32 {
    match address.as_v4() {
        Some(v4) => v4,
        None => (address.0 >> 96) as u32 ^ (address.0 >> 64) as u32,
    }
}

/// The part, of `of` (0 counts as 1), of the subscriber with this key.
pub fn part_of_key(key: u32, of: u16) -> u16 {
    let mixed = (key.wrapping_mul(GOLDEN_RATIO) >> 16) as u16;
    mixed % of.max(1)
}

/// RFC 1918, RFC 6598 and RFC 4193: what subscribers have behind a translator, and servers have not.
pub fn is_private(address: Address) -> bool {
    match address.as_v4() {
        Some(v4) => {
            v4 >> 24 == 10
                || v4 >> 20 == 0xac1
                || v4 >> 16 == 0xc0a8
                || v4 >> 22 == 0x6440_0000 >> 22
        }
        None => address.0 >> 121 == 0xfc >> 1,
    }
}

/// Shares a capture out among `of` parts.
#[derive(Debug, Clone)]
pub struct Sharing {
    of: u16,
    subscriber_prefixes: Vec<Prefix>,
    ran_prefixes: Vec<Prefix>,
}

impl Sharing {
    /// The error is one line.
    pub fn new(options: &Options, of: u16) -> Result<Self, String> {
        Ok(Self {
            of,
            subscriber_prefixes: options.subscriber_prefixes()?,
            ran_prefixes: options.ran_prefixes()?,
        })
    }

    /// Whose a packet is, by all that it shows: the direction of its tunnel, else its addresses.
    ///
    /// Bias: where neither tunnel nor prefixes nor private addresses say who is the subscriber, both ends
    /// take turns in being the one, and two flows of a subscriber may meet different parts; so may the
    /// packets of one flow of which only some are in a tunnel. Prefixes mend both.
    pub fn of_packet(&self, decoded: &Decoded<'_>) -> Share {
        match decoded {
            Decoded::Inner(inner) if self.is_for_all(inner) => Share::All,
            Decoded::Inner(inner) => Share::One(self.of_inner(inner)),
            Decoded::TunnelSignal(_) => Share::All,
            Decoded::Held => Share::One(0),
        }
    }

    /// Whether all parts learn from a packet.
    #[inline]
    pub fn is_for_all(&self, inner: &Inner<'_>) -> bool {
        Reader::is_control(inner)
            && !self.is_subscriber(inner.source)
            && !self.is_subscriber(inner.destination)
    }

    /// The part of a flow, whichever of its packets shows it: by its two ends alone.
    pub fn of_flow(&self, key: &FlowKey) -> u16 {
        let is_control = match key.transport {
            Transport::Sctp => true,
            Transport::Udp => is_control_port(key.low_port) || is_control_port(key.high_port),
            _ => false,
        };
        if is_control {
            return 0;
        }
        self.part_of(self.by_addresses(key.low, key.high))
    }

    /// The same of a packet's flow. Of ICMP, which has no ports, it is the place of two hosts.
    #[inline]
    pub fn home_of(&self, inner: &Inner<'_>) -> u16 {
        let is_control = match inner.transport {
            Transport::Sctp => true,
            Transport::Udp => inner.segment.first_chunk().is_some_and(|&[a, b, c, d]| {
                is_control_port(u16::from_be_bytes([a, b]))
                    || is_control_port(u16::from_be_bytes([c, d]))
            }),
            _ => false,
        };
        if is_control {
            return 0;
        }
        self.part_of(self.by_addresses(inner.source, inner.destination))
    }

    pub fn parts(&self) -> u16 {
        self.of.max(1)
    }

    fn of_inner(&self, inner: &Inner<'_>) -> u16 {
        let up = inner.tunnel().and_then(|tunnel| self.is_up(tunnel));
        // An error goes against the packet that it quotes.
        let error = (inner.transport == Transport::Icmp).then(|| IcmpError::read(inner));
        let (source, destination, up) = match error.flatten() {
            Some(error) => (
                error.quote.source,
                error.quote.destination,
                up.map(|up| !up),
            ),
            None => (inner.source, inner.destination, up),
        };
        self.part_of(match up {
            Some(true) => source,
            Some(false) => destination,
            None => self.by_addresses(source, destination),
        })
    }

    fn part_of(&self, subscriber: Address) -> u16 {
        part_of_key(key_of(subscriber), self.of)
    }

    /// Whether a tunnel's packet goes up, by what it says of itself, or by the prefixes of the RAN.
    fn is_up(&self, tunnel: &Tunnel) -> Option<bool> {
        let of_ran = |address| holds(&self.ran_prefixes, address);
        match tunnel.direction {
            Some(direction) => Some(direction == TunnelDirection::Up),
            None => one_of(of_ran(tunnel.source), of_ran(tunnel.destination)),
        }
    }

    /// The end that is the subscriber's by the operator's prefixes, else by being private; where both or
    /// none are, that with the lower key: the same in both directions.
    fn by_addresses(&self, one: Address, other: Address) -> Address {
        let by_prefix = one_of(self.is_subscriber(one), self.is_subscriber(other));
        let is_first = by_prefix
            .or_else(|| one_of(is_private(one), is_private(other)))
            .unwrap_or(key_of(one) <= key_of(other));
        if is_first { one } else { other }
    }

    fn is_subscriber(&self, address: Address) -> bool {
        holds(&self.subscriber_prefixes, address)
    }
}

fn holds(prefixes: &[Prefix], address: Address) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

/// Which of two it is, where it is one of them.
fn one_of(first: bool, second: bool) -> Option<bool> {
    (first != second).then_some(first)
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
