//! Both directions of an HTTP connection: what is learnt does not depend on how it is cut, and a
//! reader that lost its place can go on anywhere.
#![no_main]

use edgeqoe_core::app::http::{Event, HttpTracker, Opening, Switch};
use libfuzzer_sys::fuzz_target;

/// What is learnt of the client's bytes and then the server's, `chunk_length` at a time. What the
/// reader steps over is not given to it.
fn learn(client: &[u8], server: &[u8], chunk_length: usize) -> (Vec<Event>, Option<Switch>, bool) {
    let (mut tracker, mut events) = (HttpTracker::default(), Vec::new());
    for (from_client, bytes) in [(true, client), (false, server), (true, client)] {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.len().min(chunk_length));
            let skip = tracker.feed(from_client, chunk, 0, &mut |event| events.push(event));
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            rest = behind.get(skip..).unwrap_or_default();
        }
    }
    (events, tracker.switch(), tracker.is_waiting())
}

/// Goes on wherever the reader lost its place, and loses it every few chunks.
fn stumble(client: &[u8], server: &[u8], chunk_length: usize) {
    let mut tracker = HttpTracker::default();
    let pairs = client.chunks(chunk_length).zip(server.chunks(chunk_length));
    for (number, (sent, received)) in pairs.enumerate() {
        for (from_client, chunk) in [(true, sent), (false, received)] {
            if number % 5 == 4 {
                tracker.lose(from_client);
            }
            if tracker.is_lost(from_client) {
                tracker.resume(from_client);
            }
            tracker.feed(from_client, chunk, number as u64, &mut |_| {});
            assert!(tracker.unread() <= chunk.len());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[split, chunk_length], rest)) = input.split_first_chunk() else {
        return;
    };
    let chunk_length = usize::from(chunk_length).max(1);
    let (client, server) = rest.split_at(rest.len() * usize::from(split) / 256);
    let whole = learn(client, server, usize::MAX);
    assert_eq!(whole, learn(client, server, chunk_length));
    let hosts = whole.0.iter().filter_map(|event| match event {
        Event::Host(host) => Some(host.len()),
        _ => None,
    });
    assert!(hosts.clone().count() <= 1 && hosts.clone().all(|length| length <= 255));
    stumble(client, server, chunk_length);
    let _ = (Opening::of(client), Opening::of(server));
});
