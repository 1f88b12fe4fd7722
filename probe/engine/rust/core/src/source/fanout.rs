//! Which worker a packet goes to, as a program that the kernel runs for each packet.
//!
//! All packets of a subscriber meet one worker, since names, bearers, errors and races join flows with
//! each other. The subscriber is found in this order: the direction that the PDU session container
//! states, the RAN's prefixes around a tunnel, the operator's subscriber prefixes, the private
//! address, the one with the lower key (as `engine::shard` does). Of an ICMP error the packet counts that it quotes. The control plane goes to
//! worker 0; [`control`] picks it out for the others.
//!
//! What is not taken apart: tunnels other than GTP-U go by their ends, frames in a tunnel (PDU sessions
//! of type Ethernet) and what is not IP to worker 0. A fragment has no ports, so all fragments of a
//! datagram go by its addresses; the kernel puts those of IPv4 together before (`ring`).

use super::LinkType;
use super::bpf::{Alu, Assembler, Instruction, Label, Size, Test, To};

/// The addresses that begin alike; IPv4 as `::ffff:a.b.c.d`, whose length counts from 96.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub network: u128,
    pub length: u8,
}

/// Where the operator says that subscribers and base stations are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sharding {
    pub subscribers: Vec<Range>,
    pub ran: Vec<Range>,
}

/// A multiplier that spreads neighbouring addresses: 2^32 over the golden ratio.
const SPREAD: u32 = 0x9e37_79b1;

/// The program of PACKET_FANOUT_CBPF that gives a packet's worker, one of `workers`. None if the
/// prefixes are too many for one program.
pub(super) fn shard(link: LinkType, sharding: &Sharding, workers: u32) -> Option<Vec<Instruction>> {
    Writer::new(sharding, Purpose::Shard(workers.max(1))).program(|writer, end| {
        // Received packets begin behind the link layer here, those sent with it.
        if link != LinkType::Ethernet {
            return writer.protocol_at(0, end);
        }
        let received = writer.asm.label();
        writer.asm.load_at(Size::Word, ANCILLARY + PACKET_TYPE);
        let outgoing = u32::from(libc::PACKET_OUTGOING);
        writer.asm.branch(Test::Equal, outgoing, To::Next, received);
        let network = writer.ethernet();
        writer.asm.place(received);
        writer.asm.load_at(Size::Word, ANCILLARY + PROTOCOL);
        writer.asm.load_x_constant(0);
        writer.asm.place(network);
        writer.network(end);
    })
}

/// The program of SO_ATTACH_FILTER that takes the control plane of the mobile network whole, and
/// nothing else.
pub(super) fn control(link: LinkType, sharding: &Sharding) -> Option<Vec<Instruction>> {
    Writer::new(sharding, Purpose::Control).program(|writer, end| {
        if link != LinkType::Ethernet {
            return writer.protocol_at(0, end);
        }
        let network = writer.ethernet();
        writer.asm.place(network);
        writer.network(end);
    })
}

// Words of the program's memory.
/// What the tunnel says: one of the three below.
const DIRECTION: u32 = 0;
/// Where the IP header begins that is looked at.
const IP: u32 = 1;
/// The number of the protocol above it.
const ABOVE: u32 = 2;
/// Whether this is of the control plane.
const CONTROL: u32 = 3;
const SCRATCH: u32 = 4;
/// Whether an end is in the ranges that were looked at last.
const SOURCE_IN: u32 = 5;
const DESTINATION_IN: u32 = 6;
/// Where the packet in the tunnel begins.
const INNER: u32 = 7;
/// Type of the GTP-U extension header that follows.
const EXTENSION: u32 = 8;

const OTHER_KEY: u32 = 9;

/// Where the addresses stand in an IP header, of IPv4 and of IPv6.
const SOURCE_KEYS: [u32; 2] = [12, 8];
const DESTINATION_KEYS: [u32; 2] = [16, 24];

const UNKNOWN: u32 = 0;
const UP: u32 = 1;
const DOWN: u32 = 2;

/// SKF_AD_OFF of linux/filter.h, and what lies behind it.
const ANCILLARY: u32 = 0xffff_f000;
const PROTOCOL: u32 = 0;
const PACKET_TYPE: u32 = 4;

const ETHERNET_LEN: u32 = 14;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const ETHERTYPES_VLAN: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const ETHERTYPES_MPLS: [u32; 2] = [0x8847, 0x8848];
const ETHERTYPE_PPPOE: u32 = 0x8864;
/// Of PPP: IPv4 and IPv6 (RFC 1332, RFC 5072).
const PPP_IP: [u32; 2] = [0x0021, 0x0057];

/// Most tags, labels and extension headers that are passed.
const MAX_TAGS: usize = 4;
const MAX_LABELS: usize = 6;
const MAX_IPV6_EXTENSIONS: usize = 4;
const MAX_GTPU_EXTENSIONS: usize = 6;

const ICMP: u32 = 1;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;
const SCTP: u32 = 132;
/// Hop-by-hop, routing and destination options (RFC 8200 4), all of one form.
const IPV6_OPTIONS: [u32; 3] = [0, 43, 60];
const IPV6_AUTHENTICATION: u32 = 51;
const IPV6_FRAGMENT: u32 = 44;

const GTPU_PORT: u32 = 2152;
/// GTP-C, PFCP and RADIUS with its old ports: what `control` reads.
const CONTROL_PORTS: [u32; 6] = [2123, 8805, 1812, 1813, 1645, 1646];
const GPDU: u32 = 255;
/// Messages of the tunnel management itself (TS 29.281 6.1).
const GTPU_SIGNALS: [u32; 6] = [1, 2, 26, 31, 253, 254];
const PDU_SESSION_CONTAINER: u32 = 0x85;

/// Types that quote a packet behind their first eight bytes (RFC 792, RFC 4443).
const ICMP_ERRORS: [u32; 3] = [3, 11, 12];
const ICMPV6_ERRORS: [u32; 4] = [1, 2, 3, 4];

/// RFC 1918 and RFC 6598, and unique local addresses (RFC 4193).
const PRIVATE: [Range; 5] = [
    v4(0x0a00_0000, 8),
    v4(0xac10_0000, 12),
    v4(0xc0a8_0000, 16),
    v4(0x6440_0000, 10),
    Range {
        network: 0xfc << 120,
        length: 7,
    },
];

const fn v4(network: u32, length: u8) -> Range {
    Range {
        network: 0xffff_0000_0000 | network as u128,
        length: 96 + length,
    }
}

impl Range {
    /// Network, mask and length as IPv4's, where it is one's.
    fn as_v4(self) -> Option<(u32, u32)> {
        let length = self.length.checked_sub(96)?;
        let mapped = self.network >> 32 == 0xffff;
        mapped.then(|| (self.network as u32, mask(length)))
    }

    /// The words of the network that count, each with its mask.
    fn words(self) -> impl Iterator<Item = (u32, u32)> {
        (0..4u8).filter_map(move |word| {
            let length = self.length.saturating_sub(32 * word).min(32);
            let part = (self.network >> (96 - 32 * u32::from(word))) as u32;
            (length > 0).then(|| (part, mask(length)))
        })
    }
}

/// The first `length` of 32 bits.
fn mask(length: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(length.min(32)))
        .unwrap_or(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Shard(u32),
    Control,
}

/// Where an IP header stands that the program comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Outermost,
    /// In a tunnel.
    Inner,
    /// Quoted by an ICMP error that no tunnel is around.
    Quoted,
}

/// What the stages lead to.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// Goes by the addresses of the header at `IP`.
    decide: Label,
    /// Goes to worker 0.
    other: Label,
}

struct Writer<'a> {
    asm: Assembler,
    sharding: &'a Sharding,
    purpose: Purpose,
}

impl<'a> Writer<'a> {
    fn new(sharding: &'a Sharding, purpose: Purpose) -> Self {
        Self {
            asm: Assembler::default(),
            sharding,
            purpose,
        }
    }

    /// `begin` writes the way to the first IP header.
    fn program(mut self, begin: impl FnOnce(&mut Self, Label)) -> Option<Vec<Instruction>> {
        let ends = Ends {
            decide: self.asm.label(),
            other: self.asm.label(),
        };
        self.asm.load_constant(UNKNOWN);
        self.asm.store(DIRECTION);
        self.asm.store(CONTROL);
        begin(&mut self, ends.other);
        let (inner, quoted) = (self.asm.label(), self.asm.label());
        self.stage(Stage::Outermost, inner, quoted, ends);
        // A packet in a tunnel, or a quote in one: the addresses are all that counts there.
        self.asm.place(quoted);
        let tunnelled = self.asm.label();
        self.stage(Stage::Quoted, tunnelled, ends.decide, ends);
        self.asm.place(inner);
        let quoted_inside = self.asm.label();
        self.stage(Stage::Inner, ends.decide, quoted_inside, ends);
        for label in [tunnelled, quoted_inside] {
            self.asm.place(label);
        }
        self.asm.store_x(IP);
        self.asm.place(ends.decide);
        self.decide(ends.other);
        self.asm.place(ends.other);
        self.asm.give(0);
        self.asm.finish()
    }

    /// A = the EtherType of a frame, X = what lies behind it; goes to the label.
    fn ethernet(&mut self) -> Label {
        let network = self.asm.label();
        self.asm.load_at(Size::Half, ETHERNET_LEN - 2);
        self.asm.load_x_constant(ETHERNET_LEN);
        self.asm.goto(network);
        network
    }

    fn protocol_at(&mut self, offset: u32, other: Label) {
        self.asm.load_at(Size::Word, ANCILLARY + PROTOCOL);
        self.asm.load_x_constant(offset);
        self.network(other);
    }

    /// With an EtherType in A and what it announces at X, goes on behind tags and labels.
    fn network(&mut self, other: Label) {
        let (ip, mpls, pppoe) = (self.asm.label(), self.asm.label(), self.asm.label());
        for last in (0..=MAX_TAGS).map(|tag| tag == MAX_TAGS) {
            let tag = self.asm.label();
            self.asm
                .switch(&[(ETHERTYPE_IPV4, ip), (ETHERTYPE_IPV6, ip)]);
            self.asm.switch(&ETHERTYPES_MPLS.map(|kind| (kind, mpls)));
            self.asm.switch(&[(ETHERTYPE_PPPOE, pppoe)]);
            if last {
                self.asm.goto(other);
                continue;
            }
            self.asm.switch(&ETHERTYPES_VLAN.map(|kind| (kind, tag)));
            self.asm.goto(other);
            self.asm.place(tag);
            self.asm.load(Size::Half, 2);
            self.asm.store(SCRATCH);
            self.skip(4);
            self.asm.load_memory(SCRATCH);
        }
        self.asm.place(pppoe);
        self.asm.load(Size::Half, 6);
        let session = self.asm.label();
        self.asm.switch(&PPP_IP.map(|kind| (kind, session)));
        self.asm.goto(other);
        self.asm.place(session);
        self.skip(8);
        self.asm.goto(ip);
        self.asm.place(mpls);
        self.labels(ip, other);
        self.asm.place(ip);
    }

    /// Goes on behind the label stack at X (RFC 3032 2.1).
    fn labels(&mut self, ip: Label, other: Label) {
        let bottom = self.asm.label();
        for _ in 0..MAX_LABELS {
            self.asm.load(Size::Byte, 2);
            self.asm.branch(Test::AnyBit, 1, bottom, To::Next);
            self.skip(4);
        }
        self.asm.goto(other);
        self.asm.place(bottom);
        self.skip(4);
        self.asm.goto(ip);
    }

    /// X += `bytes`.
    fn skip(&mut self, bytes: u32) {
        self.asm.txa();
        self.asm.alu(Alu::Add, bytes);
        self.asm.tax();
    }

    /// X += A.
    fn skip_a(&mut self) {
        self.asm.alu_x(Alu::Add);
        self.asm.tax();
    }

    /// With an IP header at X, goes to the packet in its tunnel (`inner`), to the one that it quotes
    /// (`quoted`), or to an end.
    fn stage(&mut self, stage: Stage, inner: Label, quoted: Label, ends: Ends) {
        let (v6, above) = (self.asm.label(), self.asm.label());
        self.asm.store_x(IP);
        self.version();
        let v4 = self.asm.label();
        self.asm.switch(&[(4, v4), (6, v6)]);
        self.asm.goto(ends.other);
        self.asm.place(v4);
        self.ipv4(stage, ends.decide);
        self.asm.goto(above);
        self.asm.place(v6);
        self.ipv6(ends.decide);
        self.asm.place(above);
        self.above(stage, inner, quoted, ends);
    }

    /// A = the version of the IP header at X.
    fn version(&mut self) {
        self.asm.load(Size::Byte, 0);
        self.asm.alu(Alu::ShiftRight, 4);
    }

    /// X = what lies above the IPv4 header at X, `ABOVE` its protocol.
    fn ipv4(&mut self, stage: Stage, decide: Label) {
        self.asm.load(Size::Half, 6);
        // All but Don't Fragment; of a quote the first fragment will do.
        let parts = if stage == Stage::Quoted {
            0x1fff
        } else {
            0x3fff
        };
        self.asm.branch(Test::AnyBit, parts, decide, To::Next);
        self.asm.load(Size::Byte, 9);
        self.asm.store(ABOVE);
        self.asm.load(Size::Byte, 0);
        self.asm.alu(Alu::And, 15);
        self.asm.alu(Alu::ShiftLeft, 2);
        self.skip_a();
    }

    /// The same of IPv6, behind its extension headers.
    fn ipv6(&mut self, decide: Label) {
        let above = self.asm.label();
        self.asm.load(Size::Byte, 6);
        self.asm.store(ABOVE);
        self.skip(40);
        for _ in 0..MAX_IPV6_EXTENSIONS {
            let (options, authentication, behind) =
                (self.asm.label(), self.asm.label(), self.asm.label());
            self.asm.load_memory(ABOVE);
            self.asm
                .switch(&IPV6_OPTIONS.map(|header| (header, options)));
            self.asm.switch(&[
                (IPV6_AUTHENTICATION, authentication),
                (IPV6_FRAGMENT, decide),
            ]);
            self.asm.goto(above);
            self.asm.place(authentication);
            self.extension_length(2, 2);
            self.asm.goto(behind);
            self.asm.place(options);
            self.extension_length(1, 3);
            self.asm.place(behind);
            self.skip_a();
        }
        self.asm.place(above);
    }

    /// `ABOVE` = what follows the extension header at X, A = its length: so many units more than it
    /// says, of two to the power of `shift` bytes.
    fn extension_length(&mut self, more: u32, shift: u32) {
        self.asm.load(Size::Byte, 0);
        self.asm.store(ABOVE);
        self.asm.load(Size::Byte, 1);
        self.asm.alu(Alu::Add, more);
        self.asm.alu(Alu::ShiftLeft, shift);
    }

    /// With what IP carries at X and its protocol in `ABOVE`.
    fn above(&mut self, stage: Stage, inner: Label, quoted: Label, ends: Ends) {
        let (udp, control, error) = (self.asm.label(), self.asm.label(), self.asm.label());
        let (icmp, icmpv6) = (self.asm.label(), self.asm.label());
        self.asm.load_memory(ABOVE);
        match stage {
            Stage::Outermost => self.asm.switch(&[(UDP, udp), (SCTP, control)]),
            Stage::Quoted => self.asm.switch(&[(UDP, udp)]),
            Stage::Inner => {}
        }
        if stage != Stage::Quoted {
            self.asm.switch(&[(ICMP, icmp), (ICMPV6, icmpv6)]);
        }
        self.asm.goto(ends.decide);
        if stage != Stage::Quoted {
            self.errors(icmp, &ICMP_ERRORS, error, ends.decide);
            self.errors(icmpv6, &ICMPV6_ERRORS, error, ends.decide);
            self.asm.place(error);
            self.turn();
            self.skip(8);
            self.asm.goto(quoted);
        }
        if stage != Stage::Inner {
            self.asm.place(udp);
            self.udp(stage, inner, control, ends.decide);
        }
        if stage == Stage::Outermost {
            self.asm.place(control);
            self.asm.load_constant(1);
            self.asm.store(CONTROL);
            self.asm.goto(ends.decide);
        }
    }

    fn errors(&mut self, at: Label, types: &[u32], error: Label, decide: Label) {
        self.asm.place(at);
        self.asm.load(Size::Byte, 0);
        for &kind in types {
            self.asm.branch(Test::Equal, kind, error, To::Next);
        }
        self.asm.goto(decide);
    }

    /// A quoted packet went the other way.
    fn turn(&mut self) {
        let known = self.asm.label();
        let turned = self.asm.label();
        self.asm.load_memory(DIRECTION);
        self.asm.branch(Test::Equal, UNKNOWN, turned, known);
        self.asm.place(known);
        self.asm.alu(Alu::Xor, UP ^ DOWN);
        self.asm.store(DIRECTION);
        self.asm.place(turned);
    }

    /// With a UDP header at X.
    fn udp(&mut self, stage: Stage, inner: Label, control: Label, decide: Label) {
        let tunnel = self.asm.label();
        for offset in [0, 2] {
            self.asm.load(Size::Half, offset);
            self.asm.switch(&[(GTPU_PORT, tunnel)]);
            if stage == Stage::Outermost {
                self.asm.switch(&CONTROL_PORTS.map(|port| (port, control)));
            }
        }
        self.asm.goto(decide);
        self.asm.place(tunnel);
        self.gtpu(stage, inner, control, decide);
    }

    /// With a UDP header at X that GTP-U follows (TS 29.281 5.1).
    fn gtpu(&mut self, stage: Stage, inner: Label, control: Label, decide: Label) {
        let (packet, options, direction) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.skip(8);
        self.asm.load(Size::Byte, 0);
        // Version 1, protocol type GTP.
        self.asm.alu(Alu::And, 0xf0);
        self.asm.branch(Test::Equal, 0x30, To::Next, decide);
        self.asm.load(Size::Byte, 1);
        self.asm.switch(&[(GPDU, packet)]);
        if stage == Stage::Outermost {
            self.asm.switch(&GTPU_SIGNALS.map(|kind| (kind, control)));
        }
        self.asm.goto(decide);
        self.asm.place(packet);
        self.asm.load(Size::Byte, 0);
        self.asm.branch(Test::AnyBit, 7, options, To::Next);
        self.skip(8);
        self.asm.goto(direction);
        self.asm.place(options);
        self.extensions(direction, decide);
        self.asm.place(direction);
        self.by_ran(inner);
    }

    /// Passes the optional fields of the GTP-U header at X, and the extension headers behind.
    fn extensions(&mut self, behind: Label, decide: Label) {
        let listed = self.asm.label();
        let ends = self.asm.label();
        self.asm.load(Size::Byte, 0);
        self.asm.branch(Test::AnyBit, 4, listed, ends);
        self.asm.place(ends);
        self.skip(12);
        self.asm.goto(behind);
        self.asm.place(listed);
        self.asm.load(Size::Byte, 11);
        self.asm.store(EXTENSION);
        self.skip(12);
        for _ in 0..MAX_GTPU_EXTENSIONS {
            let (container, pass) = (self.asm.label(), self.asm.label());
            self.asm.load_memory(EXTENSION);
            self.asm
                .switch(&[(0, behind), (PDU_SESSION_CONTAINER, container)]);
            self.asm.goto(pass);
            self.asm.place(container);
            self.container(pass);
            self.asm.place(pass);
            self.pass_extension(decide);
        }
        self.asm.load_memory(EXTENSION);
        self.asm.branch(Test::Equal, 0, behind, decide);
    }

    /// The direction that the container at X states (TS 38.415 5.5.2): type 0 is down, 1 is up.
    fn container(&mut self, pass: Label) {
        let (down, up, known) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.load(Size::Byte, 1);
        self.asm.alu(Alu::ShiftRight, 4);
        self.asm.switch(&[(0, down), (1, up)]);
        self.asm.goto(pass);
        self.asm.place(up);
        self.asm.load_constant(UP);
        self.asm.goto(known);
        self.asm.place(down);
        self.asm.load_constant(DOWN);
        self.asm.place(known);
        self.asm.store(DIRECTION);
    }

    /// `EXTENSION` = the last byte of the extension header at X, and X what lies behind. Its length
    /// counts units of four bytes.
    fn pass_extension(&mut self, decide: Label) {
        self.asm.load(Size::Byte, 0);
        self.asm.branch(Test::Equal, 0, decide, To::Next);
        self.asm.alu(Alu::ShiftLeft, 2);
        self.asm.alu_x(Alu::Add);
        self.asm.store(SCRATCH);
        // The byte before it.
        self.asm.alu(Alu::Add, u32::MAX);
        self.asm.tax();
        self.asm.load(Size::Byte, 0);
        self.asm.store(EXTENSION);
        self.asm.load_x_memory(SCRATCH);
    }

    /// Where the container says nothing, the RAN's end of the tunnel tells the direction. The tunnel's
    /// IP header is at `IP` still; goes to the packet in it, at X.
    fn by_ran(&mut self, inner: Label) {
        if self.sharding.ran.is_empty() {
            return self.asm.goto(inner);
        }
        let (unknown, known) = (self.asm.label(), self.asm.label());
        self.asm.load_memory(DIRECTION);
        self.asm.branch(Test::Equal, UNKNOWN, unknown, inner);
        self.asm.place(unknown);
        self.asm.store_x(INNER);
        self.asm.load_x_memory(IP);
        let ran = self.sharding.ran.clone();
        self.membership(&ran);
        // The sum tells one of them from both and none.
        self.asm.load_memory(SOURCE_IN);
        self.asm.load_x_memory(DESTINATION_IN);
        self.asm.branch_x(Test::Equal, known, To::Next);
        let up = self.asm.label();
        self.asm.branch(Test::Equal, 1, up, To::Next);
        self.asm.load_constant(DOWN);
        self.asm.place(up);
        self.asm.store(DIRECTION);
        self.asm.place(known);
        self.asm.load_x_memory(INNER);
        self.asm.goto(inner);
    }

    /// `SOURCE_IN` and `DESTINATION_IN` = whether the ends of the IP header at X are in one of the ranges.
    fn membership(&mut self, ranges: &[Range]) {
        let (v6, done) = (self.asm.label(), self.asm.label());
        self.asm.load_constant(0);
        self.asm.store(SOURCE_IN);
        self.asm.store(DESTINATION_IN);
        self.version();
        self.asm.branch(Test::Equal, 6, v6, To::Next);
        for (offset, word) in [(12, SOURCE_IN), (16, DESTINATION_IN)] {
            self.is_in(ranges, word, |range| {
                range.as_v4().map(|of| vec![(offset, of)])
            });
        }
        self.asm.goto(done);
        self.asm.place(v6);
        for (offset, word) in [(8, SOURCE_IN), (24, DESTINATION_IN)] {
            self.is_in(ranges, word, |range| {
                let words = (offset..).step_by(4).zip(range.words());
                range.as_v4().is_none().then(|| words.collect())
            });
        }
        self.asm.place(done);
    }

    /// Sets a word where the packet has what one of the ranges asks for: network and mask, by offset.
    fn is_in(
        &mut self,
        ranges: &[Range],
        word: u32,
        asked: impl Fn(Range) -> Option<Vec<(u32, (u32, u32))>>,
    ) {
        let (is_in, done) = (self.asm.label(), self.asm.label());
        for parts in ranges.iter().filter_map(|&range| asked(range)) {
            let next = self.asm.label();
            for (offset, (network, mask)) in parts {
                self.asm.load(Size::Word, offset);
                if mask != u32::MAX {
                    self.asm.alu(Alu::And, mask);
                }
                self.asm.branch(Test::Equal, network, To::Next, next);
            }
            self.asm.goto(is_in);
            self.asm.place(next);
        }
        self.asm.goto(done);
        self.asm.place(is_in);
        self.asm.load_constant(1);
        self.asm.store(word);
        self.asm.place(done);
    }

    /// Finds the subscriber among the ends of the IP header at `IP`, and the worker from that.
    fn decide(&mut self, other: Label) {
        let (source, destination) = (self.asm.label(), self.asm.label());
        self.asm.load_x_memory(IP);
        self.version();
        let known = self.asm.label();
        self.asm.switch(&[(4, known), (6, known)]);
        self.asm.goto(other);
        self.asm.place(known);
        self.asm.load_memory(DIRECTION);
        self.asm.switch(&[(UP, source), (DOWN, destination)]);
        let subscribers = self.sharding.subscribers.clone();
        self.membership(&subscribers);
        self.control(other);
        let Purpose::Shard(workers) = self.purpose else {
            // A packet in a tunnel, or an error about one, is none of the control plane.
            self.asm.place(source);
            return self.asm.place(destination);
        };
        self.only_one(source, destination);
        self.membership(&PRIVATE);
        self.only_one(source, destination);
        self.lower(source, destination);
        self.worker(source, SOURCE_KEYS, workers);
        self.worker(destination, DESTINATION_KEYS, workers);
    }

    /// The control plane goes to worker 0, unless an end is a subscriber's: they have no say in it.
    fn control(&mut self, other: Label) {
        let (control, traffic) = (self.asm.label(), self.asm.label());
        self.asm.load_memory(CONTROL);
        match self.purpose {
            Purpose::Shard(_) => self.asm.branch(Test::Equal, 1, control, traffic),
            Purpose::Control => self.asm.branch(Test::Equal, 1, control, other),
        }
        self.asm.place(control);
        self.asm.load_memory(SOURCE_IN);
        self.asm.load_x_memory(DESTINATION_IN);
        self.asm.alu_x(Alu::Add);
        match self.purpose {
            Purpose::Shard(_) => self.asm.branch(Test::Equal, 0, other, To::Next),
            Purpose::Control => {
                self.asm.branch(Test::Equal, 0, To::Next, other);
                self.asm.give(WHOLE);
            }
        }
        self.asm.load_x_memory(IP);
        self.asm.place(traffic);
    }

    /// Goes where one end alone is in the ranges that were looked at. X is the IP header again.
    fn only_one(&mut self, source: Label, destination: Label) {
        let both = self.asm.label();
        self.asm.load_memory(SOURCE_IN);
        self.asm.load_x_memory(DESTINATION_IN);
        self.asm.branch_x(Test::Equal, both, To::Next);
        self.asm.load_x_memory(IP);
        self.asm.branch(Test::Equal, 1, source, destination);
        self.asm.place(both);
        self.asm.load_x_memory(IP);
    }

    /// Goes where the lower key is.
    fn lower(&mut self, source: Label, destination: Label) {
        self.key(DESTINATION_KEYS);
        self.asm.store(OTHER_KEY);
        self.key(SOURCE_KEYS);
        self.asm.load_x_memory(OTHER_KEY);
        let higher = self.asm.label();
        self.asm.branch_x(Test::Greater, higher, To::Next);
        self.asm.load_x_memory(IP);
        self.asm.goto(source);
        self.asm.place(higher);
        self.asm.load_x_memory(IP);
        self.asm.goto(destination);
    }

    /// A = 32 bits of the address at one of the offsets, of IPv4 and of IPv6, from X on: the address, or
    /// its upper 64 bits folded in two. X is the IP header again.
    fn key(&mut self, [v4, v6]: [u32; 2]) {
        let (long, done) = (self.asm.label(), self.asm.label());
        self.version();
        self.asm.branch(Test::Equal, 6, long, To::Next);
        self.asm.load(Size::Word, v4);
        self.asm.goto(done);
        self.asm.place(long);
        self.asm.load(Size::Word, v6);
        self.asm.store(SCRATCH);
        self.asm.load(Size::Word, v6 + 4);
        self.asm.load_x_memory(SCRATCH);
        self.asm.alu_x(Alu::Xor);
        self.asm.load_x_memory(IP);
        self.asm.place(done);
    }

    /// Gives the worker of the address at one of the offsets.
    fn worker(&mut self, at: Label, offsets: [u32; 2], workers: u32) {
        self.asm.place(at);
        self.key(offsets);
        self.asm.alu(Alu::Mul, SPREAD);
        self.asm.alu(Alu::ShiftRight, 16);
        self.asm.alu(Alu::Mod, workers);
        self.asm.give_a();
    }
}

/// More bytes than any packet has.
const WHOLE: u32 = 0x4_0000;

#[cfg(test)]
mod tests;
