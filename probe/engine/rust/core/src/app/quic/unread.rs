//! Initial packets that are kept aside instead of opened: under overload only handshakes that fail
//! are read.
//!
//! Keys are the dearest of a connection, and what they open of a handshake that succeeds is its name.
//! What they open of one that fails is the cause. So the packets wait: once the client sends 1-RTT
//! packets they are dropped, and where the connection ends before that they are read after all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handshake::Handshake;
use super::packet::{Long, Packet, Packets};
use super::version::LongType;
use super::{CLIENT, QuicTracker, SERVER};

/// Most datagrams kept of one connection; with one more, all are read.
const MAX_DATAGRAMS: usize = 8;
/// A longer one is no Initial of today, and is not opened either.
const MAX_DATAGRAM: usize = super::crypto::MAX_INITIAL;

/// Bytes that all connections of a capture may keep aside together.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Datagram {
    from_first: bool,
    time_ns: u64,
    bytes: Box<[u8]>,
}

/// The datagrams of one connection that wait.
#[derive(Debug)]
pub struct Unread {
    datagrams: Vec<Datagram>,
    budget: Arc<Budget>,
    /// When the side's first Initial came, and whether it is its only one.
    firsts: [Option<(u64, bool)>; 2],
}

impl Unread {
    fn keep(&mut self, from_first: bool, datagram: &[u8], time_ns: u64) -> bool {
        let has_room = self.datagrams.len() < MAX_DATAGRAMS && datagram.len() <= MAX_DATAGRAM;
        if !has_room || !self.budget.take(datagram.len()) {
            return false;
        }
        self.datagrams.push(Datagram {
            from_first,
            time_ns,
            bytes: datagram.into(),
        });
        true
    }

    /// When the side sent its Initial, if it sent no other.
    fn sole(&self, side: usize) -> Option<u64> {
        self.firsts[side]
            .filter(|(_, is_sole)| *is_sole)
            .map(|(time_ns, _)| time_ns)
    }

    fn note(&mut self, side: usize, time_ns: u64) -> bool {
        let is_first = self.firsts[side].is_none();
        self.firsts[side] = match self.firsts[side] {
            None => Some((time_ns, true)),
            Some((first_ns, _)) => Some((first_ns, false)),
        };
        is_first
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let bytes = self.datagrams.iter().map(|datagram| datagram.bytes.len());
        self.budget.give_back(bytes.sum());
    }
}

impl QuicTracker {
    /// A connection opened by its first sender, which is not read while it may succeed.
    pub fn unread(budget: &Arc<Budget>) -> Self {
        Self {
            unread: Some(Box::new(Unread {
                datagrams: Vec::new(),
                budget: Arc::clone(budget),
                firsts: [None; 2],
            })),
            ..Self::new()
        }
    }

    /// Keeps a datagram with an Initial packet aside; where that cannot be, all are read.
    pub(super) fn set_aside(
        &mut self,
        handshake: &mut Handshake,
        from_first: bool,
        datagram: &[u8],
        time_ns: u64,
    ) {
        let Some(unread) = &mut self.unread else {
            return;
        };
        let has_initial = Packets::of(datagram).any(|packet| initial(&packet).is_some());
        if has_initial && !unread.keep(from_first, datagram, time_ns) {
            self.read_all(handshake);
        }
    }

    /// What an Initial packet shows unopened. It answers the other side's if there is but one: then
    /// no other can be meant.
    pub(super) fn on_unread_initial(&mut self, from_first: bool, long: &Long<'_>, time_ns: u64) {
        let side = self.side(from_first);
        if side == CLIENT {
            self.facts.first_initial_ns.get_or_insert(time_ns);
        }
        self.note_long(side, long);
        let Some(unread) = &mut self.unread else {
            return;
        };
        if unread.note(side, time_ns) && side == SERVER {
            let sent_ns = unread.sole(CLIENT);
            self.add_round_trip(SERVER, sent_ns, time_ns);
        }
    }

    /// A Handshake packet of the client shows that the server's sole Initial arrived.
    pub(super) fn on_unread_handshake(&mut self, time_ns: u64) {
        let Some(unread) = &mut self.unread else {
            return;
        };
        let sent_ns = unread.sole(SERVER);
        unread.firsts[SERVER] = unread.firsts[SERVER].map(|(first_ns, _)| (first_ns, false));
        self.add_round_trip(CLIENT, sent_ns, time_ns);
    }

    /// Reads what was kept aside.
    pub(super) fn read_all(&mut self, handshake: &mut Handshake) {
        let Some(mut unread) = self.unread.take() else {
            return;
        };
        // Packets tell their round trips again, and whether a version is refused was told in order.
        let refused = self.facts.version_refused;
        self.facts.handshake_us = [None; 2];
        self.round_trips = Default::default();
        for datagram in &unread.datagrams {
            for packet in Packets::of(&datagram.bytes) {
                if let Some(long) = initial(&packet) {
                    self.on_initial(handshake, datagram.from_first, long, datagram.time_ns);
                }
            }
        }
        self.facts.version_refused = refused;
        unread.firsts = [None; 2];
    }

    /// Packets that were never read since the last call: their connection succeeded.
    pub fn take_unread(&mut self) -> u32 {
        std::mem::take(&mut self.left_unread)
    }

    /// The handshake succeeded: what waits is never read.
    pub(super) fn leave_unread(&mut self) {
        if let Some(unread) = self.unread.take() {
            let datagrams = u32::try_from(unread.datagrams.len()).unwrap_or(u32::MAX);
            self.left_unread = self.left_unread.saturating_add(datagrams);
        }
    }

    /// 1-RTT packets go by unseen.
    pub fn interrupt_round_trips(&mut self) {
        self.spin.interrupt();
    }
}

fn initial<'p, 'a>(packet: &'p Packet<'a>) -> Option<&'p Long<'a>> {
    match packet {
        Packet::Long(long) if long.kind == LongType::Initial => Some(long),
        _ => None,
    }
}
