//! Packets that a mirror shows more than once: ingress and egress of one switch, several hops, an
//! "any" interface. A copy is counted as shed (`mirror_copy`) and measured by nobody.
//!
//! Copies are looked for among innermost packets, so they may differ in whatever routers and tunnels
//! change: TTL, DSCP, ECN, tags, labels, outer headers. All else has to be equal: addresses, protocol,
//! IPv4 identification, length, and the first bytes above IP with the transport's checksum. A router
//! that translates addresses or clamps the segment size makes another packet.
//!
//! Equal bytes alone make no copy: a duplicate acknowledgment, a keep-alive, a repeated question may
//! have them too. So one of these has to be added:
//!
//! - **The identification.** Most stacks give each IPv4 packet another one, a retransmission too; then
//!   one seen twice is one packet. Not where it is 0 (allowed with Don't Fragment, RFC 6864 4.1) or
//!   where this sender gave the packet before the same one.
//! - **Another hop:** the other TTL, tunnel, tag, or interface. The hop that showed a packet first
//!   keeps counting its repetitions, so three equal acknowledgments at each of two hops are three.
//! - **A mirror that doubles**, at one hop: lately this pair of hosts, or nearly all of the capture, was
//!   shown twice where it could be told: by identification, or as data that came again sooner than a
//!   sender repeats it. Then of two equal packets the second is the copy, of four the second and fourth.
//!
//! Bias: the first packets of data without identification on a doubling mirror still count twice,
//! until the doubling shows. Several links that take turns with the packets of one flow look like
//! hops, and equal packets without identification on them like copies.

use crate::decap::{Inner, Layer, Transport};
use crate::source::{LinkType, Packet};

/// Copies by identification, of a sender that is known to vary it: microseconds to milliseconds apart,
/// more where a queue lies between two hops. A timeout is 200 ms at the least in common stacks.
const WINDOW_NS: u64 = 100_000_000;
/// Copies by hop: a path changes, but not with a repetition so soon.
const HOP_WINDOW_NS: u64 = 20_000_000;
/// All other copies at one hop: a switch's buffer lies between. A fast retransmission takes a round trip.
const DOUBLING_WINDOW_NS: u64 = 5_000_000;

/// A packet of which copies may come.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    time_ns: u64,
    /// The half of its hash that is not its place: of 2^32 strangers that meet, one is taken for a copy.
    check: u32,
    hop: u16,
    /// A copy at the same hop was found.
    doubled: bool,
}

/// What is known of two hosts.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    check: u32,
    /// The last identification from either side.
    identification: [u16; 2],
    numbering: [Numbering; 2],
    doubling: Share<3>,
    /// Packets that were fit to show doubling, up to `ENOUGH`.
    judged: u8,
}

/// How a host numbers its packets to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Numbering {
    /// No packet was seen, or only one.
    #[default]
    Unseen,
    Unproven,
    Varied,
    /// The last two different packets had the same identification.
    Constant,
}

const ENOUGH: u8 = 4;
/// Of `Share`: about two packets in five of a pair come twice.
const OFTEN: u16 = 3 << 13;
/// Three packets in four of the capture.
const NEARLY_ALWAYS: u16 = 3 << 14;

/// How many of the packets fit to show it came twice: a moving average over some 2^`N` packets, 65,535
/// for all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Share<const N: u32>(u16);

impl<const N: u32> Share<N> {
    fn once(&mut self) {
        self.0 -= self.0 >> N;
    }

    fn twice(&mut self) {
        self.0 = self.0.saturating_add(1 << (16 - N));
    }
}

/// The packets of the last moments. Two tables of fixed size; a packet overwrites what stands in its
/// place.
#[derive(Debug)]
pub struct Duplicates {
    seen: Box<[Seen]>,
    pairs: Box<[Pair]>,
    seed: u64,
    doubling: Share<6>,
}

/// A packet, as far as copies are compared.
#[derive(Debug, Clone, Copy)]
struct Sight {
    hash: u64,
    /// Of both hosts, the same in both directions.
    pair: u64,
    /// Which of the two sends.
    side: usize,
    hop: u16,
    time_ns: u64,
    identification: u16,
    /// More than the longest TCP header (60 bytes).
    is_data: bool,
}

impl Duplicates {
    /// Remembers `packets`, or a little more; 0 switches the search off. `seed` is to be unpredictable
    /// for whoever sends the packets.
    pub fn new(packets: u32, seed: u64) -> Self {
        let size = match packets {
            0 => 0,
            _ => (packets as usize).next_power_of_two(),
        };
        Self {
            seen: vec![Seen::default(); size].into(),
            pairs: vec![Pair::default(); size.div_ceil(4)].into(),
            seed: mix(seed ^ MULTIPLICAND, MULTIPLIER),
            doubling: Share::default(),
        }
    }

    /// Whether `inner`, found in `packet`, was seen before.
    #[inline(never)]
    pub fn is_copy(&mut self, packet: &Packet<'_>, inner: &Inner<'_>) -> bool {
        if self.seen.is_empty() {
            return false;
        }
        let sight = Sight::of(packet, inner, self.seed);
        let place = sight.hash as usize & (self.seen.len() - 1);
        let seen = &mut self.seen[place];
        let pair = pair_of(&mut self.pairs, &sight);
        let again = seen.check == check(sight.hash) && seen.age_ns(&sight) < WINDOW_NS;
        if !again {
            pair.learn(&sight, &mut self.doubling);
        } else if pair.is_again(seen, sight, &mut self.doubling) {
            return true;
        }
        *seen = Seen {
            time_ns: sight.time_ns,
            check: check(sight.hash),
            hop: sight.hop,
            doubled: false,
        };
        false
    }
}

impl Seen {
    #[inline]
    fn age_ns(&self, sight: &Sight) -> u64 {
        self.time_ns.abs_diff(sight.time_ns)
    }
}

impl Pair {
    /// Learns from a packet that is new how its sender numbers, and that it has come once.
    #[inline]
    fn learn(&mut self, sight: &Sight, capture: &mut Share<6>) {
        let same = self.identification[sight.side] == sight.identification;
        self.numbering[sight.side] = match self.numbering[sight.side] {
            Numbering::Unseen => Numbering::Unproven,
            _ if same => Numbering::Constant,
            _ => Numbering::Varied,
        };
        self.identification[sight.side] = sight.identification;
        if sight.is_data || self.tells_apart(sight) {
            self.judged = (self.judged + 1).min(ENOUGH);
            self.doubling.once();
            capture.once();
        }
    }

    /// Judges a packet whose bytes were seen a moment ago. It is taken by value, as for nearly every
    /// packet it stays in registers.
    #[cold]
    #[inline(never)]
    fn is_again(&mut self, seen: &mut Seen, sight: Sight, capture: &mut Share<6>) -> bool {
        let same_hop = seen.hop == sight.hop;
        let age_ns = seen.age_ns(&sight);
        let same_packet = self.tells_apart(&sight) && age_ns < self.window_ns(&sight);
        let soon = age_ns < DOUBLING_WINDOW_NS;
        let doubles = self.doubles(capture);
        let first = !seen.doubled;
        if same_hop && soon && first && (same_packet || sight.is_data) {
            self.doubling.twice();
            capture.twice();
        }
        let copy = if same_hop {
            same_packet || (doubles && soon && first)
        } else {
            same_packet || age_ns < HOP_WINDOW_NS
        };
        seen.doubled |= copy && same_hop;
        copy
    }

    /// Whether the identification of this packet is its alone.
    fn tells_apart(&self, sight: &Sight) -> bool {
        sight.identification != 0 && self.numbering[sight.side] != Numbering::Constant
    }

    /// How far apart copies of this packet can be told by its identification.
    fn window_ns(&self, sight: &Sight) -> u64 {
        match self.numbering[sight.side] {
            Numbering::Varied => WINDOW_NS,
            _ => DOUBLING_WINDOW_NS,
        }
    }

    /// Whether the mirror shows this pair twice; before enough was seen of it, the capture speaks for it.
    fn doubles(&self, capture: &Share<6>) -> bool {
        if self.judged < ENOUGH {
            capture.0 >= NEARLY_ALWAYS || self.doubling.0 >= OFTEN
        } else {
            self.doubling.0 >= OFTEN
        }
    }
}

/// The entry of two hosts; it begins anew where others had it.
#[inline]
fn pair_of<'a>(pairs: &'a mut [Pair], sight: &Sight) -> &'a mut Pair {
    let place = sight.pair as usize & (pairs.len() - 1);
    let pair = &mut pairs[place];
    if pair.check != check(sight.pair) {
        *pair = Pair {
            check: check(sight.pair),
            ..Pair::default()
        };
    }
    pair
}

fn check(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Sight {
    #[inline]
    fn of(packet: &Packet<'_>, inner: &Inner<'_>, seed: u64) -> Self {
        // First what may take a call, so that the rest stays in registers.
        let hop = hop(packet, inner);
        let other_seed = seed.rotate_left(32);
        let [source, destination] = [inner.source, inner.destination]
            .map(|address| address.0 as u64 ^ ((address.0 >> 64) as u64).wrapping_mul(seed | 1));
        let side = source < destination;
        let (low, high) = if side {
            (source, destination)
        } else {
            (destination, source)
        };
        let pair = mix(low ^ seed, high ^ other_seed);
        let facts = u64::from(inner.identification) << 48
            | u64::from(inner.segment_len) << 16
            | u64::from(inner.protocol) << 1
            | u64::from(side);
        let [front, other_front, middle, back, other_back] = first_words(inner.segment);
        let front = mix(front ^ seed, other_front ^ other_seed);
        let back = mix(back ^ other_seed, other_back ^ seed);
        Self {
            hash: mix(front ^ middle, back ^ pair ^ facts),
            pair,
            side: side.into(),
            hop,
            time_ns: packet.time_ns,
            identification: inner.identification,
            is_data: inner.transport == Transport::Tcp && inner.segment_len > 60,
        }
    }
}

/// Multiplies to 128 bits and folds the halves. No bit of either operand is lost, but where the other
/// one is 0, which nobody can aim at where it holds the seed.
#[inline]
fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLICAND: u64 = 0x2545_f491_4f6c_dd1d;

/// The first 40 bytes above IP: the whole header of nearly every transport.
#[inline]
fn first_words(segment: &[u8]) -> [u64; 5] {
    match segment.first_chunk::<40>() {
        Some(head) => {
            let (words, _) = head.as_chunks();
            std::array::from_fn(|index| u64::from_le_bytes(words[index]))
        }
        None => words_of_short(segment),
    }
}

/// All of a segment of fewer than 40 bytes: the first 16 and the last 16, which may overlap, and what may
/// stand between them; of a shorter one, all, then zeros.
#[inline]
fn words_of_short(segment: &[u8]) -> [u64; 5] {
    let middle = segment.get(16..24).and_then(<[u8]>::first_chunk);
    let middle = middle.map_or(0, |&word| u64::from_le_bytes(word));
    match (segment.first_chunk(), segment.last_chunk()) {
        (Some(first), Some(last)) => {
            let ([front, other_front], [back, other_back]) = (two_words(first), two_words(last));
            [front, other_front, middle, back, other_back]
        }
        _ => {
            let mut all = [0; 16];
            all[..segment.len()].copy_from_slice(segment);
            let [front, other_front] = two_words(&all);
            [front, other_front, 0, 0, 0]
        }
    }
}

#[inline]
fn two_words(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

/// Where on its way a packet was mirrored: interface and TTL; of what stands around it, where anything
/// does, 16 bits, so that one pair of hops in 65,536 looks like one.
#[inline]
fn hop(packet: &Packet<'_>, inner: &Inner<'_>) -> u16 {
    let plain = packet.interface << 8 | u32::from(inner.ttl);
    if inner.encapsulation.is_none() && packet.link == LinkType::Ethernet {
        return plain as u16;
    }
    let facts = surroundings(packet, inner) ^ u64::from(plain);
    (mix(facts, MULTIPLIER) >> 16) as u16
}

/// The layers around a packet, the innermost tunnel, and where a cooked frame was captured.
#[inline(never)]
fn surroundings(packet: &Packet<'_>, inner: &Inner<'_>) -> u64 {
    let mut facts = cooked_hop(packet);
    let layers = inner.layers().iter();
    for layer in layers.take_while(|&&layer| layer != Layer::None) {
        facts = mix(facts ^ u64::from(layer.word()), MULTIPLIER);
    }
    if let Some(tunnel) = inner.tunnel() {
        let ends = tunnel.source.0 ^ tunnel.destination.0.rotate_left(32);
        facts = mix(facts ^ u64::from(tunnel.teid), MULTIPLIER);
        facts = mix(facts ^ ends as u64, MULTIPLICAND);
    }
    facts
}

/// Packet type and device type; in version 2, interface, device type and packet type: an "any" capture
/// shows a packet once for each interface that it passes, coming in and going out.
fn cooked_hop(packet: &Packet<'_>) -> u64 {
    let number = |at: usize| -> u64 {
        let bytes = packet.data.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |&bytes| u32::from_be_bytes(bytes).into())
    };
    match packet.link {
        LinkType::LinuxSll => number(0),
        LinkType::LinuxSll2 => number(4) << 32 | number(8) >> 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
