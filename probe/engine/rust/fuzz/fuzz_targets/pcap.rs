//! Any bytes as a capture of any kind, and as a pcap file of each variant.
#![no_main]

use std::io::Cursor;

use edgeqoe_core::source::{Event, open_reader};
use libfuzzer_sys::fuzz_target;

const MAGICS: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0x34, 0xcd, 0xb2, 0xa1],
    *b"snoo",
];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let magic = MAGICS
        .get(usize::from(choice))
        .map_or(&[][..], |magic| magic);
    let file = [magic, rest].concat();
    let Ok(mut source) = open_reader("fuzz", Box::new(Cursor::new(file)), 0) else {
        return;
    };
    while let Ok(Event::Packet(packet)) = source.next() {
        assert!(packet.data.len() <= packet.wire_len as usize);
    }
});
