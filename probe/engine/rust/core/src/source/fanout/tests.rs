//! The program in the machine, beside the engine's own way to share out packets: two of one mind that
//! know nothing of each other.

use proptest::prelude::*;

use super::*;
use crate::control::attribution::Prefix;
use crate::decap::Decoder;
use crate::decap::FragmentLimits;
use crate::engine::options::Options;
use crate::engine::shard::{Share, Sharing};
use crate::source::Packet;
use crate::source::bpf::machine::{Skb, run};

const SUBSCRIBERS: [&str; 3] = ["100.64.0.0/10", "2001:db8:77::/48", "198.51.100.128/25"];
const RAN: [&str; 3] = ["10.9.0.0/16", "2001:db8:9::/64", "10.8.1.1"];

fn ranges(texts: &[&str]) -> Vec<Range> {
    let range = |text: &&str| Prefix::parse(text).expect("a prefix").range();
    texts.iter().map(range).collect()
}

fn sharding() -> Sharding {
    Sharding {
        subscribers: ranges(&SUBSCRIBERS),
        ran: ranges(&RAN),
    }
}

fn options() -> Options {
    let text = serde_json::json!({
        "probe_id": "p", "captures": [], "active_timeout_s": 60, "client_address": "full",
        "batch_rows": 10, "batch_interval_s": 10, "attribution": [],
        "subscriber_prefixes": SUBSCRIBERS, "ran_prefixes": RAN,
        "limits": {"flows": 16, "fragments": 16, "reassembly_bytes": 65536, "clients": 16,
                   "pairs": 16, "names": 16, "bearers": 16},
    });
    Options::parse(&text.to_string()).expect("options")
}

const WORKERS: u16 = 7;

/// The worker of a frame by the engine; None where it sees no packet in it.
fn by_engine(frame: &[u8]) -> Option<Share> {
    let sharing = Sharing::new(&options(), WORKERS).expect("sharing");
    let mut decoder = Decoder::new(FragmentLimits::default());
    let packet = Packet {
        time_ns: 1,
        interface: 0,
        link: LinkType::Ethernet,
        wire_len: frame.len() as u32,
        data: frame,
    };
    let decoded = decoder.decode(&packet).ok()?;
    Some(sharing.of_packet(&decoded))
}

fn frame_skb(frame: &[u8]) -> Skb<'_> {
    Skb {
        data: &frame[14..],
        protocol: u16::from_be_bytes([frame[12], frame[13]]),
        outgoing: false,
    }
}

/// The same by the programs: the lead's worker, and whether the others get it too.
fn by_programs(frame: &[u8]) -> (u32, bool) {
    let shard = shard(LinkType::Ethernet, &sharding(), WORKERS.into()).expect("a program");
    let control = control(LinkType::Ethernet, &sharding()).expect("a program");
    let received = run(&shard, &frame_skb(frame)).expect("the kernel takes it");
    let sent = Skb {
        data: frame,
        protocol: 0,
        outgoing: true,
    };
    assert_eq!(run(&shard, &sent), Some(received), "sent and received");
    let taken = run(&control, &sent).expect("the kernel takes it");
    assert!([0, WHOLE].contains(&taken));
    (received, taken == WHOLE)
}

fn assert_of_one_mind(frame: &[u8]) {
    let programs = by_programs(frame);
    match by_engine(frame) {
        Some(Share::All) => assert_eq!(programs, (0, true), "{frame:02x?}"),
        Some(Share::One(part)) => assert_eq!(programs, (part.into(), false), "{frame:02x?}"),
        None => {}
    }
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
}

type Ends = (Vec<u8>, Vec<u8>);

fn ip(protocol: u8, ends: &Ends, segment: &[u8]) -> Vec<u8> {
    let (source, destination) = ends;
    let mut packet = match source.len() {
        4 => {
            let [high, low] = (segment.len() as u16 + 20).to_be_bytes();
            vec![0x45, 0, high, low, 0, 7, 0x40, 0, 64, protocol, 0, 0]
        }
        _ => {
            let [high, low] = (segment.len() as u16).to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, protocol, 64]
        }
    };
    packet.extend([source, destination].into_iter().flatten());
    packet.extend(segment);
    packet
}

fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16 + 8).to_be_bytes();
    let ports = ports.map(u16::to_be_bytes).concat();
    [&ports[..], &len, &[0, 0], payload].concat()
}

/// A G-PDU with a container of this type, if any, behind so many other extension headers.
fn gpdu(container: Option<u8>, others: usize, inner: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    if container.is_some() || others > 0 {
        let mut kinds = vec![0x40; others];
        kinds.extend(container.map(|_| 0x85));
        options.extend([0, 0, 0]);
        for (index, kind) in kinds.iter().enumerate() {
            let container = container.unwrap_or(0) << 4;
            options.extend([*kind, 1, if *kind == 0x85 { container } else { 9 }, 9]);
            debug_assert!(index < 8);
        }
        options.push(0);
    }
    let flags = if options.is_empty() { 0x30 } else { 0x34 };
    let len = ((options.len() + inner.len()) as u16).to_be_bytes();
    let header = [flags, 255, len[0], len[1], 0, 0, 0, 5];
    [&header[..], &options, inner].concat()
}

fn v4_address() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| octets.to_vec()),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| vec![100, 64 | a & 63, b, a]),
        any::<u8>().prop_map(|a| vec![198, 51, 100, a]),
        any::<u8>().prop_map(|a| vec![10, 9, 1, a]),
        any::<u8>().prop_map(|a| vec![192, 168, 1, a]),
        any::<u8>().prop_map(|a| vec![172, 20, 1, a]),
        Just(vec![10, 8, 1, 1]),
    ]
}

fn v6_address() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just([0x20, 1, 0xd, 0xb8, 0, 0x77]),
        Just([0x20, 1, 0xd, 0xb8, 0, 9]),
        Just([0xfd, 1, 2, 3, 4, 5]),
        Just([0x20, 1, 0xd, 0xb8, 0x12, 0x34]),
    ];
    (start, any::<[u8; 10]>()).prop_map(|(start, rest)| [&start[..], &rest].concat())
}

fn ends() -> impl Strategy<Value = Ends> {
    prop_oneof![(v4_address(), v4_address()), (v6_address(), v6_address())]
}

/// What IP may carry, to which ends.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let ports = (
        prop_oneof![
            any::<u16>(),
            Just(2123),
            Just(443),
            Just(8805),
            Just(1813),
            Just(53)
        ],
        prop_oneof![any::<u16>(), Just(2123), Just(443), Just(1812)],
    );
    let payload = proptest::collection::vec(any::<u8>(), 24..60);
    (ends(), ends(), ports, payload, 0u8..6).prop_map(|(ends, others, ports, payload, kind)| {
        let v6 = ends.0.len() == 16;
        let quoted = if others.0.len() == ends.0.len() {
            others
        } else {
            ends.clone()
        };
        let segment = udp([ports.0 | 1, ports.1 | 1], &payload);
        let ports = udp([ports.0, ports.1], &payload);
        match kind {
            0 => ip(6, &ends, &payload),
            1 => ip(132, &ends, &payload),
            2 | 3 => ip(17, &ends, &ports),
            4 => {
                let error = [
                    &[if v6 { 1 } else { 3 }, 1, 0, 0, 0, 0, 0, 0][..],
                    &ip(6, &quoted, &segment),
                ]
                .concat();
                ip(if v6 { 58 } else { 1 }, &ends, &error)
            }
            _ => {
                let echo = [&[if v6 { 128 } else { 8 }, 0][..], &payload].concat();
                ip(if v6 { 58 } else { 1 }, &ends, &echo)
            }
        }
    })
}

fn kind_of(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}

proptest! {
    #[test]
    fn a_packet_goes_where_the_engine_would_have_it(packet in packet(), tags in 0usize..4) {
        let mut payload = packet.clone();
        let mut kind = kind_of(&packet);
        for tag in 0..tags {
            payload = [&[0, 7][..], &kind.to_be_bytes(), &payload].concat();
            kind = [0x8100, 0x88a8, 0x9100][tag % 3];
        }
        assert_of_one_mind(&ethernet(kind, &payload));
    }

    #[test]
    fn so_does_one_in_a_tunnel(
        outer in ends(),
        inner in packet(),
        container in proptest::option::of(0u8..3),
        others in 0usize..4,
    ) {
        let packet = ip(17, &outer, &udp([2152, 2152], &gpdu(container, others, &inner)));
        assert_of_one_mind(&ethernet(kind_of(&packet), &packet));
    }

    #[test]
    fn so_does_an_error_about_one_in_a_tunnel(
        router in ends(),
        outer in ends(),
        inner in packet(),
        container in proptest::option::of(0u8..2),
    ) {
        prop_assume!(router.0.len() == outer.0.len());
        let quoted = ip(17, &outer, &udp([2152, 2152], &gpdu(container, 0, &inner)));
        let v6 = router.0.len() == 16;
        let error = [&[if v6 { 1 } else { 3 }, 0, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let packet = ip(if v6 { 58 } else { 1 }, &router, &error);
        // The engine knows the quoted packet, but not which way its tunnel goes.
        let (worker, control) = by_programs(&ethernet(kind_of(&packet), &packet));
        prop_assert!(worker < u32::from(WORKERS) && !control);
    }

    #[test]
    fn labels_and_sessions_are_passed(packet in packet(), labels in 1usize..5) {
        let mut stack: Vec<u8> = (0..labels).flat_map(|_| [0, 1, 0x20, 64]).collect();
        let bottom = stack.len() - 2;
        stack[bottom] |= 1;
        let mpls = ethernet(0x8847, &[&stack[..], &packet].concat());
        let ppp = if kind_of(&packet) == 0x0800 { 0x21 } else { 0x57 };
        let len = (packet.len() as u16 + 2).to_be_bytes();
        let session = [&[0x11, 0, 0, 1, len[0], len[1], 0, ppp][..], &packet].concat();
        assert_of_one_mind(&mpls);
        assert_of_one_mind(&ethernet(0x8864, &session));
    }

    #[test]
    fn any_bytes_have_a_worker(kind in any::<u16>(), bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        for kind in [kind, 0x0800, 0x86dd] {
            let (worker, _) = by_programs(&ethernet(kind, &bytes));
            prop_assert!(worker < u32::from(WORKERS));
        }
    }

    #[test]
    fn both_ways_of_a_flow_have_one_worker(ends in ends()) {
        let packet = ip(6, &ends, &[0; 20]);
        let mut back = packet.clone();
        let (at, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
        back[at..at + len].copy_from_slice(&packet[at + len..at + 2 * len]);
        back[at + len..at + 2 * len].copy_from_slice(&packet[at..at + len]);
        let of = |packet: &[u8]| by_programs(&ethernet(kind_of(packet), packet));
        prop_assert_eq!(of(&packet), of(&back));
    }
}

#[test]
fn fragments_of_a_datagram_have_one_worker() {
    let ends = (vec![100, 64, 3, 3], vec![203, 0, 113, 5]);
    let whole = ip(17, &ends, &udp([4000, 2152], &[0x30; 40]));
    let mut workers = Vec::new();
    for (flags, offset) in [(0x20, 0), (0x20, 100), (0, 200)] {
        let mut part = whole.clone();
        (part[6], part[7]) = (flags, offset);
        workers.push(by_programs(&ethernet(0x0800, &part)).0);
    }
    workers.dedup();
    assert_eq!(workers.len(), 1);
}

#[test]
fn subscribers_are_spread_over_all_workers() {
    let mut packets = [0u32; WORKERS as usize];
    for number in 0..7000u16 {
        let [high, low] = number.to_be_bytes();
        let ends = (vec![100, 64, high, low], vec![203, 0, 113, 5]);
        let frame = ethernet(0x0800, &ip(6, &ends, &[0; 20]));
        packets[by_programs_of(&frame) as usize] += 1;
    }
    assert!(
        packets.iter().all(|&of| (850..1150).contains(&of)),
        "{packets:?}"
    );
}

fn by_programs_of(frame: &[u8]) -> u32 {
    thread_local! {
        static PROGRAM: Vec<Instruction> =
            shard(LinkType::Ethernet, &sharding(), WORKERS.into()).expect("a program");
    }
    PROGRAM.with(|program| run(program, &frame_skb(frame)).expect("the kernel takes it"))
}

#[test]
fn hundreds_of_prefixes_fit_and_too_many_are_refused() {
    let many = |count: u32| Sharding {
        subscribers: (0..count).map(|number| v4(number << 8, 24)).collect(),
        ran: Vec::new(),
    };
    let len = |sharding: &Sharding| shard(LinkType::Ethernet, sharding, 4).map(|of| of.len());
    assert!(len(&Sharding::default()).is_some_and(|len| len < 1200));
    assert!(len(&many(300)).is_some());
    assert_eq!(len(&many(2000)), None);
}
