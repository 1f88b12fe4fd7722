use super::build::*;
use super::*;

#[test]
fn packets_are_read_with_time_lengths_and_padding() {
    let file = [
        snoop_header(2, 4),
        snoop_record((1, 500_000), 0, b"abcde"),
        snoop_record((2, 0), 0, b"fg"),
    ];
    let outcome = read(&file.concat());
    let expected = Seen {
        time_ns: SECOND + SECOND / 2,
        interface: 0,
        link: LinkType::Ethernet,
        wire_len: 105,
        data: b"abcde".to_vec(),
    };
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.packets[0], expected);
    assert_eq!(outcome.packets[1].data, b"fg");
}

#[test]
fn cumulative_drops_are_counted_once() {
    let file = [
        snoop_header(2, 4),
        snoop_record((1, 0), 3, b"a"),
        snoop_record((2, 0), 3, b"b"),
        snoop_record((3, 0), 5, b"c"),
    ];
    assert_eq!(read(&file.concat()).ledger[0].dropped_kernel, 5);
}

#[test]
fn an_impossible_record_length_is_corrupt() {
    for record_len in [0, 24, 5_000] {
        let mut bad = snoop_record((1, 0), 0, b"abcd");
        bad[8..12].copy_from_slice(&u32::to_be_bytes(record_len));
        bad.extend([0; 5_000]);
        let file = [snoop_header(2, 4), snoop_record((1, 0), 0, b"a"), bad];
        let outcome = read(&file.concat());
        assert_eq!(outcome.packets.len(), 1);
        assert!(outcome.error().contains("corrupt record at offset 44"));
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let unknown_link = snoop_header(2, 5);
    assert_eq!(
        open_error(&unknown_link),
        "test.pcap: datalink type 5 of snoop is not supported"
    );
    assert_eq!(
        open_error(&snoop_header(3, 4)),
        "test.pcap: version 3 of snoop is not supported"
    );
    assert!(open_error(b"snooping around").contains("not a capture file"));
}
