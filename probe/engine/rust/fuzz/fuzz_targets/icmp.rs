//! Bytes as the packet that an ICMP error quotes, cut anywhere.
#![no_main]

use edgeqoe_core::decap::{Quote, Transport};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(whole) = Quote::read(input) else {
        return;
    };
    assert!(whole.sequence.is_none() || whole.transport == Transport::Tcp);
    assert!(!matches!(whole.transport, Transport::Other(_)));
    if whole.transport == Transport::Icmp {
        assert_eq!(whole.source_port, whole.destination_port);
    }
    for length in 0..input.len().min(128) {
        let _ = Quote::read(&input[..length]);
    }
});
