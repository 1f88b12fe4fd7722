//! Segments of one direction in any order: every byte handed over stands at its own place.
#![no_main]

use edgeqoe_core::tcp::stream::{DEFAULT_PREFIX, Reassembler, Segment, Status};
use libfuzzer_sys::fuzz_target;

const START: u32 = u32::MAX - 1000;

/// The byte at an offset of the stream, so that a wrong place shows.
fn byte_at(offset: u32) -> u8 {
    (offset % 251) as u8
}

/// A segment in seven bytes: where it starts, lengths captured and cut, time, acknowledgement.
fn push(
    reassembler: &mut Reassembler,
    step: [u8; 7],
    time_ns: &mut u64,
    got: &mut Vec<u8>,
) -> Status {
    let [
        offset_high,
        offset_low,
        length,
        cut,
        seconds,
        ack_high,
        ack_low,
    ] = step;
    let offset = u32::from(u16::from_be_bytes([offset_high, offset_low]));
    let captured = u32::from(length) * 8;
    let data: Vec<u8> = (offset..offset + captured).map(byte_at).collect();
    *time_ns += u64::from(seconds % 4) * 1_000_000_000;
    let segment = Segment {
        sequence: START.wrapping_add(offset),
        data: &data,
        wire_len: captured + u32::from(cut / 128),
        time_ns: *time_ns,
    };
    reassembler.push(segment, |bytes| got.extend_from_slice(bytes));
    let acknowledged = u32::from(u16::from_be_bytes([ack_high, ack_low]));
    reassembler.acknowledge(START.wrapping_add(acknowledged), *time_ns)
}

fuzz_target!(|input: &[u8]| {
    let mut reassembler = Reassembler::default();
    reassembler.start_at(START);
    let (mut time_ns, mut got) = (0, Vec::new());
    let (steps, _) = input.as_chunks();
    for step in steps {
        let before = got.len();
        let was = reassembler.status();
        push(&mut reassembler, *step, &mut time_ns, &mut got);
        assert!(was == Status::Open || got.len() == before);
    }
    assert!(got.len() <= DEFAULT_PREFIX as usize);
    assert!(
        (0..)
            .zip(&got)
            .all(|(offset, byte)| *byte == byte_at(offset))
    );
});
