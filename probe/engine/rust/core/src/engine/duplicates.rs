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
use crate::flow::protocol_number;
use crate::source::{LinkType, Packet};

/// Copies by identification: microseconds to milliseconds apart, more where a queue lies between two
/// hops. A timeout is 200 ms at the least in common stacks.
const WINDOW_NS: u64 = 100_000_000;
/// Copies by hop: a path changes, but not with a repetition so soon.
const HOP_WINDOW_NS: u64 = 20_000_000;
/// Copies at one hop: a switch's buffer lies between. A fast retransmission takes a round trip.
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
    /// The last identification from either side, and whether the one before was the same.
    identification: [u16; 2],
    constant: [bool; 2],
    doubling: Share<3>,
    /// Packets that were fit to show doubling, up to `ENOUGH`.
    judged: u8,
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
        let seen = self.seen[place];
        let age_ns = seen.time_ns.abs_diff(sight.time_ns);
        let again = seen.check == check(sight.hash) && age_ns < WINDOW_NS;
        if again && self.is_again(place, &sight) {
            return true;
        }
        self.seen[place] = Seen {
            time_ns: sight.time_ns,
            check: check(sight.hash),
            hop: sight.hop,
            doubled: false,
        };
        if !again {
            self.learn(&sight);
        }
        false
    }

    /// Learns from a packet that is new how its sender numbers, and that it has come once.
    #[inline]
    fn learn(&mut self, sight: &Sight) {
        let pair = pair_of(&mut self.pairs, sight);
        pair.constant[sight.side] = pair.identification[sight.side] == sight.identification;
        pair.identification[sight.side] = sight.identification;
        if sight.is_data || pair.tells_apart(sight) {
            pair.judged = (pair.judged + 1).min(ENOUGH);
            pair.doubling.once();
            self.doubling.once();
        }
    }

    /// Judges a packet whose bytes were seen a moment ago.
    #[cold]
    fn is_again(&mut self, place: usize, sight: &Sight) -> bool {
        let (pair, seen) = (pair_of(&mut self.pairs, sight), &mut self.seen[place]);
        let same_hop = seen.hop == sight.hop;
        let same_packet = pair.tells_apart(sight);
        let age_ns = seen.time_ns.abs_diff(sight.time_ns);
        let soon = age_ns < DOUBLING_WINDOW_NS;
        let doubles = pair.doubles(&self.doubling);
        let first = !seen.doubled;
        if same_hop && soon && first && (same_packet || sight.is_data) {
            pair.doubling.twice();
            self.doubling.twice();
        }
        let copy = if same_hop {
            same_packet || (doubles && soon && first)
        } else {
            same_packet || age_ns < HOP_WINDOW_NS
        };
        seen.doubled |= copy && same_hop;
        copy
    }
}

impl Pair {
    /// Whether the identification of this packet is its alone.
    fn tells_apart(&self, sight: &Sight) -> bool {
        sight.identification != 0 && !self.constant[sight.side]
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
        let content = content(inner.segment, seed);
        let hop = hop(packet, inner);
        let other_seed = seed.rotate_left(32);
        let [source, destination] = [inner.source, inner.destination]
            .map(|address| address.0 as u64 ^ ((address.0 >> 64) as u64).wrapping_mul(seed | 1));
        let facts = u64::from(inner.identification) << 48
            | u64::from(inner.segment_len) << 16
            | u64::from(protocol_number(inner.transport));
        let ends = mix(source ^ seed, destination ^ other_seed);
        let hash = mix(content ^ facts, ends ^ other_seed);
        Self {
            hash,
            pair: mix(
                source ^ destination,
                source.wrapping_add(destination) ^ seed,
            ),
            side: usize::from(source < destination),
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

/// A hash of the first bytes above IP.
#[inline]
fn content(segment: &[u8], seed: u64) -> u64 {
    match segment.first_chunk() {
        Some(head) => hash(head, seed),
        None => short_content(segment, seed),
    }
}

#[inline(never)]
fn short_content(segment: &[u8], seed: u64) -> u64 {
    hash(&short_head(segment), seed)
}

/// Of a segment of fewer than 40 bytes, the first and the last 20; of a shorter one, all, then zeros.
fn short_head(segment: &[u8]) -> [u8; 40] {
    let mut head = [0; 40];
    match (segment.first_chunk::<20>(), segment.last_chunk::<20>()) {
        (Some(first), Some(last)) => {
            head[..20].copy_from_slice(first);
            head[20..].copy_from_slice(last);
        }
        _ => head[..segment.len()].copy_from_slice(segment),
    }
    head
}

#[inline]
fn hash(head: &[u8; 40], seed: u64) -> u64 {
    let (words, _) = head.as_chunks();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    let front = mix(word(0) ^ seed, word(1) ^ MULTIPLIER);
    let middle = mix(front ^ word(2), word(3) ^ seed);
    mix(middle ^ word(4), seed)
}

/// Where on its way a packet was mirrored: interface and TTL; of what stands around it, where anything
/// does, 16 bits, so that one pair of hops in 65,536 looks like one.
#[inline]
fn hop(packet: &Packet<'_>, inner: &Inner<'_>) -> u16 {
    let plain = packet.interface << 8 | u32::from(inner.ttl);
    if inner.layers[0] == Layer::None && packet.link == LinkType::Ethernet {
        return plain as u16;
    }
    let facts = surroundings(packet, inner) ^ u64::from(plain);
    (mix(facts, MULTIPLIER) >> 16) as u16
}

/// The layers around a packet, the innermost tunnel, and where a cooked frame was captured.
#[inline(never)]
fn surroundings(packet: &Packet<'_>, inner: &Inner<'_>) -> u64 {
    let mut facts = cooked_hop(packet);
    let layers = inner.layers.iter();
    for layer in layers.take_while(|&&layer| layer != Layer::None) {
        facts = mix(facts ^ u64::from(layer.word()), MULTIPLIER);
    }
    if let Some(tunnel) = inner.tunnel {
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
