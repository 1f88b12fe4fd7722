//! Reassembly of IPv4 (RFC 791 3.2) and IPv6 (RFC 8200 4.5) fragments in bounded memory.
//!
//! A datagram is complete when its fragments cover it without a hole. Fragments that overlap, or
//! disagree about where the datagram ends, condemn it (RFC 5722, here for IPv4 too): ends differ in
//! which of two overlapping bytes they use, so no reading of such a datagram is the right one. An exact
//! copy of a fragment changes nothing. A datagram that is not complete in time is given up, and the
//! oldest makes room where a limit is reached.

use std::collections::{BTreeMap, HashMap};

use super::counters::Ledger;
use super::ip::Fragment;
use super::link::Network;
use super::view::View;
use super::{Address, Layer, MAX_LAYERS, Undecodable};

/// Bounds of what reassembly keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Incomplete datagrams.
    pub datagrams: usize,
    /// Bytes of all fragments together, each with `FRAGMENT_OVERHEAD`.
    pub bytes: usize,
    /// Fragments of one datagram: 65,535 bytes at the least IPv4 MTU in use, 576, are 119 fragments.
    pub fragments_per_datagram: usize,
    /// How long after its first fragment a datagram may become complete, in nanoseconds of packet
    /// time. Less than an end waits (RFC 8200: 60 s), as a tap sees the fragments milliseconds apart
    /// and a busy pair of hosts reuses the 16-bit identification within seconds (RFC 4963).
    pub timeout_ns: u64,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            datagrams: 4096,
            bytes: 16 << 20,
            fragments_per_datagram: 128,
            timeout_ns: 5_000_000_000,
        }
    }
}

/// What a kept fragment costs beside its bytes, counted against `FragmentLimits::bytes`.
pub(super) const FRAGMENT_OVERHEAD: usize = 64;

/// Last byte that a datagram can have, plus one.
const MAX_DATAGRAM: usize = 65_535;

/// What the fragments of one datagram have in common. The tunnel and the tags belong to it as
/// subscribers of different networks use the same private addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub interface: u32,
    pub source: Address,
    pub destination: Address,
    pub identification: u32,
    /// IPv4 only (RFC 791); the fragments of an IPv6 datagram may state different ones (RFC 8200 4.5).
    pub protocol: Option<u8>,
    pub layers: [Layer; MAX_LAYERS],
    pub tunnel: Option<(Address, Address, u32)>,
}

/// One fragment as it was captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub network: Network,
    pub source: Address,
    pub destination: Address,
    pub fragment: Fragment,
    pub protocol: u8,
    pub ttl: u8,
    /// Bytes of this fragment's IP packet on the wire.
    pub ip_len: usize,
    /// Captured packets that it came in: more than one if it was itself carried in fragments.
    pub packets: u64,
    pub payload: View<'a>,
}

impl Part<'_> {
    fn start(&self) -> usize {
        self.fragment.offset
    }

    fn end(&self) -> usize {
        self.fragment.offset + self.payload.wire_len()
    }

    fn is_possible(&self) -> bool {
        let length = self.payload.wire_len();
        length > 0
            && self.end() <= MAX_DATAGRAM
            && (!self.fragment.more || length.is_multiple_of(8))
    }
}

/// A complete datagram; its bytes are in the buffer that was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    pub protocol: u8,
    pub ttl: u8,
    /// Of all fragments together, each with its IP header.
    pub ip_len: usize,
    /// Bytes above IP on the wire; fewer are in the buffer where the capture was cut.
    pub wire_len: usize,
    /// Captured packets that were held for it, without the one that completed it.
    pub held: u64,
}

/// A fragment's bytes and place.
#[derive(Debug)]
struct Piece {
    start: usize,
    /// On the wire; `data` ends earlier where the capture was cut.
    end: usize,
    /// At most 65,535 bytes, by `Part::is_possible`.
    data: Box<[u8]>,
}

impl Piece {
    fn is_copy(&self, part: &Part<'_>) -> bool {
        let common = self.data.len().min(part.payload.data().len());
        (self.start, self.end) == (part.start(), part.end())
            && self.data[..common] == part.payload.data()[..common]
    }
}

/// A datagram that is not complete.
#[derive(Debug)]
struct Incomplete {
    /// Key of `Fragments::by_age`.
    age: Age,
    /// By `start`, without overlaps.
    pieces: Vec<Piece>,
    /// Bytes on the wire that `pieces` cover.
    covered: usize,
    /// Bytes of the whole datagram, known from its last fragment.
    total: Option<usize>,
    packets: u64,
    ip_len: usize,
    /// From the first fragment.
    protocol: u8,
    ttl: u8,
    /// Set once the datagram is given up, for the fragments that still come.
    condemned: Option<Undecodable>,
}

/// Time of the first fragment, and a serial number that makes it unique.
type Age = (u64, u64);

/// How a fragment relates to those before it.
enum Fit {
    New(usize),
    Copy,
    Conflict,
}

impl Incomplete {
    fn new(age: Age) -> Self {
        Self {
            age,
            pieces: Vec::new(),
            covered: 0,
            total: None,
            packets: 0,
            ip_len: 0,
            protocol: 0,
            ttl: 0,
            condemned: None,
        }
    }

    fn fit(&self, part: &Part<'_>) -> Fit {
        let place = self
            .pieces
            .partition_point(|piece| piece.start < part.start());
        let next = self.pieces.get(place);
        let previous = place
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index));
        if next.is_some_and(|piece| piece.is_copy(part)) && self.agrees_on_end(part) {
            return Fit::Copy;
        }
        let overlaps = next.is_some_and(|piece| piece.start < part.end())
            || previous.is_some_and(|piece| piece.end > part.start());
        if overlaps || !self.agrees_on_end(part) {
            Fit::Conflict
        } else {
            Fit::New(place)
        }
    }

    /// Whether this fragment ends where the datagram does just if it is the last one.
    fn agrees_on_end(&self, part: &Part<'_>) -> bool {
        let last_end = self.pieces.last().map_or(0, |piece| piece.end);
        match (self.total, part.fragment.more) {
            (Some(total), true) => part.end() < total,
            (Some(total), false) => part.end() == total,
            (None, true) => true,
            (None, false) => part.end() >= last_end,
        }
    }

    fn add(&mut self, place: usize, part: &Part<'_>) {
        let piece = Piece {
            start: part.start(),
            end: part.end(),
            data: part.payload.data().into(),
        };
        self.covered += piece.end - piece.start;
        self.ip_len += part.ip_len;
        self.pieces.insert(place, piece);
        if part.start() == 0 {
            (self.protocol, self.ttl) = (part.protocol, part.ttl);
        }
        if !part.fragment.more {
            self.total = Some(part.end());
        }
    }

    fn is_complete(&self) -> bool {
        self.total == Some(self.covered)
    }

    fn cost(&self) -> usize {
        let data: usize = self.pieces.iter().map(|piece| piece.data.len()).sum();
        data + self.pieces.len() * FRAGMENT_OVERHEAD
    }

    /// Writes the bytes up to the first that was not captured; at most 65,535.
    fn write(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        for piece in &self.pieces {
            buffer.extend_from_slice(&piece.data);
            if piece.data.len() < piece.end - piece.start {
                return;
            }
        }
    }

    fn whole(&self) -> Whole {
        Whole {
            protocol: self.protocol,
            ttl: self.ttl,
            ip_len: self.ip_len,
            wire_len: self.covered,
            held: self.packets,
        }
    }
}

/// The table of incomplete datagrams.
#[derive(Debug)]
pub(super) struct Fragments {
    limits: FragmentLimits,
    /// Keyed by a hash with a random seed: the keys are the sender's choice.
    datagrams: HashMap<Key, Incomplete>,
    by_age: BTreeMap<Age, Key>,
    bytes: usize,
    serial: u64,
}

impl Fragments {
    pub fn new(limits: FragmentLimits) -> Self {
        Self {
            limits,
            datagrams: HashMap::new(),
            by_age: BTreeMap::new(),
            bytes: 0,
            serial: 0,
        }
    }

    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a fragment in. Returns the datagram if it is complete now, its bytes in `buffer`; `None` if
    /// the fragment was kept (counted as held). An error concerns this fragment, which the caller counts;
    /// others that are given up with it are counted here.
    pub fn insert(
        &mut self,
        key: Key,
        part: &Part<'_>,
        now_ns: u64,
        ledger: &mut Ledger,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Whole>, Undecodable> {
        self.expire(now_ns, ledger);
        if !part.is_possible() {
            return Err(Undecodable::FragmentMalformed);
        }
        self.make_room(&key, part, ledger)?;
        let datagram = self.entry(key, now_ns);
        if let Some(reason) = datagram.condemned {
            return Err(reason);
        }
        match datagram.fit(part) {
            Fit::Conflict => return self.condemn(&key, Undecodable::FragmentOverlap, ledger),
            Fit::New(_) if self.is_full(&key) => {
                return self.condemn(&key, Undecodable::FragmentLimit, ledger);
            }
            Fit::New(place) => self.add(&key, place, part),
            Fit::Copy => {}
        }
        Ok(self.finish(&key, part.packets, ledger, buffer))
    }

    /// Gives up what is not complete `timeout_ns` after its first fragment.
    pub fn expire(&mut self, now_ns: u64, ledger: &mut Ledger) {
        while let Some((&(first_ns, _), &key)) = self.by_age.first_key_value() {
            if first_ns.saturating_add(self.limits.timeout_ns) >= now_ns {
                return;
            }
            self.give_up(&key, Undecodable::FragmentTimeout, ledger);
        }
    }

    /// Gives up every datagram.
    pub fn give_up_all(&mut self, ledger: &mut Ledger) {
        while let Some((_, &key)) = self.by_age.first_key_value() {
            self.give_up(&key, Undecodable::FragmentTimeout, ledger);
        }
    }

    /// Makes the oldest datagrams give way to this fragment.
    fn make_room(
        &mut self,
        key: &Key,
        part: &Part<'_>,
        ledger: &mut Ledger,
    ) -> Result<(), Undecodable> {
        let cost = part.payload.data().len() + FRAGMENT_OVERHEAD;
        if cost > self.limits.bytes || self.limits.datagrams == 0 {
            return Err(Undecodable::FragmentLimit);
        }
        while self.bytes + cost > self.limits.bytes
            || (self.datagrams.len() >= self.limits.datagrams && !self.datagrams.contains_key(key))
        {
            let Some((_, &oldest)) = self.by_age.first_key_value() else {
                return Err(Undecodable::FragmentLimit);
            };
            self.give_up(&oldest, Undecodable::FragmentLimit, ledger);
        }
        Ok(())
    }

    fn entry(&mut self, key: Key, now_ns: u64) -> &mut Incomplete {
        self.datagrams.entry(key).or_insert_with(|| {
            self.serial += 1;
            let age = (now_ns, self.serial);
            self.by_age.insert(age, key);
            Incomplete::new(age)
        })
    }

    fn is_full(&self, key: &Key) -> bool {
        let count = self
            .datagrams
            .get(key)
            .map_or(0, |datagram| datagram.pieces.len());
        count >= self.limits.fragments_per_datagram
    }

    fn add(&mut self, key: &Key, place: usize, part: &Part<'_>) {
        if let Some(datagram) = self.datagrams.get_mut(key) {
            datagram.add(place, part);
            self.bytes += part.payload.data().len() + FRAGMENT_OVERHEAD;
        }
    }

    /// Hands out the datagram if it is complete, else counts the packets as held.
    fn finish(
        &mut self,
        key: &Key,
        packets: u64,
        ledger: &mut Ledger,
        buffer: &mut Vec<u8>,
    ) -> Option<Whole> {
        let counters = ledger.of(key.interface);
        let datagram = self.datagrams.get_mut(key)?;
        if !datagram.is_complete() {
            datagram.packets += packets;
            counters.hold(packets);
            return None;
        }
        datagram.write(buffer);
        let whole = datagram.whole();
        counters.release(whole.held);
        counters.reassembled += 1;
        self.remove(key);
        Some(whole)
    }

    /// Gives the datagram up but keeps its key, so that fragments yet to come are refused too.
    fn condemn(
        &mut self,
        key: &Key,
        reason: Undecodable,
        ledger: &mut Ledger,
    ) -> Result<Option<Whole>, Undecodable> {
        if let Some(datagram) = self.datagrams.get_mut(key) {
            self.bytes -= datagram.cost();
            ledger.of(key.interface).lose(reason, datagram.packets);
            *datagram = Incomplete {
                condemned: Some(reason),
                ..Incomplete::new(datagram.age)
            };
        }
        Err(reason)
    }

    fn give_up(&mut self, key: &Key, reason: Undecodable, ledger: &mut Ledger) {
        if let Some(datagram) = self.remove(key) {
            ledger.of(key.interface).lose(reason, datagram.packets);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Incomplete> {
        let datagram = self.datagrams.remove(key)?;
        self.by_age.remove(&datagram.age);
        self.bytes -= datagram.cost();
        Some(datagram)
    }
}
