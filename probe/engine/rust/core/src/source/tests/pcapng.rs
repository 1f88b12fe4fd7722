use super::build::*;
use super::*;

const LITTLE: Order = Order::Little;

#[test]
fn both_byte_orders_are_read() {
    for order in [Order::Little, Order::Big] {
        let file = [
            section(order),
            interface(order, 1, &[option(order, 2, b"eth7")]),
            enhanced(order, 0, 1_700_000_000_123_456, b"abcde"),
        ];
        let outcome = read(&file.concat());
        let expected = Seen {
            time_ns: 1_700_000_000_123_456_000,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: 1_500,
            data: b"abcde".to_vec(),
        };
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.packets, [expected], "{order:?}");
        assert_eq!(outcome.ledger[0].name, "eth7");
    }
}

#[test]
fn each_interface_has_its_own_link_type_and_clock() {
    let nanoseconds = [option(LITTLE, 9, &[9]), option(LITTLE, 2, b"nano")];
    let binary = [option(LITTLE, 9, &[0x80 | 10]), option(LITTLE, 2, b"bin")];
    let offset = option(LITTLE, 14, &100_i64.to_le_bytes());
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &nanoseconds),
        interface(LITTLE, 113, &binary),
        interface(LITTLE, 101, &[offset]),
        enhanced(LITTLE, 2, 1_000_000, b"c"),
        enhanced(LITTLE, 1, 102 * 1_024 + 512, b"b"),
        enhanced(LITTLE, 0, 103 * SECOND + 1, b"a"),
    ];
    let outcome = read(&file.concat());
    let seen: Vec<_> = outcome
        .packets
        .iter()
        .map(|p| (p.link, p.time_ns))
        .collect();
    let expected = [
        (LinkType::RawIp, 101 * SECOND),
        (LinkType::LinuxSll, 102 * SECOND + SECOND / 2),
        (LinkType::Ethernet, 103 * SECOND + 1),
    ];
    assert_eq!(seen, expected);
    let names: Vec<&str> = outcome.ledger.iter().map(|entry| &entry.name[..]).collect();
    assert_eq!(names, ["nano", "bin", "test.pcap:2"]);
    assert!(outcome.ledger.iter().all(|entry| entry.received == 1));
}

#[test]
fn a_new_section_begins_its_interfaces_anew_and_may_change_the_byte_order() {
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &[option(LITTLE, 2, b"eth0")]),
        enhanced(LITTLE, 0, 1, b"a"),
        section(Order::Big),
        interface(Order::Big, 101, &[option(Order::Big, 2, b"eth1")]),
        enhanced(Order::Big, 0, 2, b"b"),
        section(LITTLE),
        interface(LITTLE, 1, &[option(LITTLE, 2, b"eth0")]),
        enhanced(LITTLE, 0, 3, b"c"),
    ];
    let outcome = read(&file.concat());
    let seen: Vec<_> = outcome
        .packets
        .iter()
        .map(|p| (p.interface, p.link))
        .collect();
    let expected = [
        (0, LinkType::Ethernet),
        (1, LinkType::RawIp),
        (0, LinkType::Ethernet),
    ];
    assert_eq!(seen, expected);
    let received: Vec<u64> = outcome.ledger.iter().map(|entry| entry.received).collect();
    assert_eq!(received, [2, 1]);
}

#[test]
fn a_packet_without_time_is_counted_and_not_delivered() {
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &[]),
        simple(LITTLE, b"one"),
        enhanced(LITTLE, 0, 5, b"timed"),
        simple(LITTLE, b"three"),
    ];
    let outcome = read(&file.concat());
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.ledger[0].no_timestamp, 2);
    assert_eq!(outcome.ledger[0].received, 3);
}

#[test]
fn obsolete_packet_blocks_are_delivered_with_their_drops() {
    for order in [Order::Little, Order::Big] {
        let file = [
            section(order),
            interface(order, 1, &[]),
            obsolete(order, 0, 4, 2_000_000, b"ab"),
            obsolete(order, 0, u16::MAX, 3_000_000, b"cd"),
        ];
        let outcome = read(&file.concat());
        assert_eq!(outcome.times(), [2 * SECOND, 3 * SECOND]);
        assert_eq!(outcome.packets[1].data, b"cd");
        assert_eq!(outcome.ledger[0].dropped_kernel, 4, "0xFFFF is unknown");
    }
}

#[test]
fn other_blocks_of_any_length_are_skipped() {
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &[]),
        block(LITTLE, 5, &[0; 24]),
        block(LITTLE, 0x0bad, &vec![7; 3_000_000]),
        enhanced(LITTLE, 0, 1, b"a"),
        block(LITTLE, 4, &[]),
    ];
    let outcome = read(&file.concat());
    assert_eq!((outcome.packets.len(), outcome.error), (1, None));
}

#[test]
fn options_after_a_packet_are_no_part_of_it() {
    let head = Bytes::new(LITTLE).u32(0).u64(0).u32(3).u32(3);
    let body = head
        .raw(b"abc")
        .padded()
        .raw(&option(LITTLE, 1, b"a comment"));
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &[]),
        block(LITTLE, 6, &body.bytes),
    ];
    assert_eq!(read(&file.concat()).packets[0].data, b"abc");
}

#[test]
fn a_name_is_kept_short_and_in_one_line() {
    let name = option(LITTLE, 2, format!("eth\n0{}", "x".repeat(500)).as_bytes());
    let file = [
        section(LITTLE),
        interface(LITTLE, 1, &[name]),
        enhanced(LITTLE, 0, 1, b"a"),
    ];
    let outcome = read(&file.concat());
    assert_eq!(outcome.ledger[0].name.len(), 64);
    assert!(outcome.ledger[0].name.starts_with("eth?0x"));
}

#[test]
fn a_bad_block_ends_the_file_after_the_packets_before_it() {
    let mut lengths_differ = enhanced(LITTLE, 0, 9, b"abcd");
    *lengths_differ.last_mut().expect("a byte") = 1;
    let mut unknown_differs = block(LITTLE, 99, &[0; 8]);
    *unknown_differs.last_mut().expect("a byte") = 1;
    let no_room = [6, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0].to_vec();
    let odd = [9, 0, 0, 0, 13, 0, 0, 0, 0, 13, 0, 0, 0].to_vec();
    let mut other_magic = section(LITTLE);
    other_magic[8] = 0;
    let cases = [
        (lengths_differ, "the block's two lengths differ"),
        (unknown_differs, "the block's two lengths differ"),
        (no_room, "an impossible block length"),
        (odd, "an impossible block length"),
        (other_magic, "a section header without byte-order magic"),
        (
            enhanced(LITTLE, 8, 9, b"abcd"),
            "a packet of an interface that is not described",
        ),
        (
            enhanced_as(LITTLE, 0, 9, 5, b"abcd"),
            "a packet longer than its block",
        ),
        (
            enhanced_as(LITTLE, 0, 9, u32::MAX, b"abcd"),
            "longer than 256 KiB",
        ),
        (
            block(LITTLE, 6, &[0; 16]),
            "a packet block without its header",
        ),
        (
            block(LITTLE, 1, &[]),
            "an interface description without link type",
        ),
        (
            block(LITTLE, 6, &vec![0; 1024 * 1024]),
            "a block longer than 1 MiB",
        ),
    ];
    let good = pcapng_of(2);
    for (bad, why) in cases {
        let outcome = read(&[good.clone(), bad, enhanced(LITTLE, 0, 9, b"x")].concat());
        assert_eq!(outcome.packets.len(), 2, "{why}");
        let expected = format!("test.pcap: corrupt record at offset {}: {why}", good.len());
        assert_eq!(outcome.error(), expected);
    }
}

#[test]
fn a_simple_packet_needs_an_interface() {
    let outcome = read(&[section(LITTLE), simple(LITTLE, b"a")].concat());
    assert!(
        outcome
            .error()
            .ends_with("an interface that is not described")
    );
}

#[test]
fn a_cut_block_is_truncated_whether_it_is_looked_into_or_skipped() {
    let good = pcapng_of(1);
    for kind in [6, 99] {
        let bad = block(LITTLE, kind, &[0; 40]);
        let outcome = read(&[&good[..], &bad[..50]].concat());
        assert_eq!(outcome.packets.len(), 1);
        let expected = format!(
            "test.pcap: truncated: block at offset {} needs 52 bytes, 50 are left",
            good.len()
        );
        assert_eq!(outcome.error(), expected);
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut file = pcapng_of(1);
    file[12] = 2;
    assert_eq!(
        read(&file).error(),
        "test.pcap: version 2 of pcapng is not supported"
    );
}

#[test]
fn interface_descriptions_without_end_are_refused() {
    let mut file = section(LITTLE);
    let description = interface(LITTLE, 1, &[option(LITTLE, 2, b"a")]);
    for _ in 0..=65_536 {
        file.extend(&description);
    }
    let outcome = read(&file);
    assert!(
        outcome
            .error()
            .ends_with("more than 65,536 interface descriptions")
    );
    assert_eq!(outcome.ledger.len(), 1);
}

#[test]
fn what_only_begins_like_a_section_is_no_capture() {
    let mut file = pcapng_of(1);
    file[9] = 0;
    assert!(open_error(&file).contains("not a capture file (first bytes 0x0a0d0d0a"));
}
