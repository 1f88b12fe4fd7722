use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::decap::frames::{gtpu, gtpu_packet, ipv4_between, packet, udp};
use crate::decap::{Decoder, FragmentLimits};
use crate::engine::Pipeline;
use crate::source::LinkType;

const SUBSCRIBER: [u8; 4] = [10, 45, 0, 7];
const SERVER: [u8; 4] = [198, 51, 100, 9];
const ROUTER: [u8; 4] = [198, 51, 100, 1];
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn v6(segments: [u16; 8]) -> Address {
    std::net::IpAddr::from(segments).into()
}

fn sharing(of: u16, subscribers: &[&str], ran: &[&str]) -> Sharing {
    let prefixes = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Prefix::parse(text).unwrap())
            .collect()
    };
    Sharing {
        of,
        subscriber_prefixes: prefixes(subscribers),
        ran_prefixes: prefixes(ran),
    }
}

fn options() -> Options {
    let text = r#"{
        "probe_id": "test", "captures": [], "active_timeout_s": 60, "client_address": "full",
        "batch_rows": 7, "batch_interval_s": 5,
        "limits": {"flows": 100, "fragments": 16, "reassembly_bytes": 65536,
                   "clients": 100, "pairs": 100, "names": 100, "bearers": 100},
        "subscriber_prefixes": [], "ran_prefixes": [], "attribution": []
    }"#;
    Options::parse(text).unwrap()
}

fn share_of(sharing: &Sharing, bytes: &[u8]) -> Share {
    let mut decoder = Decoder::new(FragmentLimits::default());
    sharing.of_packet(&decoder.decode(&packet(LinkType::RawIp, bytes)).unwrap())
}

fn of_address(address: [u8; 4], of: u16) -> Share {
    Share::One(part_of_key(u32::from_be_bytes(address), of))
}

fn datagram(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    ipv4_between(source, destination, UDP, &udp(40_000, 443, b"x"))
}

#[test]
fn the_sums_are_those_that_were_agreed_on() {
    assert_eq!(key_of(Address::v4([10, 0, 0, 1])), 0x0a00_0001);
    let address = v6([0x2001, 0xdb8, 0x1234, 0x5678, 1, 2, 3, 4]);
    assert_eq!(key_of(address), 0x2001_0db8 ^ 0x1234_5678);
    let hash = 0x0a00_0001_u64 * 0x9e37_79b1 % (1 << 32);
    assert_eq!(u64::from(part_of_key(0x0a00_0001, 7)), (hash >> 16) % 7);
    assert_eq!(part_of_key(5, 0), 0);
}

#[test]
fn private_are_the_ranges_of_subscribers() {
    for inside in [
        [10, 255, 0, 1],
        [172, 16, 0, 1],
        [172, 31, 255, 255],
        [192, 168, 1, 1],
    ] {
        assert!(is_private(Address::v4(inside)));
    }
    assert!(is_private(Address::v4([100, 64, 0, 1])) && is_private(Address::v4([100, 127, 9, 9])));
    for outside in [
        [11, 0, 0, 1],
        [172, 32, 0, 1],
        [100, 63, 0, 1],
        [100, 128, 0, 1],
    ] {
        assert!(!is_private(Address::v4(outside)));
    }
    assert!(is_private(v6([0xfd12, 0, 0, 0, 0, 0, 0, 1])));
    assert!(!is_private(v6([0xfe80, 0, 0, 0, 0, 0, 0, 1])));
}

#[test]
fn all_of_a_subscriber_meets_one_part() {
    for of in [1, 2, 3, 7, 64] {
        let sharing = sharing(of, &[], &[]);
        let expected = of_address(SUBSCRIBER, of);
        assert_eq!(share_of(&sharing, &datagram(SUBSCRIBER, SERVER)), expected);
        assert_eq!(share_of(&sharing, &datagram(SERVER, SUBSCRIBER)), expected);
        assert_eq!(
            share_of(&sharing, &datagram([9, 9, 9, 9], SUBSCRIBER)),
            expected
        );
    }
}

#[test]
fn an_error_meets_the_part_of_the_packet_that_it_quotes() {
    let quoted = datagram(SUBSCRIBER, SERVER);
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    for of in [2, 3, 7] {
        let subscribers = sharing(of, &["198.51.100.0/24"], &[]);
        let error = ipv4_between(ROUTER, SUBSCRIBER, ICMP, &error);
        assert_eq!(
            share_of(&sharing(of, &[], &[]), &error),
            of_address(SUBSCRIBER, of)
        );
        assert_eq!(share_of(&subscribers, &error), of_address(SERVER, of));
    }
}

#[test]
fn a_tunnels_direction_says_who_is_the_subscriber() {
    let (ran, core) = ([172, 16, 1, 1], [172, 16, 2, 1]);
    let public = [203, 0, 113, 5];
    let tunnel = |outer: [[u8; 4]; 2], inner: &[u8]| {
        let gtpu = gtpu(0, 255, 7, inner);
        ipv4_between(outer[0], outer[1], UDP, &udp(2152, 2152, &gtpu))
    };
    for of in [2, 3, 7] {
        let sharing = sharing(of, &[], &["172.16.1.0/24"]);
        let up = tunnel([ran, core], &datagram(public, [10, 1, 1, 1]));
        let down = tunnel([core, ran], &datagram([10, 1, 1, 1], public));
        assert_eq!(share_of(&sharing, &up), of_address(public, of));
        assert_eq!(share_of(&sharing, &down), of_address(public, of));
    }
}

#[test]
fn the_control_plane_is_for_all_but_what_subscribers_send() {
    let (sharing, gtpc) = (sharing(3, &["10.45.0.0/16"], &[]), udp(2123, 2123, b"x"));
    let nodes = ipv4_between(ROUTER, SERVER, UDP, &gtpc);
    assert_eq!(share_of(&sharing, &nodes), Share::All);
    let device = ipv4_between(SUBSCRIBER, SERVER, UDP, &gtpc);
    assert_eq!(share_of(&sharing, &device), of_address(SUBSCRIBER, 3));
    let sctp = ipv4_between(ROUTER, SERVER, 132, &[0; 16]);
    assert_eq!(share_of(&sharing, &sctp), Share::All);
    let echo = gtpu_packet(&gtpu(2, 1, 0, &[0, 1, 0, 0]));
    assert_eq!(share_of(&sharing, &echo), Share::All);
}

#[test]
fn a_mirrors_copy_of_the_control_plane_is_counted_by_the_lead_alone() {
    let create = udp(2123, 2123, &[0x48, 32, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0]);
    let mut bytes = ipv4_between(ROUTER, SERVER, UDP, &create);
    bytes[4..6].copy_from_slice(&[1, 2]);
    for (number, copies) in [(0, 1), (1, 0)] {
        let part = Part { number, of: 2 };
        let mut pipeline = Pipeline::for_part(part, &options(), "test", b"key", 7).unwrap();
        for _ in 0..2 {
            pipeline.on_packet(&packet(LinkType::RawIp, &bytes));
        }
        let counters: BTreeMap<_, _> = pipeline.counters().into_iter().collect();
        assert_eq!(counters["mirror_copies"], copies, "part {number}");
        assert_eq!(counters["packets"], 2 * copies, "part {number}");
    }
}

proptest! {
    #[test]
    fn both_directions_of_a_flow_meet_one_part(
        one: u128, other: u128, ports: (u16, u16), of in 1_u16..65, shift in 0_u32..97, udp: bool,
    ) {
        let sharing = sharing(of, &["10.45.0.0/16", "2001:db8::/32"], &[]);
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let [one, other] = [one, other].map(|address| Address(address >> shift | 0xffff_0000_0000));
        let (key, _) = FlowKey::of(one, ports.0, other, ports.1, transport);
        let (back, _) = FlowKey::of(other, ports.1, one, ports.0, transport);
        prop_assert_eq!(sharing.of_flow(&key), sharing.of_flow(&back));
        prop_assert!(sharing.of_flow(&key) < of);
    }

    #[test]
    fn a_subscriber_of_a_prefix_has_one_part_whomever_it_meets(
        subscriber: u16, peers: Vec<u32>, of in 1_u16..65,
    ) {
        let sharing = sharing(of, &["203.0.0.0/16"], &[]);
        let subscriber = Address::v4((0xcb00_0000 | u32::from(subscriber)).to_be_bytes());
        for peer in peers.into_iter().filter(|peer| peer >> 16 != 0xcb00) {
            let peer = Address::v4(peer.to_be_bytes());
            let (key, _) = FlowKey::of(subscriber, 1, peer, 443, Transport::Tcp);
            prop_assert_eq!(sharing.of_flow(&key), part_of_key(key_of(subscriber), of));
        }
    }

    #[test]
    fn parts_have_about_as_many_subscribers(start: u32, of in 2_u16..9) {
        let mut counts = vec![0_u32; of.into()];
        for subscriber in 0..4096_u32 {
            counts[usize::from(part_of_key(start.wrapping_add(subscriber), of))] += 1;
        }
        let fair = 4096 / u32::from(of);
        prop_assert!(counts.iter().all(|&count| count > fair / 2 && count < fair * 3 / 2));
    }
}
