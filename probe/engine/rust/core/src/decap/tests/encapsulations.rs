//! Every header that may stand around a packet, and every way in which it may be wrong.

use super::*;

const VXLAN: u16 = 4789;
const GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const GRE: u8 = 47;
const MPLS: u16 = 0x8847;
const PPPOE: u16 = 0x8864;
const HELLO: &[u8] = b"hello";

fn hello() -> Vec<u8> {
    ipv4(TCP, &tcp(443, HELLO))
}

fn hello6() -> Vec<u8> {
    ipv6(TCP, &tcp(443, HELLO))
}

fn both() -> [(u16, Vec<u8>); 2] {
    [(IPV4, hello()), (IPV6, hello6())]
}

fn teredo_packet() -> Vec<u8> {
    let mut ip = hello6();
    ip[8..12].copy_from_slice(&[0x20, 1, 0, 0]);
    ip
}

fn frame(ip: &[u8]) -> Vec<u8> {
    ethernet(IPV4, ip)
}

#[track_caller]
fn leads_to_hello(outcome: &Outcome, layers: &str) {
    assert_eq!(segment_of(outcome), tcp(443, HELLO));
    assert_eq!(facts_of(outcome).layers, layers);
}

#[track_caller]
fn fails(outcome: &Outcome, reason: Undecodable) {
    assert_eq!(*outcome, Outcome::Failed(reason));
}

fn on_ethernet(ethertype: u16, payload: &[u8]) -> Outcome {
    decode(LinkType::Ethernet, &ethernet(ethertype, payload))
}

/// The outcome of a frame of which only the first `cut` bytes were captured.
fn captured(whole: &[u8], cut: usize) -> Outcome {
    let cut_packet = Packet {
        wire_len: whole.len() as u32,
        ..packet(LinkType::Ethernet, &whole[..cut])
    };
    outcome(&mut decoder(), &cut_packet)
}

fn label(number: u32, bottom: bool) -> [u8; 4] {
    (number << 12 | u32::from(bottom) << 8 | 64).to_be_bytes()
}

/// A frame to an address that begins with `first`.
fn frame_to(first: u8, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(ethertype, payload);
    frame[0] = first;
    frame
}

mod labels {
    use super::*;

    #[test]
    fn a_label_stack_is_passed_and_its_bottom_label_kept() {
        for ethertype in [MPLS, 0x8848] {
            for (_, ip) in both() {
                let stack = [label(16_001, false), label(29, true)].concat();
                let outcome = on_ethernet(ethertype, &[&stack, &ip[..]].concat());
                leads_to_hello(&outcome, "mpls:29");
            }
        }
    }

    #[test]
    fn an_entropy_label_does_not_name_the_service() {
        let stack = [
            label(16_001, false),
            label(29, false),
            label(7, false),
            label(0xf_ffff, true),
        ];
        let outcome = on_ethernet(MPLS, &[&stack.concat(), &hello()[..]].concat());
        leads_to_hello(&outcome, "mpls:29");
    }

    #[test]
    fn the_longest_stack_is_passed_and_a_longer_one_is_too_deep() {
        for (above, passes) in [(15, true), (16, false), (200, false)] {
            let stack = [label(5, false).repeat(above), label(29, true).to_vec()].concat();
            let outcome = on_ethernet(MPLS, &[&stack, &hello()[..]].concat());
            if passes {
                leads_to_hello(&outcome, "mpls:29");
            } else {
                fails(&outcome, Undecodable::TooDeep);
            }
        }
    }

    #[test]
    fn a_pseudowire_carries_frames_with_and_without_control_word() {
        for first in [0x00, 0x02, 0x42, 0x4e, 0x62, 0x6c, 0x9c, 0xff] {
            for (ethertype, ip) in both() {
                let inner = frame_to(first, ethertype, &ip);
                let tagged = frame_to(first, 0x8100, &vlan(5, ethertype, &ip));
                let bottom = label(29, true);
                let plain = on_ethernet(MPLS, &[&bottom[..], &inner].concat());
                leads_to_hello(&plain, "mpls:29");
                let plain = on_ethernet(MPLS, &[&bottom[..], &tagged].concat());
                leads_to_hello(&plain, "mpls:29/vlan:5");
                let word = [0, 0, 0, 9];
                let worded = on_ethernet(MPLS, &[&bottom[..], &word, &inner].concat());
                leads_to_hello(&worded, "mpls:29");
                let worded = on_ethernet(MPLS, &[&bottom[..], &word, &tagged].concat());
                leads_to_hello(&worded, "mpls:29/vlan:5");
            }
        }
    }

    #[test]
    fn ip_whose_source_address_looks_like_an_ethertype_is_no_frame() {
        for source in [[8, 0, 69, 1], [8, 6, 1, 1], [129, 0, 1, 1]] {
            let ip = ipv4_between(source, SERVER, TCP, &tcp(443, HELLO));
            // Padded, so that the length says nothing.
            let outcome = on_ethernet(MPLS, &[&label(29, true)[..], &ip, &[0; 6]].concat());
            assert_eq!(facts_of(&outcome).source, Address::v4(source));
        }
    }

    #[test]
    fn a_pseudowires_own_channel_and_other_payload_is_not_ip() {
        for payload in [&[0x10, 0, 0, 0x21][..], &[0xff; 30], &[0; 30]] {
            let outcome = on_ethernet(MPLS, &[&label(29, true)[..], payload].concat());
            fails(&outcome, Undecodable::NotIp);
        }
    }

    #[test]
    fn a_stack_that_the_capture_cut_is_truncated() {
        let stack = [label(5, false), label(29, true)].concat();
        let whole = ethernet(MPLS, &[&stack, &hello()[..]].concat());
        for cut in 14..=22 {
            fails(&captured(&whole, cut), Undecodable::TruncatedLink);
        }
    }
}

mod sessions {
    use super::*;

    fn pppoe(code: u8, session: u16, length: usize, payload: &[u8]) -> Vec<u8> {
        let [high, low] = session.to_be_bytes();
        let [long, short] = (length as u16).to_be_bytes();
        [&[0x11, code, high, low, long, short], payload].concat()
    }

    fn session(payload: &[u8]) -> Outcome {
        on_ethernet(PPPOE, &pppoe(0, 45, payload.len(), payload))
    }

    #[test]
    fn a_pppoe_session_carries_ip_with_its_protocol_whole_or_compressed() {
        for (protocol, ip) in [(0x21, hello()), (0x57, hello6())] {
            leads_to_hello(&session(&[&[0, protocol], &ip[..]].concat()), "pppoe:45");
            leads_to_hello(&session(&[&[protocol], &ip[..]].concat()), "pppoe:45");
        }
    }

    #[test]
    fn padding_behind_a_session_is_not_payload() {
        let payload = [&[0, 0x21], &ipv4(TCP, &tcp(443, b""))[..]].concat();
        let padded = [&pppoe(0, 45, payload.len(), &payload)[..], &[0xee; 10]].concat();
        assert_eq!(lengths_of(&on_ethernet(PPPOE, &padded)), (20, 20, 40));
    }

    #[test]
    fn a_sliced_session_keeps_the_length_of_its_ip_header() {
        let ip = ipv4(TCP, &tcp(443, &[7; 1400]));
        let whole = ethernet(
            PPPOE,
            &pppoe(0, 45, ip.len() + 2, &[&[0, 0x21], &ip[..]].concat()),
        );
        let outcome = decode(LinkType::Ethernet, &whole[..100]);
        assert_eq!(lengths_of(&outcome), (58, 1420, 1440));
    }

    #[test]
    fn control_is_not_ip_and_compressed_or_encrypted_packets_are_not_supported() {
        for protocol in [0xc021_u16, 0x8021, 0x8057, 0xc223] {
            let payload = [&protocol.to_be_bytes()[..], &[1; 20]].concat();
            fails(&session(&payload), Undecodable::NotIp);
        }
        for protocol in [0x002d_u16, 0x002f, 0x003d, 0x0053, 0x0061, 0x00fd] {
            let payload = [&protocol.to_be_bytes()[..], &[1; 20]].concat();
            fails(&session(&payload), Undecodable::UnsupportedEncapsulation);
        }
    }

    #[test]
    fn discovery_is_not_ip_and_a_wrong_session_header_is_malformed() {
        fails(
            &on_ethernet(0x8863, &[0x11, 9, 0, 0, 0, 0]),
            Undecodable::NotIp,
        );
        let payload = [&[0, 0x21], &hello()[..]].concat();
        let other_code = pppoe(9, 45, payload.len(), &payload);
        fails(
            &on_ethernet(PPPOE, &other_code),
            Undecodable::MalformedTunnel,
        );
        let mut other_version = pppoe(0, 45, payload.len(), &payload);
        other_version[0] = 0x21;
        fails(
            &on_ethernet(PPPOE, &other_version),
            Undecodable::MalformedTunnel,
        );
    }

    #[test]
    fn a_session_that_is_cut_or_empty_is_truncated() {
        let payload = [&[0, 0x21], &hello()[..]].concat();
        let whole = ethernet(PPPOE, &pppoe(0, 45, payload.len(), &payload));
        for cut in 14..=20 {
            fails(&captured(&whole, cut), Undecodable::TruncatedLink);
        }
        fails(&session(&[]), Undecodable::TruncatedLink);
    }

    #[test]
    fn mpls_in_ppp_is_passed() {
        let payload = [&[0x02, 0x81], &label(29, true)[..], &hello()].concat();
        leads_to_hello(&session(&payload), "pppoe:45/mpls:29");
    }
}

mod tags {
    use super::*;

    #[test]
    fn a_backbone_carries_the_customers_frame() {
        let instance = [&[0x60, 0x12, 0xd6, 0x87][..], &frame(&hello())].concat();
        leads_to_hello(&on_ethernet(0x88e7, &instance), "pbb:1234567");
        let tagged = vlan(10, 0x88e7, &instance);
        leads_to_hello(&on_ethernet(0x88a8, &tagged), "vlan:10/pbb:1234567");
    }

    #[test]
    fn the_tags_of_fabrics_and_security_groups_are_passed() {
        let fabric = [&[0x80, 0, 0, 1, 8, 0], &hello()[..]].concat();
        leads_to_hello(&on_ethernet(0x8926, &fabric), "vntag");
        let group = [&[1, 1, 0, 1, 0, 9, 8, 0], &hello()[..]].concat();
        leads_to_hello(&on_ethernet(0x8909, &group), "");
    }

    #[test]
    fn cut_tags_are_truncated() {
        for (ethertype, length) in [(0x88e7, 4), (0x8926, 6), (0x8909, 8)] {
            let cut = vec![0; length - 1];
            fails(&on_ethernet(ethertype, &cut), Undecodable::TruncatedLink);
        }
    }
}

mod gre {
    use super::*;

    fn header(flags: u8, version: u8, protocol: u16, words: &[u8]) -> Vec<u8> {
        let [high, low] = protocol.to_be_bytes();
        [&[flags, version, high, low], words].concat()
    }

    fn gre(header: &[u8], payload: &[u8]) -> Outcome {
        decode(LinkType::Ethernet, &frame(&carried(header, payload)))
    }

    fn carried(header: &[u8], payload: &[u8]) -> Vec<u8> {
        ipv4_between(ENB, SGW, GRE, &[header, payload].concat())
    }

    #[test]
    fn checksum_key_and_sequence_are_skipped_in_any_combination() {
        for flags in (0..=0xf0_u8)
            .step_by(0x10)
            .filter(|flags| flags & 0x40 == 0)
        {
            let words = vec![0xaa; 4 * (flags & 0xb0).count_ones() as usize];
            for (protocol, ip) in both() {
                leads_to_hello(&gre(&header(flags, 0, protocol, &words), &ip), "gre");
            }
        }
    }

    #[test]
    fn gre_is_read_over_ipv6_too() {
        let packet = ipv6(GRE, &[&header(0, 0, IPV4, &[])[..], &hello()].concat());
        leads_to_hello(&raw(&packet), "gre");
    }

    #[test]
    fn gre_carries_frames_labels_tags_and_ppp() {
        let inner = frame(&hello());
        leads_to_hello(&gre(&header(0x20, 0, 0x6558, &[0, 1, 2, 3]), &inner), "gre");
        let labelled = [&label(29, true)[..], &hello()].concat();
        leads_to_hello(&gre(&header(0, 0, MPLS, &[]), &labelled), "gre/mpls:29");
        let tagged = vlan(7, IPV4, &hello());
        leads_to_hello(&gre(&header(0, 0, 0x8100, &[]), &tagged), "gre/vlan:7");
        let ppp = [&[0xff, 3, 0, 0x21], &hello()[..]].concat();
        leads_to_hello(&gre(&header(0, 0, 0x880b, &[]), &ppp), "gre");
        let group = [&[8, 0, 1, 1, 0, 1, 0, 9], &hello()[..]].concat();
        leads_to_hello(&gre(&header(0, 0, 0x8909, &[]), &group), "gre");
    }

    #[test]
    fn redirected_web_traffic_is_read_in_both_versions() {
        leads_to_hello(&gre(&header(0, 0, 0x883e, &[]), &hello()), "gre");
        let second = [&[0, 1, 2, 3], &hello()[..]].concat();
        leads_to_hello(&gre(&header(0, 0, 0x883e, &[]), &second), "gre");
    }

    #[test]
    fn pptp_carries_ppp_with_sequence_and_acknowledgment() {
        let ppp = [&[0x21], &hello()[..]].concat();
        let [high, low] = (ppp.len() as u16).to_be_bytes();
        for (flags, second, options) in
            [(0x20, 1, 0), (0x30, 1, 4), (0x20, 0x81, 4), (0x30, 0x81, 8)]
        {
            let words = [&[high, low, 0, 9], &vec![0; options][..]].concat();
            leads_to_hello(&gre(&header(flags, second, 0x880b, &words), &ppp), "gre");
        }
    }

    #[test]
    fn pptp_without_payload_is_not_ip_and_a_wrong_header_is_malformed() {
        let acknowledgment = header(0x20, 0x81, 0x880b, &[0, 0, 0, 9, 0, 0, 0, 1]);
        fails(&gre(&acknowledgment, &[]), Undecodable::NotIp);
        let too_long = header(0x20, 1, 0x880b, &[1, 0, 0, 9]);
        fails(&gre(&too_long, &[0x21]), Undecodable::MalformedTunnel);
        let keyless = header(0x10, 1, 0x880b, &[0, 1, 0, 9, 0, 0, 0, 0]);
        fails(&gre(&keyless, &[0x21]), Undecodable::MalformedTunnel);
        let encrypted = header(0x20, 1, 0x880b, &[0, 4, 0, 9]);
        fails(
            &gre(&encrypted, &[0, 0xfd, 1, 2]),
            Undecodable::UnsupportedEncapsulation,
        );
    }

    #[test]
    fn source_routes_and_other_versions_are_refused() {
        for (flags, version, protocol) in [
            (0x40, 0, IPV4),
            (0x60, 1, 0x880b),
            (0, 2, IPV4),
            (0x20, 1, IPV4),
        ] {
            let outcome = gre(&header(flags, version, protocol, &[0; 4]), &hello());
            fails(&outcome, Undecodable::UnsupportedEncapsulation);
        }
    }

    #[test]
    fn keep_alives_are_not_ip() {
        fails(&gre(&header(0, 0, 0, &[]), &[]), Undecodable::NotIp);
        fails(
            &gre(&header(0, 0, 0x0806, &[]), &[0; 28]),
            Undecodable::NotIp,
        );
    }

    #[test]
    fn a_short_header_is_malformed_and_a_cut_one_truncated() {
        let full = header(0xb0, 0, IPV4, &[0; 12]);
        for length in 0..full.len() {
            fails(&gre(&full[..length], &[]), Undecodable::MalformedTunnel);
        }
        let whole = frame(&carried(&full, &hello()));
        for cut in 34..34 + full.len() {
            fails(&captured(&whole, cut), Undecodable::TruncatedTunnel);
        }
    }

    #[test]
    fn a_cooked_capture_of_a_gre_device_has_no_gre_header() {
        let cooked = |protocol: u16, payload: &[u8]| {
            let [high, low] = protocol.to_be_bytes();
            let header = [0, 0, 3, 10, 0, 4, 1, 2, 3, 4, 0, 0, 0, 0, high, low];
            decode(LinkType::LinuxSll, &[&header[..], payload].concat())
        };
        for (protocol, ip) in both() {
            leads_to_hello(&cooked(protocol, &ip), "");
        }
        leads_to_hello(&cooked(0x6558, &frame(&hello())), "");
        fails(&cooked(0, &[]), Undecodable::NotIp);
    }

    mod mirrors {
        use super::*;

        /// A header of type III up to the platform's part. `state` has the bits of the frame's state.
        fn type_3(state: u8, frame_type: u8, last: u8) -> Vec<u8> {
            let second = [state << 3, 100, 0, 0, 0, 9, 0, 0, frame_type << 2, last];
            [&[0x20, 5][..], &second].concat()
        }

        fn sequenced(protocol: u16) -> Vec<u8> {
            header(0x10, 0, protocol, &[0, 0, 0, 1])
        }

        #[test]
        fn a_frame_mirrored_over_gre_is_found_in_all_three_types() {
            let inner = ethernet(0x8100, &vlan(5, IPV4, &hello()));
            let first = gre(&header(0, 0, 0x88be, &[]), &inner);
            leads_to_hello(&first, "erspan:0/vlan:5");
            let second = [&[0x10, 5, 8, 100, 0, 0, 0, 1], &inner[..]].concat();
            leads_to_hello(&gre(&sequenced(0x88be), &second), "erspan:100/vlan:5");
            for (last, platform) in [(0, 0), (1, 8)] {
                let third = [&type_3(0, 0, last)[..], &vec![0xaa; platform], &inner].concat();
                leads_to_hello(&gre(&sequenced(0x22eb), &third), "erspan:100/vlan:5");
            }
        }

        #[test]
        fn a_mirrored_ip_packet_has_no_ethernet_header() {
            for (_, ip) in both() {
                let third = [&type_3(0, 2, 0)[..], &ip].concat();
                leads_to_hello(&gre(&sequenced(0x22eb), &third), "erspan:100");
            }
            let other = [&type_3(0, 1, 0)[..], &frame(&hello())].concat();
            fails(&gre(&sequenced(0x22eb), &other), Undecodable::NotIp);
        }

        #[test]
        fn short_and_oversized_frames_are_read_and_damaged_ones_are_counted() {
            for (state, damaged) in [(0, false), (1, false), (2, false), (3, true)] {
                let third = [&type_3(state, 0, 0)[..], &frame(&hello())].concat();
                let outcome = gre(&sequenced(0x22eb), &third);
                if damaged {
                    fails(&outcome, Undecodable::DamagedFrame);
                } else {
                    leads_to_hello(&outcome, "erspan:100");
                }
            }
        }

        #[test]
        fn a_frame_that_the_switch_sliced_keeps_the_length_of_its_ip_header() {
            let long = frame(&ipv4(TCP, &tcp(443, &[7; 1400])));
            let second = [&[0x10, 5, 12, 100, 0, 0, 0, 1], &long[..100]].concat();
            let outcome = gre(&sequenced(0x88be), &second);
            assert_eq!(lengths_of(&outcome), (66, 1420, 1440));
        }

        #[test]
        fn another_version_is_malformed_and_so_is_a_short_header() {
            for (protocol, first) in [(0x88be, 0x00), (0x88be, 0x20), (0x22eb, 0x10)] {
                let mut body = type_3(0, 0, 0);
                body[0] = first;
                let outcome = gre(&sequenced(protocol), &body);
                fails(&outcome, Undecodable::MalformedTunnel);
            }
            fails(
                &gre(&sequenced(0x22eb), &type_3(0, 0, 1)),
                Undecodable::MalformedTunnel,
            );
            fails(
                &gre(&sequenced(0x88be), &[0x10; 7]),
                Undecodable::MalformedTunnel,
            );
        }
    }
}

mod overlays {
    use super::*;

    fn over(port: u16, payload: &[u8]) -> Outcome {
        raw(&ipv4_between(ENB, SGW, UDP, &udp(50_000, port, payload)))
    }

    fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
        [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], inner].concat()
    }

    fn geneve(options: &[u8], protocol: u16, inner: &[u8]) -> Vec<u8> {
        let [high, low] = protocol.to_be_bytes();
        let first = [(options.len() / 4) as u8, 0, high, low, 0, 0, 10, 0];
        [&first, options, inner].concat()
    }

    /// Whether the packet came out as the UDP packet it is.
    #[track_caller]
    fn is_plain(port: u16, payload: &[u8]) {
        let outcome = over(port, payload);
        assert_eq!(segment_of(&outcome), udp(50_000, port, payload));
        assert_eq!(facts_of(&outcome).layers, "");
    }

    #[test]
    fn a_vxlan_segment_is_entered_at_both_of_its_ports_and_at_either_end() {
        let payload = vxlan(1111, &frame(&hello()));
        for (source, destination) in [(50_000, VXLAN), (50_000, 8472), (VXLAN, 50_000)] {
            let packet = ipv4_between(ENB, SGW, UDP, &udp(source, destination, &payload));
            leads_to_hello(&raw(&packet), "vxlan:1111");
        }
        let tagged = ethernet(0x8100, &vlan(5, IPV6, &hello6()));
        leads_to_hello(
            &over(VXLAN, &vxlan(0xff_ffff, &tagged)),
            "vxlan:16777215/vlan:5",
        );
    }

    #[test]
    fn a_vxlan_header_may_carry_a_group_policy() {
        let mut payload = vxlan(1111, &frame(&hello()));
        payload[..4].copy_from_slice(&[0x88, 0x08, 0x12, 0x34]);
        leads_to_hello(&over(VXLAN, &payload), "vxlan:1111");
        payload[0] = 8;
        is_plain(VXLAN, &payload);
    }

    #[test]
    fn what_only_uses_an_overlays_port_stays_a_udp_packet() {
        let good = vxlan(1111, &frame(&hello()));
        for (place, value) in [(0, 0), (0, 0x0c), (1, 1), (2, 1), (3, 1), (7, 1)] {
            let mut bad = good.clone();
            bad[place] = value;
            is_plain(VXLAN, &bad);
        }
        is_plain(VXLAN, &vxlan(1111, &[0; 13]));
        for port in [VXLAN, 8472, GPE, GENEVE, 3544] {
            is_plain(port, b"");
            is_plain(port, b"1234567");
            is_plain(port, b"an answer to an ephemeral port, or some such thing");
        }
    }

    #[test]
    fn a_header_that_the_capture_cut_is_truncated() {
        let inner = frame(&hello());
        for (port, payload, length) in [
            (VXLAN, vxlan(1, &inner), 8),
            (GENEVE, geneve(&[0; 8], 0x6558, &inner), 8),
        ] {
            let whole = frame(&ipv4_between(ENB, SGW, UDP, &udp(50_000, port, &payload)));
            for cut in 42..42 + length {
                fails(&captured(&whole, cut), Undecodable::TruncatedTunnel);
            }
        }
    }

    #[test]
    fn vxlan_gpe_names_what_it_carries() {
        let gpe = |flags: u8, protocol: u8, inner: &[u8]| {
            over(
                GPE,
                &[&[flags, 0, 0, protocol, 0, 0, 10, 0], inner].concat(),
            )
        };
        let labelled = [&label(29, true)[..], &hello()].concat();
        leads_to_hello(&gpe(0x0c, 1, &hello()), "vxlan:10");
        leads_to_hello(&gpe(0x08, 1, &hello()), "vxlan:10");
        leads_to_hello(&gpe(0x0c, 2, &hello6()), "vxlan:10");
        leads_to_hello(&gpe(0x0e, 3, &frame(&hello())), "vxlan:10");
        leads_to_hello(&gpe(0x08, 0, &frame(&hello())), "vxlan:10");
        leads_to_hello(&gpe(0x0c, 5, &labelled), "vxlan:10/mpls:29");
        is_plain(GPE, &[&[0x0c, 0, 0, 9, 0, 0, 10, 0], &hello()[..]].concat());
        is_plain(GPE, &[&[0x1c, 0, 0, 1, 0, 0, 10, 0], &hello()[..]].concat());
    }

    #[test]
    fn geneve_is_entered_whatever_options_it_has() {
        for length in [0, 4, 40, 252] {
            let options = vec![0xaa; length];
            leads_to_hello(
                &over(GENEVE, &geneve(&options, 0x6558, &frame(&hello()))),
                "geneve:10",
            );
            for (protocol, ip) in both() {
                leads_to_hello(&over(GENEVE, &geneve(&options, protocol, &ip)), "geneve:10");
            }
        }
    }

    #[test]
    fn a_geneve_header_with_a_wrong_bit_is_none() {
        let good = geneve(&[0; 4], IPV4, &hello());
        for (place, value) in [(0, 0x41), (0, 63), (1, 1), (2, 0), (7, 1)] {
            let mut bad = good.clone();
            bad[place] = value;
            is_plain(GENEVE, &bad);
        }
        fails(
            &over(GENEVE, &geneve(&[], 0x0806, &[0; 28])),
            Undecodable::NotIp,
        );
    }

    #[test]
    fn teredo_carries_ipv6_behind_its_indications() {
        let ip = teredo_packet();
        let origin = [0, 0, 1, 2, 3, 4, 5, 6];
        let authentication = [0, 1, 1, 2, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        leads_to_hello(&over(3544, &ip), "teredo");
        leads_to_hello(&over(3544, &[&origin, &ip[..]].concat()), "teredo");
        let whole = [&authentication, &origin[..], &ip].concat();
        leads_to_hello(&over(3544, &whole), "teredo");
    }

    #[test]
    fn ipv6_of_another_prefix_or_length_is_not_teredo() {
        is_plain(3544, &hello6());
        is_plain(3544, &[&teredo_packet()[..], &[0]].concat());
        is_plain(3544, &hello());
    }
}

mod nests {
    use super::*;

    #[test]
    fn ip_in_ip_is_entered_in_all_four_ways() {
        for (protocol, inner) in [(4, hello()), (41, hello6())] {
            for outer in [ipv4(protocol, &inner), ipv6(protocol, &inner)] {
                leads_to_hello(&raw(&outer), "ip");
            }
        }
    }

    #[test]
    fn the_wrong_version_inside_is_malformed_and_too_long_a_length_is_bad() {
        fails(&raw(&ipv4(41, &hello())), Undecodable::MalformedIp);
        let inner = hello();
        let short = &inner[..inner.len() - 1];
        fails(&raw(&ipv4(4, short)), Undecodable::BadLength);
    }

    #[test]
    fn an_ethernet_pdu_session_carries_frames() {
        for first in [0x00, 0x02, 0x42, 0x64, 0x9c] {
            for (ethertype, ip) in both() {
                let plain = frame_to(first, ethertype, &ip);
                leads_to_hello(&raw(&g_pdu(1, &plain)), "gtpu");
                let tagged = frame_to(first, 0x8100, &vlan(5, ethertype, &ip));
                leads_to_hello(&raw(&g_pdu(1, &tagged)), "gtpu/vlan:5");
            }
        }
        let arp = frame_to(2, 0x0806, &[0; 28]);
        fails(&raw(&g_pdu(1, &arp)), Undecodable::NotIp);
    }

    #[test]
    fn layers_nest_in_any_order() {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 5, 0], &frame(&ipv4(41, &hello6()))[..]].concat();
        let gre = [
            &[0, 0, 0x65, 0x58],
            &frame(&ipv4(UDP, &udp(9, VXLAN, &vxlan)))[..],
        ]
        .concat();
        let tunnel = g_pdu(7, &ipv6(GRE, &gre));
        let pppoe = [
            &[0x11, 0, 0, 45],
            &(tunnel.len() as u16 + 2).to_be_bytes()[..],
            &[0, 0x21],
            &tunnel,
        ]
        .concat();
        let wire = [&label(29, true)[..], &ethernet(PPPOE, &pppoe)].concat();
        let outcome = on_ethernet(0x8100, &vlan(100, MPLS, &wire));
        let words = "vlan:100/mpls:29/pppoe:45/gtpu/gre/vxlan:5/ip";
        leads_to_hello(&outcome, words);
        assert_eq!(facts_of(&outcome).tunnel.map(|tunnel| tunnel.teid), Some(7));
    }

    #[test]
    fn nests_of_every_kind_end_at_the_bound() {
        type Wrap = fn(&[u8]) -> Vec<u8>;
        let wrap: [Wrap; 4] = [
            |ip| ipv4(4, ip),
            |ip| ipv4(GRE, &[&[0, 0, 8, 0], ip].concat()),
            |ip| {
                ipv4(
                    UDP,
                    &udp(
                        9,
                        VXLAN,
                        &[&[8, 0, 0, 0, 0, 0, 5, 0], &frame(ip)[..]].concat(),
                    ),
                )
            },
            |ip| {
                ipv4(
                    UDP,
                    &udp(9, GENEVE, &[&[0, 0, 8, 0, 0, 0, 5, 0], ip].concat()),
                )
            },
        ];
        for wrap in wrap {
            let mut ip = hello();
            for _ in 0..MAX_LAYERS {
                ip = wrap(&ip);
            }
            assert_eq!(segment_of(&raw(&ip)), tcp(443, HELLO));
            fails(&raw(&wrap(&ip)), Undecodable::TooDeep);
        }
    }

    #[test]
    fn fragments_inside_a_tunnel_are_put_together() {
        let whole = udp(1, 2, &[5; 992]);
        let parts = [
            ipv4_part(CLIENT, SERVER, UDP, 9, 0x2000, &whole[..400]),
            ipv4_part(CLIENT, SERVER, UDP, 9, 50, &whole[400..]),
        ];
        let gre = |ip: &[u8]| ipv4_between(ENB, SGW, GRE, &[&[0, 0, 8, 0], ip].concat());
        let mut decoder = decoder();
        let first = gre(&parts[0]);
        let held = outcome(&mut decoder, &packet(LinkType::RawIp, &first));
        assert_eq!(held, Outcome::Held);
        let second = gre(&parts[1]);
        let outcome = outcome(&mut decoder, &packet(LinkType::RawIp, &second));
        assert_eq!(segment_of(&outcome), whole);
        assert_eq!(facts_of(&outcome).layers, "gre");
    }

    #[test]
    fn a_fragmented_overlay_packet_is_put_together() {
        let datagram = udp(
            9,
            VXLAN,
            &[&[8, 0, 0, 0, 0, 0, 5, 0], &frame(&hello())[..]].concat(),
        );
        let mut decoder = decoder();
        let first = ipv4_part(ENB, SGW, UDP, 3, 0x2000, &datagram[..24]);
        let held = outcome(&mut decoder, &packet(LinkType::RawIp, &first));
        assert_eq!(held, Outcome::Held);
        let last = ipv4_part(ENB, SGW, UDP, 3, 3, &datagram[24..]);
        leads_to_hello(
            &outcome(&mut decoder, &packet(LinkType::RawIp, &last)),
            "vxlan:5",
        );
    }

    #[test]
    fn the_identification_is_that_of_the_innermost_packet() {
        let inner = ipv4_part(CLIENT, SERVER, TCP, 77, 0x4000, &tcp(443, HELLO));
        for (ip, expected) in [
            (inner.clone(), 77),
            (ipv4(4, &inner), 77),
            (hello6(), 0),
            (g_pdu(1, &inner), 77),
        ] {
            let mut decoder = decoder();
            match decoder.decode(&packet(LinkType::RawIp, &ip)) {
                Ok(Decoded::Inner(inner)) => assert_eq!(inner.identification, expected),
                other => panic!("not an inner packet: {other:?}"),
            }
        }
    }
}

#[test]
fn every_seed_of_the_property_tests_gets_through() {
    for seed in seeds() {
        let outcome = decode(LinkType::Ethernet, &seed);
        assert_eq!(segment_of(&outcome), tcp(443, HELLO), "{seed:02x?}");
    }
}

/// A frame of every kind, for the property tests: one of each header.
pub fn seeds() -> Vec<Vec<u8>> {
    let inner = frame(&hello());
    let labelled = [&label(29, true)[..], &hello()].concat();
    let wire = [&label(29, true)[..], &[0, 0, 0, 9], &inner].concat();
    let session = [&[0x11, 0, 0, 45, 0, 47, 0, 0x21], &hello()[..]].concat();
    let over_gre = |header: &[u8], payload: &[u8]| frame(&ipv4(GRE, &[header, payload].concat()));
    let over_udp = |port, header: &[u8], payload: &[u8]| {
        frame(&ipv4(UDP, &udp(9, port, &[header, payload].concat())))
    };
    let pptp = [
        0x30, 0x81, 0x88, 0x0b, 0, 46, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0x21,
    ];
    let type_3 = [
        0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 5, 0, 100, 0, 0, 0, 9, 0, 0, 0, 1,
    ];
    vec![
        ethernet(MPLS, &labelled),
        ethernet(MPLS, &wire),
        ethernet(PPPOE, &session),
        ethernet(0x88e7, &[&[0, 0, 0, 5], &inner[..]].concat()),
        over_gre(
            &[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &hello(),
        ),
        over_gre(&[0, 0, 0x65, 0x58], &inner),
        over_gre(&pptp, &hello()),
        over_gre(&[&type_3[..], &[0; 8]].concat(), &inner),
        over_udp(VXLAN, &[8, 0, 0, 0, 0, 0, 5, 0], &inner),
        over_udp(GPE, &[0x0c, 0, 0, 1, 0, 0, 5, 0], &hello()),
        over_udp(GENEVE, &[1, 0, 0x65, 0x58, 0, 0, 5, 0, 1, 2, 3, 0], &inner),
        over_udp(3544, &[0, 0, 1, 2, 3, 4, 5, 6], &teredo_packet()),
        frame(&ipv4(41, &hello6())),
        frame(&g_pdu(1, &inner)),
    ]
}
