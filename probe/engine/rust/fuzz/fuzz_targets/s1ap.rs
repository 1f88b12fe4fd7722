//! Bytes as an S1AP message: what it says stays within its bounds, and its front says nothing.
#![no_main]

use edgeqoe_core::control::message::{MAX_BEARERS, MAX_CONNECTIONS, MAX_ENDS, MAX_FLOWS};
use edgeqoe_core::control::s1ap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = s1ap::read(input) else {
        return;
    };
    assert!(message.bearers.len() <= MAX_BEARERS);
    assert!(message.connections.len() <= MAX_CONNECTIONS);
    for bearer in &message.bearers {
        assert!(bearer.ends.len() <= MAX_ENDS && bearer.flows.len() <= MAX_FLOWS);
    }
    // Bytes behind the message are nobody's; of less than the message nothing is read.
    for length in 0..input.len().min(64) {
        assert!(s1ap::read(&input[..length]).map_or(true, |front| front == message));
    }
});
