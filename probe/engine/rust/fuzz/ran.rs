//! What holds for any bytes as a message of S1AP or NGAP: what it says stays within its bounds, and its
//! front says nothing.

use edgeqoe_core::control::message::{
    MAX_BEARERS, MAX_CONNECTIONS, MAX_ENDS, MAX_FLOWS, Malformed, Message,
};

pub fn check(input: &[u8], read: fn(&[u8]) -> Result<Message, Malformed>) {
    let Ok(message) = read(input) else {
        return;
    };
    assert!(message.bearers.len() <= MAX_BEARERS);
    assert!(message.connections.len() <= MAX_CONNECTIONS);
    for bearer in &message.bearers {
        assert!(bearer.ends.len() <= MAX_ENDS && bearer.flows.len() <= MAX_FLOWS);
    }
    // Bytes behind the message are nobody's; of less than the message nothing is read.
    for length in 0..input.len().min(64) {
        assert!(read(&input[..length]).map_or(true, |front| front == message));
    }
}
