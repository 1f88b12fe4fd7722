//! Both directions of a TLS connection: what is learnt does not depend on how it is cut.
#![no_main]

use edgeqoe_core::app::tls::alert::failure;
use edgeqoe_core::app::tls::{TlsInfo, TlsTracker, looks_like_tls};
use libfuzzer_sys::fuzz_target;

fn learn(client: &[u8], server: &[u8], chunk_length: usize) -> TlsInfo {
    let mut tracker = TlsTracker::new();
    for (from_client, bytes) in [(true, client), (false, server), (true, client)] {
        for chunk in bytes.chunks(chunk_length) {
            tracker.feed(from_client, chunk, 0);
        }
    }
    tracker.on_client_leaving();
    tracker.info().clone()
}

fuzz_target!(|input: &[u8]| {
    let Some((&[split, chunk_length], rest)) = input.split_first_chunk() else {
        return;
    };
    let (client, server) = rest.split_at(rest.len() * usize::from(split) / 256);
    let whole = learn(client, server, usize::MAX);
    let chunks = learn(client, server, usize::from(chunk_length).max(1));
    assert_eq!(whole, chunks);
    let name_length = whole.server_name.as_ref().map_or(1, |name| name.len());
    assert!((1..=255).contains(&name_length));
    assert!(!(whole.is_rejected_by_client() && whole.setup_us().is_some()));
    failure(&whole);
    looks_like_tls(client);
});
