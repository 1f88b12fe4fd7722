//! Segments of both ends of a TCP connection, in any order. Each begins with its sender and pause,
//! its length, and how much of it was not captured.
#![no_main]

use edgeqoe_core::flow::Direction;
use edgeqoe_core::tcp::{Connection, Segment};
use libfuzzer_sys::fuzz_target;

/// The pause before a segment, by the two highest bits of its first byte: none, 1 ms, 1 s, 30 s.
const PAUSES_NS: [u64; 4] = [0, 1_000_000, 1_000_000_000, 30_000_000_000];
const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Reverse];

fuzz_target!(|input: &[u8]| {
    let mut connection = Connection::default();
    let (mut rest, mut time_ns, mut segments) = (input, 0, 0);
    while let Some((&[kind, length, uncaptured], tail)) = rest.split_first_chunk() {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(length)));
        rest = tail;
        time_ns += PAUSES_NS[usize::from(kind >> 6)];
        let wire_len = bytes.len() as u32 + u32::from(uncaptured) * 8;
        let Some(segment) = Segment::parse(bytes, wire_len) else {
            continue;
        };
        assert!(segment.payload.len() <= segment.payload_len as usize);
        let direction = DIRECTIONS[usize::from(kind & 1)];
        connection.is_reuse(direction, &segment);
        connection.on_segment(direction, &segment, time_ns);
        segments += 1;
        if kind & 2 != 0 {
            check(&mut connection, time_ns, false, segments);
        }
    }
    check(&mut connection, time_ns, true, segments);
});

fn check(connection: &mut Connection, now_ns: u64, last: bool, segments: u32) {
    for direction in DIRECTIONS {
        let _ = connection.blocked_ns(direction, now_ns);
        connection.is_in_flight(direction, now_ns as u32);
        connection.retransmits_in_vain(direction);
    }
    for report in connection.take_report(now_ns, last) {
        assert!(report.retransmitted_packets <= segments);
    }
}
