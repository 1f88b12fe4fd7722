use super::build::*;
use super::*;

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

#[test]
fn both_byte_orders_and_all_time_units_give_the_same_packets() {
    for order in ORDERS {
        for (magic, fraction) in [(MICROSECONDS, 250_000), (NANOSECONDS, 250_000_000)] {
            let mut file = pcap_header(order, magic, 1);
            file.extend(pcap_record(order, (7, fraction), (3, 1_400), b"abc"));
            let outcome = read(&file);
            assert_eq!(outcome.error, None, "{order:?} {magic:x}");
            let expected = Seen {
                time_ns: 7 * SECOND + SECOND / 4,
                interface: 0,
                link: LinkType::Ethernet,
                wire_len: 1_400,
                data: b"abc".to_vec(),
            };
            assert_eq!(outcome.packets, [expected], "{order:?} {magic:x}");
        }
    }
}

#[test]
fn the_longer_record_header_of_the_modified_format_is_passed_over() {
    let mut file = pcap_header(Order::Big, MODIFIED, 1);
    for data in [b"8 bytes!abc", b"8 bytes!def"] {
        file.extend(pcap_record(Order::Big, (1, 0), (3, 3), data));
    }
    let packets = read(&file).packets;
    let data: Vec<&[u8]> = packets.iter().map(|packet| &packet.data[..]).collect();
    assert_eq!(data, [b"abc", b"def"]);
}

#[test]
fn the_link_type_is_read_without_its_check_sequence_bits() {
    let expected = [
        (0, LinkType::Loopback),
        (108, LinkType::Loopback),
        (1, LinkType::Ethernet),
        (0x5400_0001, LinkType::Ethernet),
        (9, LinkType::Ppp),
        (101, LinkType::RawIp),
        (228, LinkType::RawIp),
        (229, LinkType::RawIp),
        (113, LinkType::LinuxSll),
        (276, LinkType::LinuxSll2),
        (147, LinkType::Other(147)),
    ];
    for (network, link) in expected {
        let mut file = pcap_header(Order::Little, MICROSECONDS, network);
        file.extend(pcap_record(Order::Little, (1, 0), (1, 1), b"a"));
        assert_eq!(read(&file).packets[0].link, link, "{network}");
    }
}

#[test]
fn a_packet_is_never_shorter_on_the_wire_than_in_the_file() {
    let mut file = pcap_header(Order::Little, MICROSECONDS, 1);
    file.extend(pcap_record(Order::Little, (1, 0), (3, 0), b"abc"));
    assert_eq!(read(&file).packets[0].wire_len, 3);
}

#[test]
fn a_file_without_packets_ends_without_error() {
    let outcome = read(&pcap_header(Order::Little, MICROSECONDS, 1));
    assert_eq!((outcome.packets.len(), outcome.error), (0, None));
    assert_eq!(outcome.ledger[0].name, "test.pcap");
    assert_eq!(outcome.ledger[0].received, 0);
}

#[test]
fn a_record_cut_in_its_data_is_truncated_after_the_packets_before_it() {
    let mut file = pcap_of(&[1, 2]);
    file.extend(pcap_record(Order::Little, (3, 0), (100, 100), b"short"));
    let outcome = read(&file);
    assert_eq!(outcome.times(), [SECOND, 2 * SECOND]);
    assert_eq!(
        outcome.error(),
        "test.pcap: truncated: record at offset 59 needs 116 bytes, 21 are left"
    );
}

#[test]
fn a_record_cut_in_its_header_is_truncated() {
    let mut file = pcap_of(&[1]);
    file.extend([0; 15]);
    let outcome = read(&file);
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(
        outcome.error(),
        "test.pcap: truncated: record at offset 41 needs 16 bytes, 15 are left"
    );
}

#[test]
fn an_absurd_length_is_corrupt_after_the_packets_before_it() {
    let mut file = pcap_of(&[1]);
    let absurd = 256 * 1024 + 1;
    let data = vec![0; absurd as usize];
    file.extend(pcap_record(Order::Little, (3, 0), (absurd, absurd), &data));
    let outcome = read(&file);
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(
        outcome.error(),
        "test.pcap: corrupt record at offset 41: longer than 256 KiB"
    );
}

#[test]
fn the_longest_packet_is_delivered_whole() {
    let data: Vec<u8> = (0..256 * 1024_u32).map(|index| index as u8).collect();
    let len = data.len() as u32;
    let mut file = pcap_of(&[1]);
    file.extend(pcap_record(Order::Little, (2, 0), (len, len), &data));
    file.extend(pcap_record(Order::Little, (3, 0), (1, 1), b"z"));
    let packets = read(&file).packets;
    assert_eq!(packets[1].data, data);
    assert_eq!(packets[2].data, b"z");
}

#[test]
fn another_version_is_refused_by_name() {
    let mut file = pcap_of(&[1]);
    file[4] = 3;
    assert_eq!(
        open_error(&file),
        "test.pcap: version 3 of pcap is not supported"
    );
}

#[test]
fn what_is_no_capture_is_refused_with_its_first_bytes() {
    assert_eq!(open_error(b""), "test.pcap: the file is empty");
    assert_eq!(
        open_error(b"%PDF-1.7 and so on"),
        "test.pcap: not a capture file (first bytes 0x255044462d312e37)"
    );
    assert_eq!(
        open_error(&[0xa1]),
        "test.pcap: not a capture file (first bytes 0xa1)"
    );
    assert_eq!(
        open_error(&pcap_of(&[])[..23]),
        "test.pcap: truncated: the file header at offset 0 needs 24 bytes, 23 are left"
    );
}

#[test]
fn times_that_go_back_are_delivered_and_counted_against_the_latest() {
    let outcome = read(&pcap_of(&[10, 12, 11, 11, 12, 13]));
    let seconds: Vec<u64> = outcome.times().iter().map(|time| time / SECOND).collect();
    assert_eq!(seconds, [10, 12, 11, 11, 12, 13]);
    assert_eq!(outcome.ledger[0].time_went_back, 2);
    assert_eq!(outcome.ledger[0].received, 6);
}

#[test]
fn the_offset_moves_every_time_and_saturates() {
    let file = pcap_of(&[5, 6]);
    for (offset, expected) in [
        (SECOND as i64, [6 * SECOND, 7 * SECOND]),
        (-6 * SECOND as i64, [0, 0]),
        (i64::MIN, [0, 0]),
    ] {
        let reader = Box::new(Cursor::new(file.clone()));
        let mut source = open_reader("x", reader, offset).expect("it opens");
        assert_eq!(drain(&mut *source).times(), expected);
    }
}
