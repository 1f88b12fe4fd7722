//! User messages of S1AP and NGAP out of SCTP packets (RFC 9260), in bounded memory.
//!
//! A message is given once, however often its chunks are sent. One that fits into a chunk, as nearly
//! all do, is given from the packet itself; fragments are kept until their message is whole. Messages
//! are given as they come, not in the order of their stream: what they say is told apart by the
//! identities in them. Checksums are not verified, as a tap before offloading sees none.
//!
//! Each direction between two addresses stands for itself. A chunk that a multihomed host sends again
//! over another of its addresses is given again, and a message whose fragments take different paths is
//! not put together.

use std::collections::{BTreeMap, HashMap};

use zeroize::Zeroize;

use super::message::Malformed;
use crate::decap::Address;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Directions of associations, of about 200 bytes each.
    pub directions: usize,
    /// Fragments of all directions together.
    pub fragments: usize,
    /// Bytes of all fragments together.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            directions: 16_384,
            fragments: 16_384,
            bytes: 16 << 20,
        }
    }
}

/// Longest message that is put together: S1AP and NGAP need less than 16 KiB, and their length fields,
/// as they are read here, state no more.
pub const MAX_MESSAGE: usize = 32 << 10;
/// Most fragments that one direction has waiting: all that a message of [`MAX_MESSAGE`] needs at an MTU
/// of 576, and as many of others.
const MAX_WAITING: usize = 128;
/// Bytes that one direction has waiting.
const MAX_WAITING_BYTES: usize = 2 * MAX_MESSAGE;

/// A message of which nothing came for longer is not completed any more: chunks are sent again within
/// a minute (RTO.Max of RFC 9260 16).
const MAX_WAIT_NS: u64 = 60 * 1_000_000_000;

/// Whose messages a chunk carries (RFC 9260 15.5). NGAP over DTLS (66) cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    S1ap,
    Ngap,
}

impl Payload {
    fn of(identifier: u32) -> Option<Self> {
        match identifier {
            18 => Some(Self::S1ap),
            60 => Some(Self::Ngap),
            _ => None,
        }
    }
}

/// What happened to chunks that gave no message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of another protocol.
    pub other: u64,
    /// Seen before.
    pub repeated: u64,
    /// Packets that end within a header or a chunk, on the wire or by the capture.
    pub truncated: u64,
    /// Packets with a chunk of an impossible length.
    pub malformed: u64,
    /// Fragments given up: the oldest where a bound was reached, and those that contradict each other.
    pub fragments_shed: u64,
    /// Directions forgotten for newer ones.
    pub directions_shed: u64,
}

/// The messages of all associations.
#[derive(Debug, Default)]
pub struct Sctp {
    limits: Limits,
    places: HashMap<Key, u32>,
    directions: Vec<Direction>,
    /// Where the search for a stale direction goes on.
    hand: usize,
    fragments: Fragments,
    counters: Counters,
    /// The message that was put together last.
    whole: Vec<u8>,
}

/// A direction of an association. The tag, which the receiver chose, is another one after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Address,
    destination: Address,
    ports: [u8; 4],
    tag: [u8; 4],
}

#[derive(Debug)]
struct Direction {
    key: Key,
    last_ns: u64,
    seen: Seen,
    waiting: usize,
    waiting_bytes: usize,
}

impl Sctp {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Directions, fragments and bytes of fragments that are kept.
    pub fn held(&self) -> (usize, usize, usize) {
        let fragments = &self.fragments;
        (
            self.directions.len(),
            fragments.by_place.len(),
            fragments.bytes,
        )
    }

    /// Gives up the fragments that have waited for too long: they may name subscribers.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((place, tsn, since_ns)) = self.fragments.oldest()
            && now_ns.saturating_sub(since_ns) > MAX_WAIT_NS
        {
            self.take(place, tsn);
            self.counters.fragments_shed += 1;
        }
    }

    /// Reads a packet from its common header on, and gives each message that it completes. `now_ns` is
    /// packet time.
    pub fn on_packet(
        &mut self,
        source: Address,
        destination: Address,
        packet: &[u8],
        now_ns: u64,
        mut give: impl FnMut(Payload, &[u8]),
    ) {
        let Some((&[p0, p1, p2, p3, t0, t1, t2, t3, ..], chunks)) =
            packet.split_first_chunk::<12>()
        else {
            self.counters.truncated += 1;
            return;
        };
        let key = Key {
            source,
            destination,
            ports: [p0, p1, p2, p3],
            tag: [t0, t1, t2, t3],
        };
        for chunk in Chunks(chunks) {
            match chunk {
                Ok(data) => self.on_data(&key, &data, now_ns, &mut give),
                Err(Malformed::Truncated) => self.counters.truncated += 1,
                Err(_) => self.counters.malformed += 1,
            }
        }
    }

    fn on_data(
        &mut self,
        key: &Key,
        data: &Data<'_>,
        now_ns: u64,
        give: &mut impl FnMut(Payload, &[u8]),
    ) {
        let Some(payload) = Payload::of(data.payload) else {
            self.counters.other += 1;
            return;
        };
        let Some(place) = self.place(key, now_ns) else {
            self.counters.directions_shed += 1;
            return;
        };
        let direction = &mut self.directions[place as usize];
        direction.last_ns = now_ns;
        if !direction.seen.is_new(data.tsn) {
            self.counters.repeated += 1;
        } else if data.begins && data.ends {
            give(payload, data.bytes);
        } else if self.keep(place, data, now_ns) {
            give(payload, &self.whole);
            self.whole.zeroize();
        }
    }

    /// Where a direction is kept; None if none may be kept.
    fn place(&mut self, key: &Key, now_ns: u64) -> Option<u32> {
        if let Some(&place) = self.places.get(key) {
            return Some(place);
        }
        let direction = Direction {
            key: *key,
            last_ns: now_ns,
            seen: Seen::default(),
            waiting: 0,
            waiting_bytes: 0,
        };
        let place = if self.directions.len() < self.limits.directions {
            self.directions.push(direction);
            self.directions.len() - 1
        } else {
            let stale = self.stale()?;
            self.forget(stale as u32);
            self.places.remove(&self.directions[stale].key);
            self.counters.directions_shed += 1;
            self.directions[stale] = direction;
            stale
        };
        let place = u32::try_from(place).ok()?;
        self.places.insert(*key, place);
        Some(place)
    }

    /// The stalest of the next directions behind a moving hand.
    fn stale(&mut self) -> Option<usize> {
        const LOOKED_AT: usize = 16;
        let count = self.directions.len();
        let next = (0..LOOKED_AT.min(count)).map(|step| (self.hand + step) % count);
        let stale = next.min_by_key(|&place| self.directions[place].last_ns)?;
        self.hand = (self.hand + LOOKED_AT) % count;
        Some(stale)
    }

    /// Keeps a fragment; true if it makes a message whole, which then stands in `whole`.
    fn keep(&mut self, place: u32, data: &Data<'_>, now_ns: u64) -> bool {
        // Numbers come back where an association began anew.
        if self.take(place, data.tsn).is_some() {
            self.counters.fragments_shed += 1;
        }
        let direction = &self.directions[place as usize];
        let is_full = direction.waiting >= MAX_WAITING
            || direction.waiting_bytes + data.bytes.len() > MAX_WAITING_BYTES;
        if is_full {
            self.forget(place);
        }
        if !self.make_room(data.bytes.len()) {
            self.counters.fragments_shed += 1;
            return false;
        }
        self.fragments.insert(place, data, now_ns);
        let direction = &mut self.directions[place as usize];
        direction.waiting += 1;
        direction.waiting_bytes += data.bytes.len();
        self.put_together(place, data.tsn)
    }

    /// Gives up the oldest fragments of all directions until there is room for one more.
    fn make_room(&mut self, bytes: usize) -> bool {
        if bytes > self.limits.bytes || self.limits.fragments == 0 {
            return false;
        }
        while self.fragments.bytes + bytes > self.limits.bytes
            || self.fragments.by_place.len() >= self.limits.fragments
        {
            let Some((place, tsn, _)) = self.fragments.oldest() else {
                return false;
            };
            self.take(place, tsn);
            self.counters.fragments_shed += 1;
        }
        true
    }

    /// Looks for the whole message around a fragment: the fragments of one message have consecutive
    /// numbers (RFC 9260 3.3.1, 6.9).
    fn put_together(&mut self, place: u32, tsn: u32) -> bool {
        let Some((first, last)) = self.fragments.run(place, tsn) else {
            return false;
        };
        self.whole.clear();
        let mut is_one = true;
        let mut number = first;
        let mut kind = None;
        loop {
            if let Some(fragment) = self.take(place, number) {
                is_one &= *kind.get_or_insert(fragment.kind) == fragment.kind;
                self.whole.extend_from_slice(&fragment.bytes);
            }
            if number == last {
                break;
            }
            number = number.wrapping_add(1);
        }
        let is_possible = is_one && self.whole.len() <= MAX_MESSAGE;
        if !is_possible {
            self.counters.fragments_shed += u64::from(last.wrapping_sub(first)) + 1;
        }
        is_possible
    }

    fn take(&mut self, place: u32, tsn: u32) -> Option<Fragment> {
        let fragment = self.fragments.remove(place, tsn)?;
        let direction = &mut self.directions[place as usize];
        direction.waiting -= 1;
        direction.waiting_bytes -= fragment.bytes.len();
        Some(fragment)
    }

    /// Gives up all fragments of a direction.
    fn forget(&mut self, place: u32) {
        while let Some(tsn) = self.fragments.any(place) {
            self.take(place, tsn);
            self.counters.fragments_shed += 1;
        }
    }
}

/// Which transmission sequence numbers have been seen: the greatest, and those not far below it.
#[derive(Debug, Default)]
struct Seen {
    greatest: Option<u32>,
    /// Bit 0 of word 0 is `greatest`, the bits above are the numbers below it.
    window: [u64; Self::WORDS],
}

impl Seen {
    const WORDS: usize = 8;
    /// Numbers that are remembered. One further below is not of this association, whose sender has no more
    /// chunks under way than the receiver's window holds: it begins anew.
    const SIZE: u32 = 64 * Self::WORDS as u32;

    /// Whether a number is seen for the first time (serial arithmetic, RFC 9260 1.6).
    fn is_new(&mut self, tsn: u32) -> bool {
        let Some(greatest) = self.greatest else {
            self.greatest = Some(tsn);
            self.window[0] = 1;
            return true;
        };
        let ahead = tsn.wrapping_sub(greatest);
        if ahead != 0 && ahead < 1 << 31 {
            self.advance(ahead);
            self.greatest = Some(tsn);
            self.window[0] |= 1;
            return true;
        }
        let behind = greatest.wrapping_sub(tsn);
        if behind >= Self::SIZE {
            *self = Self::default();
            return self.is_new(tsn);
        }
        let (word, bit) = (behind as usize / 64, behind % 64);
        let was_seen = self.window[word] >> bit & 1 == 1;
        self.window[word] |= 1 << bit;
        !was_seen
    }

    fn advance(&mut self, ahead: u32) {
        let (words, bits) = (ahead as usize / 64, ahead % 64);
        for word in (0..Self::WORDS).rev() {
            let at = |back: usize| {
                word.checked_sub(words + back)
                    .map_or(0, |from| self.window[from])
            };
            let from_below = at(1).checked_shr(64 - bits).unwrap_or(0);
            self.window[word] = at(0) << bits | from_below;
        }
    }
}

/// Fragments by direction and number, and by age.
#[derive(Debug, Default)]
struct Fragments {
    by_place: BTreeMap<(u32, u32), Fragment>,
    by_age: BTreeMap<u64, (u32, u32)>,
    serial: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Fragment {
    serial: u64,
    since_ns: u64,
    begins: bool,
    ends: bool,
    kind: Kind,
    /// At most a packet's.
    bytes: Box<[u8]>,
}

/// What the fragments of one message have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    stream: [u8; 2],
    sequence: [u8; 2],
    payload: u32,
    unordered: bool,
}

impl Fragments {
    fn insert(&mut self, place: u32, data: &Data<'_>, now_ns: u64) {
        self.serial += 1;
        let fragment = Fragment {
            serial: self.serial,
            since_ns: now_ns,
            begins: data.begins,
            ends: data.ends,
            kind: data.kind,
            bytes: data.bytes.into(),
        };
        self.bytes += data.bytes.len();
        self.by_age.insert(self.serial, (place, data.tsn));
        self.by_place.insert((place, data.tsn), fragment);
    }

    fn remove(&mut self, place: u32, tsn: u32) -> Option<Fragment> {
        let fragment = self.by_place.remove(&(place, tsn))?;
        self.by_age.remove(&fragment.serial);
        self.bytes -= fragment.bytes.len();
        Some(fragment)
    }

    /// Direction, number and arrival of the one that has waited for the longest time.
    fn oldest(&self) -> Option<(u32, u32, u64)> {
        let (_, &(place, tsn)) = self.by_age.first_key_value()?;
        let fragment = self.by_place.get(&(place, tsn))?;
        Some((place, tsn, fragment.since_ns))
    }

    fn any(&self, place: u32) -> Option<u32> {
        let mut of_place = self.by_place.range((place, 0)..=(place, u32::MAX));
        of_place.next().map(|(&(_, tsn), _)| tsn)
    }

    /// First and last number of the message around this fragment, if it is whole. A direction has no more
    /// than [`MAX_WAITING`] fragments, which bounds the search.
    fn run(&self, place: u32, tsn: u32) -> Option<(u32, u32)> {
        let at = |tsn: u32| self.by_place.get(&(place, tsn));
        let mut first = tsn;
        while !at(first)?.begins {
            first = first.wrapping_sub(1);
        }
        let mut last = tsn;
        while !at(last)?.ends {
            last = last.wrapping_add(1);
        }
        Some((first, last))
    }
}

/// A DATA chunk (RFC 9260 3.3.1).
#[derive(Debug, PartialEq, Eq)]
struct Data<'a> {
    tsn: u32,
    begins: bool,
    ends: bool,
    payload: u32,
    kind: Kind,
    bytes: &'a [u8],
}

/// The DATA chunks of a packet; after an error there are none.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Data<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.split() {
                Ok((0, flags, value)) => {
                    let data = Data::read(flags, value);
                    if data.is_err() {
                        self.0 = &[];
                    }
                    return Some(data);
                }
                Ok(_) => {}
                Err(reason) => {
                    self.0 = &[];
                    return Some(Err(reason));
                }
            }
        }
        None
    }
}

impl<'a> Chunks<'a> {
    /// Type, flags and value of the next chunk (3.2). The length leaves out the padding to 4 bytes, which
    /// the last chunk of a cut packet may lack.
    fn split(&mut self) -> Result<(u8, u8, &'a [u8]), Malformed> {
        let (&[kind, flags, high, low], rest) =
            self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let length = length.checked_sub(4).ok_or(Malformed::Length)?;
        let value = rest.get(..length).ok_or(Malformed::Truncated)?;
        let padded = length.next_multiple_of(4);
        self.0 = rest.get(padded..).unwrap_or_default();
        Ok((kind, flags, value))
    }
}

impl<'a> Data<'a> {
    fn read(flags: u8, value: &'a [u8]) -> Result<Self, Malformed> {
        let (&[a, b, c, d, s0, s1, n0, n1, p0, p1, p2, p3], bytes) =
            value.split_first_chunk().ok_or(Malformed::Length)?;
        if bytes.is_empty() {
            return Err(Malformed::Length);
        }
        let payload = u32::from_be_bytes([p0, p1, p2, p3]);
        Ok(Self {
            tsn: u32::from_be_bytes([a, b, c, d]),
            begins: flags & 2 != 0,
            ends: flags & 1 != 0,
            payload,
            kind: Kind {
                stream: [s0, s1],
                sequence: [n0, n1],
                payload,
                unordered: flags & 4 != 0,
            },
            bytes,
        })
    }
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;
