//! Datagrams of both directions of a QUIC connection, as they come and as sealed Initial packets: a
//! mirror that shows each of them twice changes nothing.
#![no_main]

use edgeqoe_core::app::quic::{QuicTracker, looks_like_quic, sealed_initial};
use libfuzzer_sys::fuzz_target;

/// The datagrams of the input: who sends each, and its bytes; and whether all were sealed here. An
/// entry tells its sender, whether it is to be sealed, and its bytes.
fn datagrams(mut rest: &[u8]) -> (Vec<(bool, Vec<u8>)>, bool) {
    let mut datagrams = Vec::new();
    let mut are_sealed = true;
    while let Some((&[kind, length], tail)) = rest.split_first_chunk() {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(length) * 8));
        rest = tail;
        let (from_client, is_sealed) = (kind & 1 == 0, kind & 2 == 0);
        // A sealed packet is at least as long as its sample.
        let is_sealed = is_sealed && bytes.len() >= 4;
        are_sealed &= is_sealed;
        let datagram = if is_sealed {
            sealed_initial(from_client, u32::from(kind >> 2), bytes)
        } else {
            bytes.to_vec()
        };
        datagrams.push((from_client, datagram));
    }
    (datagrams, are_sealed)
}

fn learn(datagrams: &[(bool, Vec<u8>)], copies: usize) -> QuicTracker {
    let mut tracker = QuicTracker::new();
    for (second, (from_client, datagram)) in (0..).zip(datagrams) {
        looks_like_quic(datagram);
        tracker.is_succeeded_by(*from_client, datagram);
        for _ in 0..copies {
            tracker.on_datagram(*from_client, datagram, second * 1_000_000_000);
        }
    }
    tracker.refresh_identity();
    tracker
}

fuzz_target!(|input: &[u8]| {
    let (datagrams, are_sealed) = datagrams(input);
    let (once, twice) = (learn(&datagrams, 1), learn(&datagrams, 2));
    // Of more, and of packets of many versions and IDs, the copies use up what a connection may cost.
    if are_sealed && datagrams.len() <= 4 {
        assert_eq!(once.facts().handshake_us, twice.facts().handshake_us);
        assert_eq!(once.facts().close, twice.facts().close);
    }
    let name = once.identity().and_then(|known| known.server_name.as_ref());
    assert!((1..=255).contains(&name.map_or(1, |name| name.len())));
});
