//! What the decoder promises, on frames made by hand and on arbitrary ones.

use proptest::prelude::*;

use super::frames::*;
use super::*;
use crate::source::{LinkType, Packet};

mod encapsulations;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

const LINKS: [LinkType; 7] = [
    LinkType::Ethernet,
    LinkType::Loopback,
    LinkType::Ppp,
    LinkType::RawIp,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Other(147),
];

const IP_IN_IP: u8 = 4;

fn decoder() -> Decoder {
    Decoder::new(FragmentLimits::default())
}

/// What a frame turned out to be, free of borrows.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Inner {
        segment: Vec<u8>,
        segment_len: u32,
        ip_len: u32,
        packet: Facts,
    },
    Signal(TunnelSignal),
    Held,
    Failed(Undecodable),
}

#[derive(Debug, Clone, PartialEq)]
struct Facts {
    source: Address,
    destination: Address,
    transport: Transport,
    ttl: u8,
    layers: String,
    tunnel: Option<Tunnel>,
}

fn outcome(decoder: &mut Decoder, packet: &Packet<'_>) -> Outcome {
    match decoder.decode(packet) {
        Ok(Decoded::Inner(inner)) => Outcome::Inner {
            segment: inner.segment.to_vec(),
            segment_len: inner.segment_len,
            ip_len: inner.ip_len,
            packet: Facts {
                source: inner.source,
                destination: inner.destination,
                transport: inner.transport,
                ttl: inner.ttl,
                layers: encapsulation(inner.layers()).to_string(),
                tunnel: inner.tunnel().copied(),
            },
        },
        Ok(Decoded::TunnelSignal(signal)) => Outcome::Signal(signal),
        Ok(Decoded::Held) => Outcome::Held,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn decode(link: LinkType, data: &[u8]) -> Outcome {
    outcome(&mut decoder(), &packet(link, data))
}

fn segment_of(outcome: &Outcome) -> &[u8] {
    match outcome {
        Outcome::Inner { segment, .. } => segment,
        other => panic!("not an inner packet: {other:?}"),
    }
}

fn facts_of(outcome: &Outcome) -> &Facts {
    match outcome {
        Outcome::Inner { packet, .. } => packet,
        other => panic!("not an inner packet: {other:?}"),
    }
}

fn lengths_of(outcome: &Outcome) -> (usize, u32, u32) {
    match outcome {
        Outcome::Inner {
            segment,
            segment_len,
            ip_len,
            ..
        } => (segment.len(), *segment_len, *ip_len),
        other => panic!("not an inner packet: {other:?}"),
    }
}

fn raw(data: &[u8]) -> Outcome {
    decode(LinkType::RawIp, data)
}

mod link_layer {
    use super::*;

    fn reaches_tcp(link: LinkType, front: &[u8], ip: &[u8]) {
        let outcome = decode(link, &[front, ip].concat());
        assert_eq!(
            segment_of(&outcome),
            tcp(443, b"hello"),
            "{link:?} {front:02x?}"
        );
        assert_eq!(facts_of(&outcome).transport, Transport::Tcp);
    }

    #[test]
    fn every_link_type_leads_to_ipv4_and_ipv6() {
        let (v4, v6) = (
            ipv4(TCP, &tcp(443, b"hello")),
            ipv6(TCP, &tcp(443, b"hello")),
        );
        for (ethertype, ip) in [(IPV4, &v4), (IPV6, &v6)] {
            let [high, low] = ethertype.to_be_bytes();
            reaches_tcp(LinkType::Ethernet, &ethernet(ethertype, &[]), ip);
            reaches_tcp(LinkType::RawIp, &[], ip);
            let sll = [0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, high, low];
            reaches_tcp(LinkType::LinuxSll, &sll, ip);
            let sll2 = [
                high, low, 0, 0, 0, 0, 0, 9, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0,
            ];
            reaches_tcp(LinkType::LinuxSll2, &sll2, ip);
        }
    }

    #[test]
    fn loopback_families_are_read_in_both_byte_orders() {
        let (v4, v6) = (
            ipv4(TCP, &tcp(443, b"hello")),
            ipv6(TCP, &tcp(443, b"hello")),
        );
        let families = [
            (2_u32, &v4),
            (10, &v6),
            (23, &v6),
            (24, &v6),
            (28, &v6),
            (30, &v6),
        ];
        for (family, ip) in families {
            reaches_tcp(LinkType::Loopback, &family.to_le_bytes(), ip);
            reaches_tcp(LinkType::Loopback, &family.to_be_bytes(), ip);
        }
        let appletalk = 16_u32.to_le_bytes();
        assert_eq!(
            decode(LinkType::Loopback, &[&appletalk[..], &v4].concat()),
            Outcome::Failed(Undecodable::NotIp)
        );
    }

    #[test]
    fn ppp_is_read_with_and_without_framing_and_compressed_protocol() {
        let (v4, v6) = (
            ipv4(TCP, &tcp(443, b"hello")),
            ipv6(TCP, &tcp(443, b"hello")),
        );
        for (protocol, ip) in [(0x21, &v4), (0x57, &v6)] {
            reaches_tcp(LinkType::Ppp, &[0xff, 0x03, 0x00, protocol], ip);
            reaches_tcp(LinkType::Ppp, &[0x00, protocol], ip);
            reaches_tcp(LinkType::Ppp, &[0xff, 0x03, protocol], ip);
            reaches_tcp(LinkType::Ppp, &[protocol], ip);
        }
        let lcp = [0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 4];
        assert_eq!(
            decode(LinkType::Ppp, &lcp),
            Outcome::Failed(Undecodable::NotIp)
        );
    }

    #[test]
    fn vlan_tags_of_every_kind_are_passed_and_kept() {
        for outer in [0x8100, 0x88a8, 0x9100] {
            let ip = ipv4(TCP, &tcp(443, b"hello"));
            let tagged = vlan(0xe064, 0x8100, &vlan(20, IPV4, &ip));
            let outcome = decode(LinkType::Ethernet, &ethernet(outer, &tagged));
            assert_eq!(facts_of(&outcome).layers, "vlan:100/vlan:20");
            assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
        }
    }

    #[test]
    fn tags_without_end_are_too_deep() {
        let mut frame = ipv4(TCP, &tcp(443, b""));
        frame = vlan(1, IPV4, &frame);
        for _ in 0..MAX_LAYERS {
            frame = vlan(1, 0x8100, &frame);
        }
        let outcome = decode(LinkType::Ethernet, &ethernet(0x8100, &frame));
        assert_eq!(outcome, Outcome::Failed(Undecodable::TooDeep));
    }

    #[test]
    fn ip_inside_a_snap_header_is_found() {
        let ip = ipv4(TCP, &tcp(443, b"hello"));
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip[..]].concat();
        let outcome = decode(LinkType::Ethernet, &ethernet(snap.len() as u16, &snap));
        assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
    }

    #[test]
    fn what_is_not_ip_is_told_from_what_is_not_supported() {
        let frame = |ethertype| decode(LinkType::Ethernet, &ethernet(ethertype, &[0; 46]));
        for ethertype in [0x0806, 0x88cc, 0x0026, 0x05ff, 0xffff] {
            assert_eq!(
                frame(ethertype),
                Outcome::Failed(Undecodable::NotIp),
                "{ethertype:x}"
            );
        }
        for ethertype in [0x88e5, 0x894f, 0x22f3, 0x8903] {
            let expected = Outcome::Failed(Undecodable::UnsupportedEncapsulation);
            assert_eq!(frame(ethertype), expected, "{ethertype:x}");
        }
        let netlink = [0, 4, 3, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0x45];
        assert_eq!(
            decode(LinkType::LinuxSll, &netlink),
            Outcome::Failed(Undecodable::NotIp)
        );
        assert_eq!(
            decode(LinkType::Other(147), &netlink),
            Outcome::Failed(Undecodable::LinkTypeUnknown)
        );
    }

    #[test]
    fn a_frame_that_ends_in_its_link_header_is_truncated() {
        let full = [
            (LinkType::Ethernet, 14),
            (LinkType::LinuxSll, 16),
            (LinkType::LinuxSll2, 20),
        ];
        for (link, length) in full
            .into_iter()
            .chain([(LinkType::Loopback, 4), (LinkType::Ppp, 1)])
        {
            let outcome = decode(link, &vec![0; length - 1]);
            assert_eq!(
                outcome,
                Outcome::Failed(Undecodable::TruncatedLink),
                "{link:?}"
            );
        }
        let half_a_tag = ethernet(0x8100, &[0, 1]);
        let outcome = decode(LinkType::Ethernet, &half_a_tag);
        assert_eq!(outcome, Outcome::Failed(Undecodable::TruncatedLink));
    }
}

mod internet_layer {
    use super::*;

    #[test]
    fn an_ipv4_packet_is_taken_apart() {
        let outcome = raw(&ipv4(TCP, &tcp(443, b"hello")));
        let facts = facts_of(&outcome);
        assert_eq!(
            (facts.source, facts.destination),
            (Address::v4(CLIENT), Address::v4(SERVER))
        );
        assert_eq!(
            (facts.ttl, facts.tunnel, facts.layers.as_str()),
            (64, None, "")
        );
        assert_eq!(lengths_of(&outcome), (25, 25, 45));
    }

    #[test]
    fn an_ipv6_packet_is_taken_apart() {
        let outcome = raw(&ipv6(UDP, &udp(53, 5353, b"hello")));
        let facts = facts_of(&outcome);
        assert_eq!((facts.source, facts.destination), (client6(), server6()));
        assert_eq!((facts.ttl, facts.transport), (57, Transport::Udp));
        assert_eq!(lengths_of(&outcome), (13, 13, 53));
    }

    #[test]
    fn transports_are_named_by_protocol_number() {
        let known = [
            (1, Transport::Icmp),
            (58, Transport::Icmp),
            (132, Transport::Sctp),
            (50, Transport::Other(50)),
        ];
        for (protocol, transport) in known {
            assert_eq!(
                facts_of(&raw(&ipv4(protocol, &[0; 8]))).transport,
                transport
            );
            assert_eq!(
                facts_of(&raw(&ipv6(protocol, &[0; 8]))).transport,
                transport
            );
        }
    }

    #[test]
    fn ethernet_padding_is_not_payload() {
        let mut frame = ethernet(IPV4, &ipv4(TCP, &tcp(443, b"")));
        frame.resize(60, 0xee);
        assert_eq!(
            lengths_of(&decode(LinkType::Ethernet, &frame)),
            (20, 20, 40)
        );
    }

    #[test]
    fn ipv4_options_are_skipped() {
        let mut ip = ipv4(TCP, &[&[1; 8], &tcp(443, b"hello")[..]].concat());
        ip[0] = 0x47;
        let outcome = raw(&ip);
        assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
        assert_eq!(lengths_of(&outcome), (25, 25, 53));
    }

    #[test]
    fn ipv6_extension_headers_are_skipped() {
        let transport = tcp(443, b"hello");
        let chain = [
            &[43, 0, 5, 2, 0, 0, 0, 0][..],
            &[60, 0, 0, 0, 0, 0, 0, 0],
            &[51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[44, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2],
            &[135, 0, 0, 0, 0, 0, 0, 9],
            &[TCP, 0, 0, 0, 0, 0, 0, 0],
            &transport,
        ];
        let outcome = raw(&ipv6(0, &chain.concat()));
        assert_eq!(segment_of(&outcome), transport);
        assert_eq!(facts_of(&outcome).transport, Transport::Tcp);
    }

    #[test]
    fn an_authentication_header_after_ipv4_is_skipped() {
        let header = [TCP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        let outcome = raw(&ipv4(51, &[&header[..], &tcp(443, b"hello")].concat()));
        assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
    }

    #[test]
    fn extension_headers_without_end_are_too_deep() {
        let outcome = raw(&ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(40)));
        assert_eq!(outcome, Outcome::Failed(Undecodable::TooDeep));
    }

    #[test]
    fn an_extension_header_longer_than_the_packet_is_malformed() {
        let outcome = raw(&ipv6(60, &[TCP, 9, 0, 0, 0, 0, 0, 0]));
        assert_eq!(outcome, Outcome::Failed(Undecodable::MalformedIp));
    }

    #[test]
    fn a_length_of_zero_is_a_segment_not_yet_divided() {
        let transport = tcp(443, &vec![7; 100_000]);
        let (mut v4, mut v6) = (ipv4(TCP, &transport), ipv6(TCP, &transport));
        v4[2..4].fill(0);
        v6[4..6].fill(0);
        for (ip, header) in [(v4, 20), (v6, 40)] {
            let expected = (100_020, 100_020, 100_020 + header);
            assert_eq!(lengths_of(&raw(&ip)), expected);
        }
    }

    #[test]
    fn a_cut_capture_keeps_the_lengths_of_the_wire() {
        let whole = ethernet(IPV4, &ipv4(TCP, &tcp(443, &[7; 1400])));
        for cut in 34..=whole.len() {
            let data = &whole[..cut];
            let cut_packet = Packet {
                wire_len: whole.len() as u32,
                ..packet(LinkType::Ethernet, data)
            };
            let outcome = outcome(&mut decoder(), &cut_packet);
            assert_eq!(lengths_of(&outcome), (cut - 34, 1420, 1440));
        }
    }

    #[test]
    fn a_cut_header_is_truncated_and_a_short_packet_malformed() {
        for (ip, header) in [
            (ipv4(TCP, &tcp(443, b"")), 20),
            (ipv6(TCP, &tcp(443, b"")), 40),
        ] {
            for cut in 1..header {
                let cut_packet = Packet {
                    wire_len: ip.len() as u32,
                    ..packet(LinkType::RawIp, &ip[..cut])
                };
                let expected = Outcome::Failed(Undecodable::TruncatedIp);
                assert_eq!(outcome(&mut decoder(), &cut_packet), expected);
                assert_eq!(raw(&ip[..cut]), Outcome::Failed(Undecodable::MalformedIp));
            }
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_malformed() {
        let good = ipv4(TCP, &tcp(443, b""));
        let with = |index: usize, value: u8| {
            let mut ip = good.clone();
            ip[index] = value;
            decode(LinkType::Ethernet, &ethernet(IPV4, &ip))
        };
        for (index, value) in [(0, 0x44), (0, 0x65), (3, 19)] {
            assert_eq!(
                with(index, value),
                Outcome::Failed(Undecodable::MalformedIp)
            );
        }
    }

    #[test]
    fn a_frame_sliced_without_a_trace_keeps_the_length_of_its_ip_header() {
        for (ip, header) in [
            (ipv4(TCP, &tcp(443, &[7; 1400])), 20),
            (ipv6(TCP, &tcp(443, &[7; 1400])), 40),
        ] {
            let outcome = raw(&ip[..header + 60]);
            assert_eq!(lengths_of(&outcome), (60, 1420, 1420 + header as u32));
        }
    }
}

mod tunnels {
    use super::*;

    fn tunnel_of(outcome: &Outcome) -> Tunnel {
        facts_of(outcome).tunnel.expect("a tunnel")
    }

    #[test]
    fn the_packet_inside_a_tunnel_is_found() {
        let inner = [
            ipv4(TCP, &tcp(443, b"hello")),
            ipv6(TCP, &tcp(443, b"hello")),
        ];
        for (inner, ip_len) in inner.iter().zip([45, 65]) {
            let outcome = decode(LinkType::Ethernet, &ethernet(IPV4, &g_pdu(0xcafe, inner)));
            assert_eq!(lengths_of(&outcome), (25, 25, ip_len));
            assert_eq!(facts_of(&outcome).layers, "gtpu");
            let expected = Tunnel {
                source: Address::v4(ENB),
                destination: Address::v4(SGW),
                teid: 0xcafe,
                direction: None,
                qfi: None,
            };
            assert_eq!(tunnel_of(&outcome), expected);
        }
    }

    #[test]
    fn the_port_counts_at_either_end() {
        let message = gtpu(0, 255, 1, &ipv4(TCP, &tcp(443, b"hello")));
        for (source, destination) in [(2152, 40_000), (40_000, 2152)] {
            let outcome = raw(&ipv4_between(
                ENB,
                SGW,
                UDP,
                &udp(source, destination, &message),
            ));
            assert_eq!(facts_of(&outcome).layers, "gtpu");
        }
    }

    #[test]
    fn the_pdu_session_container_tells_direction_and_flow() {
        let inner = ipv4(TCP, &tcp(443, b"hello"));
        for (kind, direction) in [(0x00, TunnelDirection::Down), (0x10, TunnelDirection::Up)] {
            let body = [&[0, 0, 0, 0x85, 1, kind, 0xc0 | 9, 0], &inner[..]].concat();
            let outcome = raw(&gtpu_packet(&gtpu(0x04, 255, 1, &body)));
            let tunnel = tunnel_of(&outcome);
            assert_eq!((tunnel.direction, tunnel.qfi), (Some(direction), Some(9)));
            assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
        }
    }

    #[test]
    fn a_chain_of_extension_headers_is_followed() {
        let inner = ipv4(TCP, &tcp(443, b"hello"));
        let chain = [
            0, 9, 0, 0xc0, 1, 0, 7, 0x40, 2, 1, 1, 1, 1, 1, 1, 0x85, 1, 0x10, 5, 0,
        ];
        let outcome = raw(&gtpu_packet(&gtpu(
            0x07,
            255,
            1,
            &[&chain, &inner[..]].concat(),
        )));
        assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
        assert_eq!(tunnel_of(&outcome).qfi, Some(5));
    }

    #[test]
    fn an_extension_type_without_its_flag_is_not_followed() {
        let inner = ipv4(TCP, &tcp(443, b"hello"));
        let body = [&[0, 9, 0, 0x85], &inner[..]].concat();
        let outcome = raw(&gtpu_packet(&gtpu(0x02, 255, 1, &body)));
        assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
    }

    #[test]
    fn extension_headers_without_end_are_too_deep() {
        let body = [&[0, 0, 0, 0xc0][..], &[1, 0, 0, 0xc0].repeat(40)].concat();
        let outcome = raw(&gtpu_packet(&gtpu(0x04, 255, 1, &body)));
        assert_eq!(outcome, Outcome::Failed(Undecodable::TooDeep));
    }

    #[test]
    fn tunnels_in_tunnels_are_followed_to_the_bound_and_no_further() {
        let mut ip = ipv4(TCP, &tcp(443, b"hello"));
        for _ in 1..MAX_LAYERS {
            ip = ipv4(IP_IN_IP, &ip);
        }
        let outcome = raw(&g_pdu(1, &ip));
        let layers = [&["gtpu"][..], &["ip"; MAX_LAYERS - 1]].concat();
        assert_eq!(facts_of(&outcome).layers, layers.join("/"));
        assert_eq!(tunnel_of(&outcome).teid, 1);
        let deeper = g_pdu(1, &ipv4(IP_IN_IP, &ip));
        assert_eq!(raw(&deeper), Outcome::Failed(Undecodable::TooDeep));
    }

    #[test]
    fn what_only_uses_the_port_stays_a_udp_packet() {
        let inner = ipv4(TCP, &tcp(443, b"hello"));
        let good = gtpu(0, 255, 1, &inner);
        let with = |index: usize, value: u8| {
            let mut message = good.clone();
            message[index] = value;
            message
        };
        let foreign: [Vec<u8>; 8] = [
            b"short".to_vec(),
            b"an ephemeral port".to_vec(),
            with(0, 0x50),
            with(0, 0x20),
            with(1, 200),
            with(2, 0xff),
            gtpu(0x02, 255, 1, &[0, 1]),
            gtpu(0x04, 255, 1, &[0, 0, 0, 0x85, 0, 0, 0, 0]),
        ];
        for message in foreign {
            let outcome = raw(&gtpu_packet(&message));
            assert_eq!(segment_of(&outcome), udp(2152, 2152, &message));
            assert_eq!(facts_of(&outcome).layers, "");
        }
    }

    #[test]
    fn a_tunnelled_packet_that_is_not_ip_is_counted_as_such() {
        for inner in [&b""[..], &[0x00; 60], &[0xff; 20]] {
            let outcome = raw(&g_pdu(1, inner));
            assert_eq!(outcome, Outcome::Failed(Undecodable::GtpuNotIp));
        }
    }

    #[test]
    fn a_tunnelled_packet_longer_than_the_packet_around_it_has_a_bad_length() {
        for inner in [
            ipv4(TCP, &tcp(443, b"hello")),
            ipv6(TCP, &tcp(443, b"hello")),
        ] {
            let short = &inner[..inner.len() - 1];
            assert_eq!(
                raw(&g_pdu(1, short)),
                Outcome::Failed(Undecodable::BadLength)
            );
        }
    }

    #[test]
    fn a_cut_tunnel_header_is_truncated_and_a_cut_inner_header_too() {
        let body = [
            &[0, 0, 0, 0x85, 1, 0, 9, 0],
            &ipv4(TCP, &tcp(443, b"hello"))[..],
        ]
        .concat();
        let whole = gtpu_packet(&gtpu(0x04, 255, 1, &body));
        for cut in 28..whole.len() {
            let cut_packet = Packet {
                wire_len: whole.len() as u32,
                ..packet(LinkType::RawIp, &whole[..cut])
            };
            match (outcome(&mut decoder(), &cut_packet), cut) {
                (Outcome::Failed(Undecodable::TruncatedGtpu), 28..=44) => {}
                (Outcome::Failed(Undecodable::TruncatedIp), 45..=63) => {}
                (inner, 64..) => assert_eq!(lengths_of(&inner), (cut - 64, 25, 45)),
                (other, _) => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn messages_of_the_tunnel_itself_are_signals() {
        let signal = |message: &[u8]| match raw(&gtpu_packet(message)) {
            Outcome::Signal(signal) => signal,
            other => panic!("{other:?}"),
        };
        for message_type in [1, 2, 31] {
            let found = signal(&gtpu(0x02, message_type, 0, &[0x12, 0x34, 0, 0, 14, 0]));
            let expected = TunnelSignal {
                source: Address::v4(ENB),
                destination: Address::v4(SGW),
                message_type,
                teid: 0,
                sequence: Some(0x1234),
                peer: None,
            };
            assert_eq!(found, expected);
        }
        let end_marker = signal(&gtpu(0, 254, 0xbeef, &[]));
        assert_eq!((end_marker.teid, end_marker.sequence), (0xbeef, None));
        let body = [0, 7, 0, 0, 16, 0, 0, 0xab, 0xcd, 133, 0, 4, 10, 0, 0, 1];
        let error = signal(&gtpu(0x02, 26, 0, &body));
        assert_eq!(error.teid, 0xabcd);
        assert_eq!(error.peer, Some(Address::v4([10, 0, 0, 1])));
    }

    #[test]
    fn an_error_indication_names_an_end_of_either_family_or_none() {
        let peer = |element: &[u8]| match raw(&gtpu_packet(&gtpu(
            0,
            26,
            0,
            &[&[16, 0, 0, 0, 9], element].concat(),
        ))) {
            Outcome::Signal(signal) => (signal.teid, signal.peer),
            other => panic!("{other:?}"),
        };
        let v6 = [&[133, 0, 16][..], &client6().0.to_be_bytes()].concat();
        assert_eq!(peer(&v6), (9, Some(client6())));
        for broken in [&[][..], &[133, 0, 4, 10, 0, 0], &[133, 0, 5, 1, 2, 3, 4, 5]] {
            assert_eq!(peer(broken), (9, None), "{broken:?}");
        }
    }

    #[test]
    fn gtpu_in_a_subscribers_tunnel_is_a_packet_of_that_subscriber() {
        let others = ipv4(TCP, &tcp(443, b""));
        for forged in [gtpu_packet(&gtpu(0, 254, 0xbeef, &[])), g_pdu(8, &others)] {
            match raw(&g_pdu(7, &forged)) {
                Outcome::Inner { packet, .. } => {
                    assert_eq!(packet.source, Address::v4(ENB));
                    assert_eq!(packet.tunnel.map(|tunnel| tunnel.teid), Some(7));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Number and container of the packet in a message with an empty TCP segment.
    fn marks_of(flags: u8, optional: &[u8]) -> (Option<u16>, Vec<u8>) {
        let inner = ipv4(TCP, &tcp(443, b""));
        let data = gtpu_packet(&gtpu(flags, 255, 7, &[optional, &inner].concat()));
        let mut decoder = decoder();
        match decoder.decode(&packet(LinkType::RawIp, &data)) {
            Ok(Decoded::Inner(inner)) => (inner.marks().sequence, inner.container.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_counts_with_its_own_flag_only() {
        assert_eq!(marks_of(0x02, &[0x12, 0x34, 0, 0]), (Some(0x1234), vec![]));
        assert_eq!(marks_of(0x01, &[0x12, 0x34, 0, 0]), (None, vec![]));
        assert_eq!(marks_of(0x00, &[]), (None, vec![]));
    }

    #[test]
    fn a_container_is_handed_on_if_it_says_more_than_its_flow() {
        let plain = [0, 0, 0, 0x85, 1, 0x10, 9, 0];
        assert_eq!(marks_of(0x04, &plain), (None, vec![]));
        let numbered = [0, 5, 0, 0x85, 2, 0x11, 9, 0, 0, 7, 0, 0];
        assert_eq!(
            marks_of(0x06, &numbered),
            (Some(5), vec![0x11, 9, 0, 0, 7, 0])
        );
    }
}

mod fragments {
    use super::*;

    /// The parts of an IPv4 payload, cut after every `size` bytes, a multiple of 8.
    fn parts_of(payload: &[u8], size: usize, identification: u16) -> Vec<Vec<u8>> {
        let count = payload.len().div_ceil(size);
        let part = |(index, bytes): (usize, &[u8])| {
            let more = if index + 1 < count { 0x2000 } else { 0 };
            let position = more | (index * size / 8) as u16;
            ipv4_part(CLIENT, SERVER, UDP, identification, position, bytes)
        };
        payload.chunks(size).enumerate().map(part).collect()
    }

    fn feed(decoder: &mut Decoder, time_ns: u64, ip: &[u8]) -> Outcome {
        outcome(
            decoder,
            &Packet {
                time_ns,
                ..packet(LinkType::RawIp, ip)
            },
        )
    }

    fn count(decoder: &Decoder, reason: Undecodable) -> u64 {
        decoder.counters()[0].undecodable_for(reason)
    }

    #[test]
    fn an_ipv4_datagram_is_put_together_in_any_order() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = parts_of(&whole, 400, 9);
        for order in [
            [0, 1, 2],
            [2, 1, 0],
            [1, 0, 2],
            [1, 2, 0],
            [0, 2, 1],
            [2, 0, 1],
        ] {
            let mut decoder = decoder();
            assert_eq!(feed(&mut decoder, 0, &parts[order[0]]), Outcome::Held);
            assert_eq!(feed(&mut decoder, 0, &parts[order[1]]), Outcome::Held);
            assert_eq!(decoder.counters()[0].held, 2);
            let outcome = feed(&mut decoder, 0, &parts[order[2]]);
            assert_eq!(segment_of(&outcome), whole);
            assert_eq!(lengths_of(&outcome), (1000, 1000, 1060));
            let expected = Counters {
                decoded: 3,
                reassembled: 1,
                ..Counters::default()
            };
            assert_eq!(decoder.counters()[0], expected);
            assert_eq!(decoder.held(), (0, 0));
        }
    }

    #[test]
    fn an_ipv6_datagram_is_put_together_with_headers_in_the_fragmented_part() {
        let transport = tcp(443, &[5; 500]);
        let whole = [&[TCP, 0, 0, 0, 0, 0, 0, 0], &transport[..]].concat();
        let mut decoder = decoder();
        // The last part states another next header; that of the first counts.
        let last = ipv6_part(59, 7, 400, false, &whole[400..]);
        assert_eq!(feed(&mut decoder, 0, &last), Outcome::Held);
        let outcome = feed(&mut decoder, 0, &ipv6_part(60, 7, 0, true, &whole[..400]));
        assert_eq!(segment_of(&outcome), transport);
        assert_eq!(facts_of(&outcome).transport, Transport::Tcp);
    }

    #[test]
    fn an_atomic_ipv6_fragment_is_a_whole_packet() {
        let transport = tcp(443, b"hello");
        let outcome = raw(&ipv6_part(TCP, 7, 0, false, &transport));
        assert_eq!(segment_of(&outcome), transport);
    }

    #[test]
    fn copies_of_a_fragment_change_nothing() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = parts_of(&whole, 400, 9);
        let mut decoder = decoder();
        for index in [0, 0, 2, 2, 0] {
            assert_eq!(feed(&mut decoder, 0, &parts[index]), Outcome::Held);
        }
        let outcome = feed(&mut decoder, 0, &parts[1]);
        assert_eq!(lengths_of(&outcome), (1000, 1000, 1060));
        assert_eq!(decoder.counters()[0].decoded, 6);
    }

    #[test]
    fn overlapping_fragments_condemn_the_datagram_and_what_still_comes() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = parts_of(&whole, 400, 9);
        let mut other = whole.clone();
        other[500] = 6;
        let changed = &parts_of(&other, 400, 9)[1];
        let wider = ipv4_part(CLIENT, SERVER, UDP, 9, 0x2000 | 49, &[5; 400]);
        let earlier_end = ipv4_part(CLIENT, SERVER, UDP, 9, 50, &[5; 8]);
        let later_end = ipv4_part(CLIENT, SERVER, UDP, 9, 200, &[5; 8]);
        for bad in [changed, &wider, &earlier_end, &later_end] {
            let mut decoder = decoder();
            feed(&mut decoder, 0, &parts[1]);
            feed(&mut decoder, 0, &parts[2]);
            let overlap = Outcome::Failed(Undecodable::FragmentOverlap);
            assert_eq!(feed(&mut decoder, 0, bad), overlap);
            assert_eq!(feed(&mut decoder, 0, &parts[0]), overlap);
            assert_eq!(count(&decoder, Undecodable::FragmentOverlap), 4);
            assert_eq!(decoder.counters()[0].held, 0);
            assert_eq!(decoder.held(), (1, 0));
        }
    }

    #[test]
    fn a_datagram_that_is_never_complete_times_out_and_is_counted() {
        let parts = parts_of(&udp(1, 2, &[5; 992]), 400, 9);
        let timeout = FragmentLimits::default().timeout_ns;
        let mut decoder = decoder();
        feed(&mut decoder, 1_000, &parts[0]);
        feed(&mut decoder, 2_000, &parts[1]);
        decoder.expire(1_000 + timeout);
        assert_eq!(count(&decoder, Undecodable::FragmentTimeout), 0);
        assert_eq!(
            feed(&mut decoder, 1_001 + timeout, &parts[2]),
            Outcome::Held
        );
        assert_eq!(count(&decoder, Undecodable::FragmentTimeout), 2);
        assert_eq!(decoder.counters()[0].held, 1);
        decoder.finish();
        assert_eq!(count(&decoder, Undecodable::FragmentTimeout), 3);
        assert_eq!(decoder.held(), (0, 0));
    }

    #[test]
    fn time_that_goes_back_neither_expires_nor_breaks_reassembly() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = parts_of(&whole, 800, 9);
        let mut decoder = decoder();
        feed(&mut decoder, u64::MAX, &parts[0]);
        assert_eq!(segment_of(&feed(&mut decoder, 0, &parts[1])), whole);
    }

    #[test]
    fn impossible_fragments_are_malformed() {
        let malformed = Outcome::Failed(Undecodable::FragmentMalformed);
        let part =
            |position, payload: &[u8]| raw(&ipv4_part(CLIENT, SERVER, UDP, 9, position, payload));
        assert_eq!(part(0x2000, &[0; 12]), malformed);
        assert_eq!(part(0x1fff, &[0; 8]), malformed);
        assert_eq!(part(0x1fff, &[0; 7]), Outcome::Held);
        assert_eq!(part(0x0001, &[]), malformed);
        let nested = ipv6_part(44, 1, 0, true, &[TCP, 0, 0, 9, 0, 0, 0, 1]);
        let mut decoder = decoder();
        feed(&mut decoder, 0, &nested);
        let last = ipv6_part(44, 1, 8, false, &[0; 8]);
        let outcome = feed(&mut decoder, 0, &last);
        assert_eq!(outcome, Outcome::Failed(Undecodable::MalformedIp));
        assert_eq!(count(&decoder, Undecodable::MalformedIp), 2);
    }

    #[test]
    fn fragments_of_the_same_number_are_kept_apart_by_whatever_differs() {
        let (mine, other) = (udp(1, 2, &[5; 92]), udp(1, 2, &[6; 92]));
        let parts = |payload: &[u8]| parts_of(payload, 64, 9);
        let mut decoder = decoder();
        let mut send = |interface, tci, teid, ip: &[u8]| {
            let frame = ethernet(0x8100, &vlan(tci, IPV4, &g_pdu(teid, ip)));
            outcome(
                &mut decoder,
                &Packet {
                    interface,
                    ..packet(LinkType::Ethernet, &frame)
                },
            )
        };
        let elsewhere = [(1, 1, 1), (0, 2, 1), (0, 1, 2)];
        assert_eq!(send(0, 1, 1, &parts(&mine)[0]), Outcome::Held);
        for (interface, tci, teid) in elsewhere {
            assert_eq!(send(interface, tci, teid, &parts(&other)[1]), Outcome::Held);
        }
        assert_eq!(segment_of(&send(0, 1, 1, &parts(&mine)[1])), mine);
        for (interface, tci, teid) in elsewhere {
            assert_eq!(
                segment_of(&send(interface, tci, teid, &parts(&other)[0])),
                other
            );
        }
    }

    #[test]
    fn a_fragmented_tunnel_packet_with_a_fragment_inside_is_put_together() {
        let whole = udp(1, 2, &[5; 1992]);
        let inner = parts_of(&whole, 1400, 9);
        let outer = |inner: &[u8], identification| -> Vec<Vec<u8>> {
            let message = udp(2152, 2152, &gtpu(0, 255, 1, inner));
            let (first, last) = message.split_at(800);
            vec![
                ipv4_part(ENB, SGW, UDP, identification, 0x2000, first),
                ipv4_part(ENB, SGW, UDP, identification, 100, last),
            ]
        };
        let mut decoder = decoder();
        for part in outer(&inner[0], 1) {
            assert_eq!(feed(&mut decoder, 0, &part), Outcome::Held);
        }
        assert_eq!(decoder.counters()[0].held, 2);
        let outcome = feed(&mut decoder, 0, &g_pdu(1, &inner[1]));
        assert_eq!(segment_of(&outcome), whole);
        assert_eq!(facts_of(&outcome).layers, "gtpu");
        let expected = Counters {
            decoded: 3,
            reassembled: 2,
            ..Counters::default()
        };
        assert_eq!(decoder.counters()[0], expected);
    }

    /// Wraps `ip` in `levels` tunnels, each fragmented in two. Returns the packets to deliver before the
    /// one that completes all of them at once, and that one.
    fn fragmented_nest(ip: Vec<u8>, levels: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut before = Vec::new();
        let mut ip = ip;
        for level in 0..levels {
            let (first, last) = ip.split_at(16);
            let part =
                |position, bytes| ipv4_part(ENB, SGW, IP_IN_IP, level as u16, position, bytes);
            let around = level + 1..levels;
            let wrapped = around.fold(part(0x2000, first), |inner, _| ipv4(IP_IN_IP, &inner));
            before.push(wrapped);
            ip = part(2, last);
        }
        (before, ip)
    }

    #[test]
    fn reassembly_on_every_level_of_a_nest_is_bounded() {
        let inner = ipv4(TCP, &tcp(443, b"hello"));
        for levels in 1..=5 {
            let (before, last) = fragmented_nest(inner.clone(), levels);
            let mut decoder = decoder();
            for ip in before {
                assert_eq!(feed(&mut decoder, 0, &ip), Outcome::Held);
            }
            let outcome = feed(&mut decoder, 0, &last);
            if levels < 5 {
                assert_eq!(segment_of(&outcome), tcp(443, b"hello"));
                assert_eq!(decoder.counters()[0].decoded, levels as u64 + 1);
            } else {
                assert_eq!(outcome, Outcome::Failed(Undecodable::TooDeep));
                assert_eq!(count(&decoder, Undecodable::TooDeep), 5);
                assert_eq!(decoder.counters()[0].held, 1);
            }
        }
    }

    #[test]
    fn a_cut_fragment_cuts_the_segment_but_not_its_length() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = parts_of(&whole, 400, 9);
        let mut decoder = decoder();
        for part in &parts[1..] {
            feed(&mut decoder, 0, part);
        }
        let first = Packet {
            wire_len: 420,
            ..packet(LinkType::RawIp, &parts[0][..120])
        };
        let outcome = outcome(&mut decoder, &first);
        assert_eq!(lengths_of(&outcome), (100, 1000, 1060));
        assert_eq!(segment_of(&outcome), &whole[..100]);
    }

    #[test]
    fn a_datagram_in_too_many_fragments_is_given_up() {
        let limits = FragmentLimits {
            fragments_per_datagram: 4,
            ..FragmentLimits::default()
        };
        let mut decoder = Decoder::new(limits);
        let parts = parts_of(&udp(1, 2, &[5; 100]), 16, 9);
        for part in &parts[..4] {
            assert_eq!(feed(&mut decoder, 0, part), Outcome::Held);
        }
        for part in &parts[4..] {
            let outcome = feed(&mut decoder, 0, part);
            assert_eq!(outcome, Outcome::Failed(Undecodable::FragmentLimit));
        }
        assert_eq!(count(&decoder, Undecodable::FragmentLimit), 7);
    }

    #[test]
    fn the_oldest_datagram_makes_room_for_the_newest() {
        let limits = FragmentLimits {
            datagrams: 2,
            ..FragmentLimits::default()
        };
        let mut decoder = Decoder::new(limits);
        let whole = udp(1, 2, &[5; 992]);
        for identification in 1..=3 {
            let part = &parts_of(&whole, 800, identification)[0];
            assert_eq!(
                feed(&mut decoder, identification.into(), part),
                Outcome::Held
            );
        }
        assert_eq!(count(&decoder, Undecodable::FragmentLimit), 1);
        let outcome = feed(&mut decoder, 4, &parts_of(&whole, 800, 2)[1]);
        assert_eq!(segment_of(&outcome), whole);
    }

    #[test]
    fn without_room_for_any_fragment_every_one_is_refused() {
        let refused = Outcome::Failed(Undecodable::FragmentLimit);
        let part = &parts_of(&udp(1, 2, &[5; 992]), 800, 9)[0];
        for (datagrams, bytes) in [(0, 1 << 20), (10, 100)] {
            let limits = FragmentLimits {
                datagrams,
                bytes,
                ..FragmentLimits::default()
            };
            assert_eq!(feed(&mut Decoder::new(limits), 0, part), refused);
        }
    }
}

/// Frames that are likely to get far: a header of some layer, with random bytes changed.
fn mutated_frame() -> impl Strategy<Value = Vec<u8>> {
    let inner = ipv4(TCP, &tcp(443, b"hello"));
    let container = [&[0, 0, 0, 0x85, 1, 0, 9, 0], &inner[..]].concat();
    let mut seeds = vec![
        ethernet(IPV4, &inner),
        ethernet(
            0x8100,
            &vlan(5, IPV6, &ipv6(60, &[TCP, 0, 0, 0, 0, 0, 0, 0])),
        ),
        ethernet(IPV4, &g_pdu(1, &ipv6_part(UDP, 1, 8, true, &[0; 16]))),
        ethernet(IPV4, &gtpu_packet(&gtpu(0x04, 255, 1, &container))),
        ethernet(IPV6, &ipv6_part(UDP, 1, 8, true, &[0; 16])),
        ethernet(IPV4, &ipv4_part(CLIENT, SERVER, UDP, 1, 0x2001, &[0; 16])),
    ];
    seeds.extend(encapsulations::seeds());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(seeds), changes).prop_map(|(mut frame, changes)| {
        for (index, value) in changes {
            let place = index.index(frame.len());
            frame[place] = value;
        }
        frame
    })
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mutated_frame()]
}

/// Lengths at which a payload of `length` bytes is cut, and an order of delivery.
fn cuts_and_order(length: usize) -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let positions: Vec<usize> = (1..length.div_ceil(8)).map(|unit| unit * 8).collect();
    let most = positions.len().min(40);
    prop::sample::subsequence(positions, 1..=most).prop_flat_map(|cuts| {
        let order: Vec<usize> = (0..=cuts.len()).collect();
        (Just(cuts), Just(order).prop_shuffle())
    })
}

fn any_fragmentation() -> impl Strategy<Value = (Vec<u8>, Vec<usize>, Vec<usize>)> {
    prop::collection::vec(any::<u8>(), 24..3000).prop_flat_map(|payload| {
        let length = payload.len() + 8;
        cuts_and_order(length).prop_map(move |(cuts, order)| (udp(1, 2, &payload), cuts, order))
    })
}

/// The IP packets that carry `whole`, cut at `cuts`.
fn fragment(whole: &[u8], cuts: &[usize], ipv6: bool) -> Vec<Vec<u8>> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([whole.len()]);
    let part = |(start, end): (usize, usize)| {
        let more = end < whole.len();
        let bytes = &whole[start..end];
        if ipv6 {
            ipv6_part(UDP, 9, start, more, bytes)
        } else {
            let position = u16::from(more) << 13 | (start / 8) as u16;
            ipv4_part(CLIENT, SERVER, UDP, 9, position, bytes)
        }
    };
    starts.zip(ends).map(part).collect()
}

proptest! {
    #[test]
    fn no_bytes_on_any_link_cause_a_panic_and_every_packet_is_counted_once(
        frames in prop::collection::vec((0..LINKS.len(), any_frame(), any::<u64>(), 0..200_u32), 1..40),
    ) {
        let limits = FragmentLimits { datagrams: 4, bytes: 400, ..FragmentLimits::default() };
        let mut decoder = Decoder::new(limits);
        for (link, data, time_ns, uncaptured) in &frames {
            let wire_len = data.len() as u32 + uncaptured;
            let frame = Packet { time_ns: *time_ns, interface: 0, link: LINKS[*link], wire_len, data };
            if let Ok(Decoded::Inner(inner)) = decoder.decode(&frame) {
                prop_assert!(inner.segment.len() <= inner.segment_len as usize);
                prop_assert!(inner.segment_len < inner.ip_len);
            }
            let (datagrams, bytes) = decoder.held();
            prop_assert!(datagrams <= limits.datagrams && bytes <= limits.bytes);
        }
        prop_assert_eq!(decoder.counters()[0].packets(), frames.len() as u64);
        decoder.finish();
        prop_assert_eq!(decoder.counters()[0].held, 0);
        prop_assert_eq!(decoder.counters()[0].packets(), frames.len() as u64);
    }

    #[test]
    fn a_datagram_cut_anywhere_and_delivered_in_any_order_is_the_same(
        (whole, cuts, order) in any_fragmentation(),
        ipv6 in any::<bool>(),
        repeated in any::<prop::sample::Index>(),
    ) {
        let parts = fragment(&whole, &cuts, ipv6);
        let mut decoder = decoder();
        let (last, first) = order.split_last().unwrap();
        let copy = first[repeated.index(first.len())];
        for index in first.iter().chain([&copy]) {
            let held = outcome(&mut decoder, &packet(LinkType::RawIp, &parts[*index]));
            prop_assert_eq!(held, Outcome::Held);
        }
        let outcome = outcome(&mut decoder, &packet(LinkType::RawIp, &parts[*last]));
        prop_assert_eq!(segment_of(&outcome), &whole[..]);
        prop_assert_eq!(decoder.held(), (0, 0));
        prop_assert_eq!(decoder.counters()[0].decoded, parts.len() as u64 + 1);
    }

    #[test]
    fn a_flood_of_fragments_stays_within_its_memory(
        flood in prop::collection::vec((any::<u16>(), 0..200_u16, any::<bool>(), 1..60_usize), 200..600),
    ) {
        let limits = FragmentLimits { datagrams: 16, bytes: 4096, ..FragmentLimits::default() };
        let mut decoder = Decoder::new(limits);
        for (time, (identification, unit, more, length)) in flood.iter().enumerate() {
            let position = u16::from(*more) << 13 | unit;
            let part = ipv4_part(CLIENT, SERVER, UDP, identification % 64, position, &vec![1; length * 8]);
            let frame = Packet { time_ns: time as u64, ..packet(LinkType::RawIp, &part) };
            let _ = decoder.decode(&frame);
            let (datagrams, bytes) = decoder.held();
            prop_assert!(datagrams <= limits.datagrams && bytes <= limits.bytes);
        }
        prop_assert_eq!(decoder.counters()[0].packets(), flood.len() as u64);
    }
}
