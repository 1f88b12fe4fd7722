//! Any bytes as the blocks that follow a pcapng section header of either byte order.
#![no_main]

use std::io::Cursor;

use edgeqoe_core::source::{Event, open_reader};
use libfuzzer_sys::fuzz_target;

const LITTLE: &[u8] = b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\
    \xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0";
const BIG: &[u8] = b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d\0\x01\0\0\
    \xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x1c";

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let section = if choice % 2 == 0 { LITTLE } else { BIG };
    let file = [section, rest].concat();
    let mut source = open_reader("fuzz", Box::new(Cursor::new(file)), 0).expect("a section opens");
    while let Ok(Event::Packet(packet)) = source.next() {
        assert!(packet.data.len() <= packet.wire_len as usize);
        assert!((packet.interface as usize) < source.ledger().len());
    }
});
