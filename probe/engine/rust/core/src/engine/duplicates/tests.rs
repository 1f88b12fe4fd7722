//! What is a copy, and above all what is none.

use proptest::prelude::*;

use super::*;
use crate::decap::frames::*;
use crate::decap::{Decoded, Decoder, FragmentLimits};

const MS: u64 = 1_000_000;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A capture under inspection.
struct Tap {
    decoder: Decoder,
    duplicates: Duplicates,
}

impl Tap {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(FragmentLimits::default()),
            duplicates: Duplicates::new(1024, 7),
        }
    }

    /// Shows a frame of an interface; returns whether it is a copy.
    fn shows_on(&mut self, interface: u32, time_ns: u64, frame: &[u8]) -> bool {
        let packet = Packet {
            time_ns,
            interface,
            ..packet(LinkType::Ethernet, frame)
        };
        match self.decoder.decode(&packet) {
            Ok(Decoded::Inner(inner)) => self.duplicates.is_copy(&packet, &inner),
            other => panic!("not an inner packet: {other:?}"),
        }
    }

    fn shows(&mut self, time_ns: u64, frame: &[u8]) -> bool {
        self.shows_on(0, time_ns, frame)
    }

    /// Shows different packets of the two hosts, so that it is known how the client numbers its own.
    fn shows_others(&mut self, identification: impl Fn(u16) -> u16) {
        for number in 0..8_u16 {
            let segment = tcp(80, &number.to_be_bytes());
            let time_ns = u64::from(number) * 100 * MS;
            assert!(!self.shows(time_ns, &v4(identification(number), 64, &segment)));
        }
    }
}

const START: u64 = 10_000 * MS;

fn v4(identification: u16, ttl: u8, segment: &[u8]) -> Vec<u8> {
    v4_of(TCP, identification, ttl, segment)
}

fn v4_of(protocol: u8, identification: u16, ttl: u8, segment: &[u8]) -> Vec<u8> {
    let mut ip = ipv4_part(CLIENT, SERVER, protocol, identification, 0x4000, segment);
    ip[8] = ttl;
    ethernet(IPV4, &ip)
}

fn v6(hop_limit: u8, segment: &[u8]) -> Vec<u8> {
    let mut ip = ipv6(TCP, segment);
    ip[7] = hop_limit;
    ethernet(IPV6, &ip)
}

/// A data segment with its own sequence number.
fn data(number: u32) -> Vec<u8> {
    let mut segment = tcp(443, &[7; 200]);
    segment[4..8].copy_from_slice(&number.to_be_bytes());
    segment
}

fn bare_ack() -> Vec<u8> {
    tcp(443, b"")
}

#[test]
fn a_packet_seen_at_two_ports_of_a_switch_is_one_packet() {
    let mut tap = Tap::new();
    for identification in 1..10 {
        let frame = v4(identification, 64, &bare_ack());
        let time_ns = START + u64::from(identification) * MS;
        assert!(!tap.shows(time_ns, &frame));
        assert!(tap.shows(time_ns + 5_000, &frame));
        assert!(tap.shows(time_ns + 6_000, &frame));
    }
}

#[test]
fn a_copy_may_differ_in_all_that_hops_and_tunnels_change() {
    let ip = |ttl, service| {
        let mut ip = ipv4_part(CLIENT, SERVER, TCP, 77, 0x4000, &data(1));
        (ip[8], ip[1], ip[10]) = (ttl, service, ttl);
        ip
    };
    let copies = [
        ethernet(IPV4, &ip(63, 0)),
        ethernet(IPV4, &ip(64, 3)),
        ethernet(0x8100, &vlan(5, IPV4, &ip(64, 0))),
        ethernet(0x8847, &[&[0, 1, 0x41, 64], &ip(64, 0)[..]].concat()),
        ethernet(IPV4, &g_pdu(9, &ip(62, 0))),
        ethernet(IPV4, &ipv4_between(ENB, SGW, 4, &ip(60, 0))),
    ];
    for copy in copies {
        let mut tap = Tap::new();
        assert!(!tap.shows(START, &ethernet(IPV4, &ip(64, 0))));
        assert!(tap.shows(START + MS, &copy));
    }
}

#[test]
fn a_retransmission_has_another_identification_and_is_no_copy() {
    let mut tap = Tap::new();
    tap.shows_others(|number| number + 1);
    for (number, identification) in (100..110).enumerate() {
        let time_ns = START + number as u64 * 1000;
        assert!(!tap.shows(time_ns, &v4(identification, 64, &data(1))));
    }
}

#[test]
fn duplicate_acknowledgments_survive_on_a_clean_capture() {
    // No identification (RFC 6864), one that never changes, and IPv6.
    let frames = [
        (v4(0, 64, &bare_ack()), 0),
        (v4(1, 64, &bare_ack()), 1),
        (v6(64, &bare_ack()), 0),
    ];
    for (frame, identification) in frames {
        let mut tap = Tap::new();
        tap.shows_others(|_| identification);
        for number in 0..20 {
            assert!(!tap.shows(START + number * 50_000, &frame));
        }
    }
}

#[test]
fn repeated_datagrams_and_keep_alives_survive_on_a_clean_capture() {
    let question = udp(5353, 53, b"the same question again");
    let mut tap = Tap::new();
    for number in 0..5 {
        assert!(!tap.shows(START + number * MS, &v4_of(UDP, 0, 64, &question)));
        let later_ns = START + number * 1000 * MS;
        assert!(!tap.shows(later_ns, &v6(64, &tcp(443, b"k"))));
    }
}

#[test]
fn the_same_bytes_at_another_hop_are_a_copy_and_repetitions_still_count() {
    let (near, far) = (v6(64, &bare_ack()), v6(63, &bare_ack()));
    let orders: [&[(&[u8], bool)]; 2] = [
        &[
            (&near, false),
            (&far, true),
            (&near, false),
            (&far, true),
            (&near, false),
            (&far, true),
        ],
        &[
            (&near, false),
            (&near, false),
            (&near, false),
            (&far, true),
            (&far, true),
            (&far, true),
        ],
    ];
    for order in orders {
        let mut tap = Tap::new();
        for (number, (frame, copy)) in order.iter().enumerate() {
            assert_eq!(tap.shows(START + number as u64 * 10_000, frame), *copy);
        }
    }
}

#[test]
fn another_interface_is_another_hop() {
    let mut tap = Tap::new();
    let frame = v6(64, &bare_ack());
    assert!(!tap.shows_on(0, START, &frame));
    assert!(tap.shows_on(1, START + 1000, &frame));
    assert!(!tap.shows_on(0, START + 2000, &frame));
}

#[test]
fn an_any_capture_shows_a_packet_once_for_each_interface_it_passes() {
    let frame = |interface, kind| {
        let header = [
            0x86, 0xdd, 0, 0, 0, 0, 0, interface, 0, 1, kind, 6, 1, 2, 3, 4, 5, 6, 0, 0,
        ];
        [&header[..], &ipv6(TCP, &bare_ack())].concat()
    };
    let mut tap = Tap::new();
    let mut shows = |time_ns, frame: &[u8]| {
        let packet = Packet {
            time_ns,
            ..packet(LinkType::LinuxSll2, frame)
        };
        match tap.decoder.decode(&packet) {
            Ok(Decoded::Inner(inner)) => tap.duplicates.is_copy(&packet, &inner),
            other => panic!("not an inner packet: {other:?}"),
        }
    };
    assert!(!shows(START, &frame(2, 0)));
    assert!(shows(START + 1000, &frame(3, 4)));
    assert!(!shows(START + 9000, &frame(2, 0)));
    assert!(shows(START + 9500, &frame(3, 4)));
}

#[test]
fn on_a_mirror_that_doubles_every_second_of_equal_packets_is_a_copy() {
    let mut tap = Tap::new();
    for number in 0..20 {
        let frame = v6(64, &data(number));
        let time_ns = START + u64::from(number) * MS;
        assert!(!tap.shows(time_ns, &frame));
        let found = tap.shows(time_ns + 4_000, &frame);
        assert_eq!(found, number >= 5, "copy {number}");
    }
    // Two duplicate acknowledgments, each shown twice.
    let shown = [0, 1, 2, 3]
        .map(|number| tap.shows(START + 30 * MS + number * 5_000, &v6(64, &bare_ack())));
    assert_eq!(shown, [false, true, false, true]);
    // A retransmission after its timeout, shown twice.
    let again = v6(64, &data(3));
    assert!(!tap.shows(START + 300 * MS, &again));
    assert!(tap.shows(START + 300 * MS + 4_000, &again));
}

#[test]
fn what_the_whole_capture_shows_speaks_for_hosts_not_yet_known() {
    let mut tap = Tap::new();
    for number in 1..200 {
        let frame = v4(number, 64, &bare_ack());
        let time_ns = START + u64::from(number) * MS;
        assert!(!tap.shows(time_ns, &frame));
        assert!(tap.shows(time_ns + 4_000, &frame));
    }
    let stranger = v6(64, &bare_ack());
    assert!(!tap.shows(START + 300 * MS, &stranger));
    assert!(tap.shows(START + 300 * MS + 4_000, &stranger));
}

#[test]
fn lone_retransmissions_without_identification_do_not_look_like_a_doubling_mirror() {
    let mut tap = Tap::new();
    for number in 0..300 {
        let time_ns = START + u64::from(number) * MS;
        assert!(!tap.shows(time_ns, &v6(64, &data(number))));
        if number % 4 == 0 {
            // A fast retransmission in a network of a few microseconds.
            assert!(!tap.shows(time_ns + 500_000, &v6(64, &data(number))));
        }
    }
}

#[test]
fn a_copy_that_comes_too_late_is_a_packet() {
    let mut tap = Tap::new();
    let first = v4(9, 64, &data(1));
    assert!(!tap.shows(START, &first));
    assert!(
        !tap.shows(START + DOUBLING_WINDOW_NS, &first),
        "whether the sender numbers its packets is not known yet"
    );
    for (identification, apart_ns, copy) in [
        (1, WINDOW_NS, false),
        (2, WINDOW_NS - 1, true),
        (3, 0, true),
    ] {
        let frame = v4(identification, 64, &data(1));
        assert!(!tap.shows(START, &frame));
        assert_eq!(tap.shows(START + apart_ns, &frame), copy);
    }
    let frame = v4(4, 64, &data(1));
    assert!(!tap.shows(START, &frame));
    assert!(tap.shows(START - MS, &frame), "time may go back");
    for (number, apart_ns, copy) in [(5, HOP_WINDOW_NS, false), (6, HOP_WINDOW_NS - 1, true)] {
        assert!(!tap.shows(START, &v6(64, &data(number))));
        assert_eq!(tap.shows(START + apart_ns, &v6(63, &data(number))), copy);
    }
}

#[test]
fn packets_that_differ_in_any_byte_that_is_read_are_two() {
    let frame = v4(9, 64, &data(1));
    let ip = 14;
    // Identification, protocol, addresses, and the first 40 bytes above IP.
    let places = [ip + 4, ip + 5, ip + 12, ip + 15, ip + 16, ip + 19];
    for place in places.into_iter().chain(ip + 20..ip + 60) {
        let mut other = frame.clone();
        other[place] ^= 1;
        let mut tap = Tap::new();
        assert!(!tap.shows(START, &frame));
        assert!(!tap.shows(START + 1000, &other), "byte {place}");
    }
}

#[test]
fn short_segments_are_compared_whole() {
    for length in 0..40_usize {
        let segment: Vec<u8> = (0..length as u8).collect();
        for changed in 0..length {
            let mut other = segment.clone();
            other[changed] ^= 0x80;
            assert_ne!(
                first_words(&segment),
                first_words(&other),
                "byte {changed} of {length}"
            );
        }
    }
}

#[test]
fn without_a_table_nothing_is_a_copy() {
    let mut tap = Tap::new();
    tap.duplicates = Duplicates::new(0, 7);
    let frame = v4(9, 64, &data(1));
    assert!(!tap.shows(START, &frame) && !tap.shows(START, &frame));
}

proptest! {
    #[test]
    fn each_packet_counts_once_however_many_hops_show_it(
        sizes in prop::collection::vec(0..300_usize, 1..60),
        hops in 1..5_u8,
    ) {
        let mut tap = Tap::new();
        let mut counted = 0;
        for (number, size) in sizes.iter().enumerate() {
            for hop in 0..hops {
                let segment = [&data(number as u32)[..20], &vec![number as u8; *size]].concat();
                let time_ns = START + number as u64 * MS + u64::from(hop) * 1000;
                counted += usize::from(!tap.shows(time_ns, &v6(64 - hop, &segment)));
            }
        }
        prop_assert_eq!(counted, sizes.len());
    }

    #[test]
    fn any_packets_at_any_time_survive(
        packets in prop::collection::vec(
            (any::<u64>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 1..100),
    ) {
        let mut duplicates = Duplicates::new(1, 7);
        let mut decoder = Decoder::new(FragmentLimits::default());
        for (time_ns, ttl, segment) in packets {
            let frame = v4_of(TCP, u16::from(ttl), ttl, &segment);
            let packet = Packet { time_ns, ..packet(LinkType::Ethernet, &frame) };
            if let Ok(Decoded::Inner(inner)) = decoder.decode(&packet) {
                duplicates.is_copy(&packet, &inner);
            }
        }
    }
}
