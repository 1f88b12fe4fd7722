//! Datagrams of both ends of a DTLS association, in any order: a name is one that stands in them.
#![no_main]

use edgeqoe_core::app::dtls::{DtlsTracker, begins_client_hello};
use edgeqoe_core::app::tls::alert::failure;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut tracker = DtlsTracker::default();
    let (mut rest, mut time_ns) = (input, 0);
    while let Some((&[sender, high, low], tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (datagram, tail) = tail.split_at(tail.len().min(length));
        rest = tail;
        begins_client_hello(datagram);
        tracker.on_datagram(sender % 2 == 0, datagram, time_ns);
        time_ns += u64::from(sender) * 1_000_000;
    }
    let info = tracker.info();
    let name_length = info.server_name.as_ref().map_or(1, |name| name.len());
    assert!((1..=255).contains(&name_length));
    assert!(info.setup_us().is_none() || info.client_hello_time_ns.is_some());
    failure(info);
});
