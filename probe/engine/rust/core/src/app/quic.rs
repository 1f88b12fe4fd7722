//! What a QUIC connection shows to those who do not hold its keys (RFC 9000, 9001, 9369).
//!
//! [`QuicTracker`] reads both directions of one connection datagram by datagram. The Initial packets
//! are sealed with keys that follow from the first of them, so the hellos can be read, and with them
//! acknowledgments, refusals and the round trips of the handshake. After that only the spin bit is
//! in the clear. What cannot be known: alerts after the server's first flight (a refused certificate),
//! the protocol that the server chose, requests, losses, and resets, which look like any packet.

mod crypto;
mod crypto_stream;
mod flight;
mod frame;
mod google;
mod handshake;
mod packet;
mod spin;
mod unread;
mod version;

use std::sync::Arc;

use crate::app::tls::alert;
use crate::flow::samples::Samples;
use handshake::Handshake;
pub use packet::{ConnectionId, looks_like_quic, spin_of};
use packet::{Packet, Packets};
use spin::Spin;
pub use spin::{CLIENT, SERVER};
pub use unread::Budget;
use unread::Unread;
use version::LongType;

/// What a connection is known by after its handshake.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Lower-case host name of the ClientHello; with `ech` the outer, public name.
    pub server_name: Option<Box<str>>,
    /// The client's offers, joined by commas: the server's choice is encrypted.
    pub alpn: Option<Box<str>>,
    /// Whether the ClientHello carries encrypted_client_hello; none if no ClientHello was read.
    pub ech: Option<bool>,
    /// The server has answered it. QUIC knows no TLS older than 1.3 (RFC 9001 4.2).
    pub tls_1_3: bool,
}

/// CONNECTION_CLOSE in an Initial packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    pub from_client: bool,
    /// RFC 9000 20.1; 0x100 and above hold a TLS alert.
    pub error_code: u64,
    /// What a TLS alert says about the handshake.
    pub tls_failure: Option<alert::Failure>,
}

/// Datagrams of the client since the server was last heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unanswered {
    pub datagrams: u32,
    pub first_ns: u64,
    pub last_ns: u64,
}

/// What happened so far. Pairs have the client's value first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The client's first Initial, whether it could be opened or not.
    pub first_initial_ns: Option<u64>,
    /// The first 1-RTT packet of each side.
    pub one_rtt_ns: [Option<u64>; 2],
    /// Anything came from the server.
    pub server_heard: bool,
    /// The server refused the version, and has accepted no other since.
    pub version_refused: bool,
    pub close: Option<Close>,
    pub unanswered: Unanswered,
    /// The client's last datagram.
    pub last_client_ns: u64,
    /// First round trip of the handshake between the tap and each side.
    pub handshake_us: [Option<u32>; 2],
}

impl Facts {
    /// From the client's first Initial to its first 1-RTT packet, with whatever came between:
    /// version negotiation, a Retry, retransmissions. A client may send 1-RTT packets once the
    /// handshake is complete on its side, so this holds the set-up of transport and TLS together.
    pub fn setup_us(&self) -> Option<u32> {
        Some(micros(self.first_initial_ns?, self.one_rtt_ns[CLIENT]?))
    }
}

/// Follows one connection.
#[derive(Debug, Default)]
pub struct QuicTracker {
    /// Google's own QUIC: its packets are another protocol's, only the name is read.
    is_google: bool,
    /// What comes with `from_first` true is the server's.
    is_swapped: bool,
    /// Present until the handshake is over.
    handshake: Option<Box<Handshake>>,
    identity: Option<Arc<Identity>>,
    facts: Facts,
    /// IDs by which the client calls the server: its first choice, that of a Retry, the server's.
    ids: [Option<ConnectionId>; 3],
    /// The server's ID is known and nobody has asked for it.
    is_news: bool,
    round_trips: [Samples; 2],
    spin: Spin,
    /// Packets kept aside under overload; see `unread`.
    unread: Option<Box<Unread>>,
    /// Packets that were never read.
    left_unread: u32,
}

/// Shorter IDs of servers are not remembered: other bytes could match them.
const MIN_REMEMBERED_ID: usize = 4;
/// Datagrams of a client that may come without a readable hello after its first 1-RTT packet.
const PATIENCE_DATAGRAMS: u32 = 8;
/// A client's first datagram is as long as this (RFC 9000 14.1).
const MIN_FIRST_DATAGRAM: usize = 1200;

impl QuicTracker {
    /// A connection whose first datagram is at hand. Which end is the client is seen by who sent the
    /// first Initial packet.
    pub fn new() -> Self {
        Self {
            handshake: Some(Box::default()),
            ..Self::default()
        }
    }

    /// A connection that goes on with another address of its client.
    pub fn resumed(identity: Arc<Identity>) -> Self {
        Self {
            identity: Some(identity),
            ..Self::default()
        }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The client is the end whose datagrams come with `from_first` false.
    pub fn is_swapped(&self) -> bool {
        self.is_swapped
    }

    /// What the connection is known by; grows until the handshake is over.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The client has begun and its handshake has neither ended nor failed, as far as can be seen.
    pub fn is_in_handshake(&self) -> bool {
        let facts = &self.facts;
        !self.is_google
            && facts.first_initial_ns.is_some()
            && facts.one_rtt_ns[CLIENT].is_none()
            && facts.close.is_none()
    }

    /// The client asked for a connection and nothing came back, be it that it has closed meanwhile.
    pub fn is_unanswered(&self) -> bool {
        let facts = &self.facts;
        let begun = !self.is_google && facts.first_initial_ns.is_some();
        begun && facts.one_rtt_ns[CLIENT].is_none() && !facts.server_heard
    }

    /// Round trips of the handshake since the last call, client's and server's.
    pub fn take_handshake_round_trips(&mut self) -> [Samples; 2] {
        std::mem::take(&mut self.round_trips)
    }

    /// Round trips by the spin bit since the last call, client's and server's.
    pub fn take_spin_round_trips(&mut self) -> [Samples; 2] {
        self.spin.take()
    }

    /// The server's ID may have become known since `take_news`.
    pub fn has_news(&self) -> bool {
        self.is_news
    }

    /// The server's ID and what the connection is known by, once, when both are settled.
    pub fn take_news(&mut self) -> Option<(ConnectionId, Arc<Identity>)> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let id = self.ids[SERVERS].filter(|id| id.as_bytes().len() >= MIN_REMEMBERED_ID)?;
        Some((id, Arc::clone(self.identity.as_ref()?)))
    }

    /// Takes in a datagram. `from_first`: it was sent by the end that is taken for the client.
    #[inline]
    pub fn on_datagram(&mut self, from_first: bool, datagram: &[u8], time_ns: u64) {
        match spin_of(datagram) {
            _ if self.is_google => self.read_google(datagram),
            Some(spin) => self.on_short(from_first, spin, time_ns),
            None => self.on_long(from_first, datagram, time_ns),
        }
        self.note_sender(from_first, time_ns);
        if self.handshake.is_some() && self.is_over() {
            self.settle();
        }
    }

    fn side(&self, from_first: bool) -> usize {
        if from_first != self.is_swapped {
            CLIENT
        } else {
            SERVER
        }
    }

    fn note_sender(&mut self, from_first: bool, time_ns: u64) {
        let from_client = self.side(from_first) == CLIENT;
        let facts = &mut self.facts;
        if !from_client {
            facts.server_heard = true;
            facts.unanswered = Unanswered::default();
            return;
        }
        facts.last_client_ns = time_ns;
        let unanswered = &mut facts.unanswered;
        if unanswered.datagrams == 0 {
            unanswered.first_ns = time_ns;
        }
        unanswered.datagrams = unanswered.datagrams.saturating_add(1);
        unanswered.last_ns = time_ns;
    }

    fn on_short(&mut self, from_first: bool, spin: bool, time_ns: u64) {
        let side = self.side(from_first);
        self.facts.one_rtt_ns[side].get_or_insert(time_ns);
        self.spin.on_packet(side, spin, time_ns);
    }

    /// The handshake is taken out while its packets are read.
    fn on_long(&mut self, from_first: bool, datagram: &[u8], time_ns: u64) {
        let Some(mut handshake) = self.handshake.take() else {
            return;
        };
        if packet::google_version(datagram).is_some() {
            self.is_google = true;
            self.read_google(datagram);
            return;
        }
        self.set_aside(&mut handshake, from_first, datagram, time_ns);
        for packet in Packets::of(datagram) {
            self.on_packet(&mut handshake, from_first, &packet, time_ns);
        }
        self.handshake = Some(handshake);
    }

    fn on_packet(
        &mut self,
        handshake: &mut Handshake,
        from_first: bool,
        packet: &Packet<'_>,
        time_ns: u64,
    ) {
        match packet {
            Packet::Short { spin } => self.on_short(from_first, *spin, time_ns),
            Packet::VersionNegotiation { versions, .. } => {
                self.hear_server(from_first);
                self.facts.version_refused = handshake.is_refused_by(versions);
            }
            Packet::Retry { source, .. } => {
                self.hear_server(from_first);
                self.facts.version_refused = false;
                self.ids[RETRYS] = Some(*source);
            }
            Packet::Long(long) if long.kind == LongType::Initial && self.unread.is_some() => {
                if self.side(from_first) == CLIENT {
                    handshake.note_client_version(long.version);
                }
                self.on_unread_initial(from_first, long, time_ns);
            }
            Packet::Long(long) if long.kind == LongType::Initial => {
                self.on_initial(handshake, from_first, long, time_ns);
            }
            Packet::Long(long) => {
                let side = self.side(from_first);
                self.note_long(side, long);
                if side == CLIENT && long.kind == LongType::Handshake {
                    self.on_unread_handshake(time_ns);
                    self.add_round_trip(CLIENT, handshake.take_server_flight(), time_ns);
                }
            }
        }
    }

    /// Only servers send such packets, and they are the first of a connection whose client was not
    /// seen.
    fn hear_server(&mut self, from_first: bool) {
        if self.facts.first_initial_ns.is_none() {
            self.is_swapped = from_first;
        }
        self.facts.server_heard = true;
    }

    fn note_long(&mut self, side: usize, long: &packet::Long<'_>) {
        if side == CLIENT {
            self.ids[CLIENTS].get_or_insert(long.destination);
        } else {
            self.ids[SERVERS].get_or_insert(long.source);
            self.facts.version_refused = false;
        }
    }

    /// The first packet that opens with a client's keys proves who the client is.
    fn on_initial(
        &mut self,
        handshake: &mut Handshake,
        from_first: bool,
        long: &packet::Long<'_>,
        time_ns: u64,
    ) {
        let proves_client = !handshake.has_keys();
        let presumed = if proves_client {
            CLIENT
        } else {
            self.side(from_first)
        };
        let found = handshake.on_initial(presumed, long, time_ns);
        if proves_client && found.is_some() {
            self.is_swapped = !from_first;
        }
        let side = self.side(from_first);
        if side == CLIENT {
            self.facts.first_initial_ns.get_or_insert(time_ns);
            handshake.note_client_version(long.version);
        }
        self.note_long(side, long);
        if let Some(found) = found {
            self.add_round_trip(side, found.answered_sent_ns, time_ns);
            self.facts.close = self.facts.close.or(found.close);
        }
    }

    fn add_round_trip(&mut self, side: usize, sent_ns: Option<u64>, time_ns: u64) {
        if let Some(sent_ns) = sent_ns {
            let us = micros(sent_ns, time_ns);
            self.facts.handshake_us[side].get_or_insert(us);
            self.round_trips[side].add(us);
        }
    }

    fn read_google(&mut self, datagram: &[u8]) {
        if self.identity.is_some() {
            return;
        }
        if let Some(name) = google::server_name(datagram) {
            self.identity = Some(Arc::new(Identity {
                server_name: Some(name),
                ..Identity::default()
            }));
        }
    }

    fn is_over(&self) -> bool {
        let Some(handshake) = &self.handshake else {
            return true;
        };
        let protected = self.facts.one_rtt_ns[CLIENT].is_some();
        let read = handshake.has_read_hello() || self.unread.is_some();
        let in_vain = self.facts.unanswered.datagrams > PATIENCE_DATAGRAMS;
        (protected && (read || in_vain)) || self.facts.close.is_some() || handshake.is_exhausted()
    }

    /// Forgets everything but what was learnt.
    fn settle(&mut self) {
        if self.facts.one_rtt_ns[CLIENT].is_some() {
            self.leave_unread();
        }
        self.refresh_identity();
        self.handshake = None;
        self.is_news = self.identity.is_some() && self.facts.one_rtt_ns[CLIENT].is_some();
    }

    /// Brings the identity up to what the handshake has shown.
    pub fn refresh_identity(&mut self) {
        if self.unread.is_some()
            && let Some(mut handshake) = self.handshake.take()
        {
            self.read_all(&mut handshake);
            self.handshake = Some(handshake);
        }
        let Some(handshake) = &self.handshake else {
            return;
        };
        if let Some(mut identity) = handshake.identity() {
            identity.tls_1_3 |= self.facts.one_rtt_ns[SERVER].is_some();
            self.identity = Some(Arc::new(identity));
        }
    }

    /// Whether a datagram begins another connection between the same addresses and ports: a client's
    /// Initial to an ID that this connection, whose handshake is over, does not know.
    pub fn is_succeeded_by(&self, from_first: bool, datagram: &[u8]) -> bool {
        if self.handshake.is_some() || self.is_google || datagram.len() < MIN_FIRST_DATAGRAM {
            return false;
        }
        let Some(Packet::Long(long)) = Packets::of(datagram).next() else {
            return false;
        };
        self.side(from_first) == CLIENT
            && long.kind == LongType::Initial
            && version::is_known(long.version)
            && self.ids[CLIENTS].is_some()
            && !self.ids.contains(&Some(long.destination))
    }
}

/// Places in `QuicTracker::ids`.
const CLIENTS: usize = 0;
const RETRYS: usize = 1;
const SERVERS: usize = 2;

/// Whole microseconds, 0 where the clock went back.
fn micros(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns) / 1000).unwrap_or(u32::MAX)
}

/// An Initial packet of version 1 with these frames, for tests that need sealed packets. Every
/// connection made so has the same IDs.
#[cfg(feature = "seal")]
pub fn sealed_initial(from_client: bool, number: u32, frames: &[u8]) -> Vec<u8> {
    const FIRST_ID: &[u8] = b"\x08firstone";
    const CLIENTS_ID: &[u8] = b"\x04clnt";
    const SERVERS_ID: &[u8] = b"\x08serverid";
    const TAG_AND_NUMBER: usize = 16 + 4;
    let (sender, ids) = if from_client {
        (crypto::Sender::Client, [FIRST_ID, CLIENTS_ID])
    } else {
        (crypto::Sender::Server, [CLIENTS_ID, SERVERS_ID])
    };
    let length = (frames.len() + TAG_AND_NUMBER) as u16 & 0x3fff | 0x4000;
    let mut header = vec![0xc3, 0, 0, 0, 1];
    ids.iter().for_each(|id| header.extend_from_slice(id));
    header.push(0);
    header.extend(length.to_be_bytes());
    header.extend(number.to_be_bytes());
    let id = ConnectionId::new(&FIRST_ID[1..]).unwrap_or_default();
    let sealing = version::sealings(version::VERSION_1)[0];
    crypto::Keys::derive(sealing, id, sender).seal(&header, number, frames)
}

#[cfg(test)]
mod tests;
