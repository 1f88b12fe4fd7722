//! Bytes as a DNS message, as messages in a TCP stream, and as the messages of one flow.
#![no_main]

use edgeqoe_core::app::dns::{DnsMessage, DnsTcpFramer, DnsTracker, Resolution};
use libfuzzer_sys::fuzz_target;

fn frame(stream: &[u8], chunk_length: usize) -> Vec<Vec<u8>> {
    let (mut framer, mut messages) = (DnsTcpFramer::default(), Vec::new());
    for chunk in stream.chunks(chunk_length) {
        framer.feed(chunk, |message| messages.push(message.to_vec()));
    }
    messages
}

fn track(tracker: &mut DnsTracker, bytes: &[u8], time_ns: u64) {
    let Ok(message) = DnsMessage::parse(bytes) else {
        return;
    };
    if let Some(question) = message.question {
        let text = question.name.to_text();
        assert!((1..=1004).contains(&text.len()) && text.is_ascii());
    }
    if let Some(resolution) = Resolution::of(&message) {
        assert!((1..=8).contains(&resolution.addresses().len()));
        assert!(resolution.name.len() <= 253 && resolution.name.is_ascii());
    }
    let _ = (
        DnsMessage::begins_plausibly(bytes),
        message.is_plain_query(),
    );
    tracker.on_message(&message, time_ns);
    tracker.expire(time_ns);
    assert!(tracker.pending() <= 16);
}

fuzz_target!(|input: &[u8]| {
    let mut tracker = DnsTracker::default();
    track(&mut tracker, input, 0);
    let messages = frame(input, usize::MAX);
    assert_eq!(messages, frame(input, 3));
    for (second, message) in (0..).zip(&messages) {
        track(&mut tracker, message, second * 1_000_000_000);
    }
});
