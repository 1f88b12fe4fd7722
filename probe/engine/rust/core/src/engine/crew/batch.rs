//! Packets on their way from the front to a hand.

use std::sync::Arc;

use zeroize::Zeroize;

use crate::control::attribution::AttributionMap;
use crate::control::tunnels::Measured;
use crate::decap::{Address, Encapsulation, Inner, Transport, TunnelSignal};
use crate::engine::clock::Step;

/// Packets shared out before all hands get what there is for them.
pub const PACKETS: u64 = 1024;
/// Bytes of packets likewise; a packet has 64 KiB at most, or what the capture's limit is.
pub const BYTES: usize = 1 << 20;

/// What a hand does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Gives it to its flow.
    Track,
    /// The same, and learns from it.
    TrackAndLearn,
    /// Learns from it; its flow is the lead's.
    Learn,
    /// Follows the way of what was shown before.
    Copy,
    /// Tells the flow of the packet that it quotes; its own flow is another hand's.
    Quote,
}

/// An innermost packet, but for its bytes.
#[derive(Debug)]
pub struct Carried {
    pub number: u64,
    pub time_ns: u64,
    /// The time that is believed.
    pub now_ns: u64,
    pub interface: u32,
    pub to: Use,
    pub measured: Option<Measured>,
    source: Address,
    destination: Address,
    transport: Transport,
    protocol: u8,
    segment_len: u32,
    ip_len: u32,
    ttl: u8,
    identification: u16,
    encapsulation: Option<Encapsulation>,
    start: usize,
    end: usize,
}

/// When and where a packet was captured.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub number: u64,
    pub time_ns: u64,
    pub now_ns: u64,
    pub interface: u32,
}

#[derive(Debug)]
pub enum Item {
    Packet(Carried),
    /// Another second begins before a packet.
    Step {
        number: u64,
        step: Step,
    },
    /// What the ends of tunnels say to each other.
    Signal {
        now_ns: u64,
        signal: TunnelSignal,
    },
    /// A body is closed: what waits for too long is given up.
    Expire {
        now_ns: u64,
    },
    Map(Arc<AttributionMap>),
    /// No packet follows `number`.
    End {
        number: u64,
        now_ns: u64,
        /// When what still lives ends.
        closing_ns: u64,
    },
}

/// A hand's share of some packets, in order. Its room is used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    pub items: Vec<Item>,
    bytes: Vec<u8>,
}

impl Batch {
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub fn add(
        &mut self,
        inner: &Inner<'_>,
        arrival: Arrival,
        to: Use,
        measured: Option<Measured>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(inner.segment);
        self.items.push(Item::Packet(Carried {
            number: arrival.number,
            time_ns: arrival.time_ns,
            now_ns: arrival.now_ns,
            interface: arrival.interface,
            to,
            measured,
            source: inner.source,
            destination: inner.destination,
            transport: inner.transport,
            protocol: inner.protocol,
            segment_len: inner.segment_len,
            ip_len: inner.ip_len,
            ttl: inner.ttl,
            identification: inner.identification,
            encapsulation: inner.encapsulation.map(without_marks),
            start,
            end: self.bytes.len(),
        }));
    }

    /// The packet, without the marks of its tunnel: the front has read them.
    #[inline]
    pub fn inner_of<'a>(&'a self, carried: &'a Carried) -> Inner<'a> {
        Inner {
            source: carried.source,
            destination: carried.destination,
            transport: carried.transport,
            protocol: carried.protocol,
            segment: self.bytes.get(carried.start..carried.end).unwrap_or(&[]),
            segment_len: carried.segment_len,
            ip_len: carried.ip_len,
            ttl: carried.ttl,
            identification: carried.identification,
            encapsulation: carried.encapsulation.as_ref(),
            container: &[],
        }
    }
}

fn without_marks(around: &Encapsulation) -> Encapsulation {
    Encapsulation {
        sequence: None,
        ..*around
    }
}

impl Drop for Batch {
    /// Messages of the control plane name subscribers.
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
