//! The canonical five-tuple.

use crate::decap::{Address, Transport};

/// Which way a packet of a flow goes, relative to the canonical order of its two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lower end to the higher one.
    Forward = 0,
    Reverse = 1,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Forward, Self::Reverse];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn opposite(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }
}

/// A five-tuple with its lower end first, so that both directions have the same key.
///
/// The order says nothing about who is client or server. Packed, so that a slot of the table is one cache
/// line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(8))]
pub struct FlowKey {
    pub low: Address,
    pub high: Address,
    pub low_port: u16,
    pub high_port: u16,
    pub transport: Transport,
}

impl FlowKey {
    /// Returns the key of a packet and the direction in which it goes.
    #[inline(always)]
    pub fn of(
        source: Address,
        source_port: u16,
        destination: Address,
        destination_port: u16,
        transport: Transport,
    ) -> (Self, Direction) {
        let (sender, receiver) = ((source, source_port), (destination, destination_port));
        let (direction, low, high) = if sender <= receiver {
            (Direction::Forward, sender, receiver)
        } else {
            (Direction::Reverse, receiver, sender)
        };
        let key = Self {
            low: low.0,
            high: high.0,
            low_port: low.1,
            high_port: high.1,
            transport,
        };
        (key, direction)
    }

    /// The address and port from which packets of `direction` come.
    pub fn sender(&self, direction: Direction) -> (Address, u16) {
        match direction {
            Direction::Forward => (self.low, self.low_port),
            Direction::Reverse => (self.high, self.high_port),
        }
    }

    /// A keyed hash: without the seed nobody can aim packets at one bucket of the table. Flows that
    /// differ in no more than a transport other than TCP share it.
    #[inline]
    pub fn hash(&self, seed: u64) -> u64 {
        let ports = u64::from(self.low_port) << 48
            | u64::from(self.high_port) << 32
            | u64::from(self.transport == Transport::Tcp);
        let low = fold(
            self.low.0 as u64 ^ seed,
            (self.low.0 >> 64) as u64 ^ MULTIPLIER,
        );
        let high = fold(
            self.high.0 as u64 ^ low,
            (self.high.0 >> 64) as u64 ^ MULTIPLIER,
        );
        fold(high ^ ports, seed ^ MULTIPLIER)
    }
}

/// The protocol number of IP; ICMP and ICMPv6 are one transport here.
pub fn protocol_number(transport: Transport) -> u8 {
    match transport {
        Transport::Icmp => 1,
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
        Transport::Other(number) => number,
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies to 128 bits and folds the halves: mixes all bits of both operands.
#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left ^ MULTIPLIER) * u128::from(right | 1);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_directions_have_one_key(a: u128, b: u128, ports: (u16, u16)) {
            let (ours, forth) = FlowKey::of(Address(a), ports.0, Address(b), ports.1, Transport::Tcp);
            let (theirs, back) = FlowKey::of(Address(b), ports.1, Address(a), ports.0, Transport::Tcp);
            prop_assert_eq!(ours, theirs);
            prop_assert!(forth != back || (a, ports.0) == (b, ports.1));
            prop_assert_eq!(ours.sender(forth), (Address(a), ports.0));
            prop_assert_eq!(ours.hash(7), theirs.hash(7));
        }
    }
}
