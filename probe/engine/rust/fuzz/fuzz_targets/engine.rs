//! Any bytes as the packets of a capture, through the whole engine with tables of a few entries. Each
//! frame begins with its link type and its pause, its length, and how much of it was not captured.
#![no_main]

use edgeqoe_core::engine::Pipeline;
use edgeqoe_core::engine::options::Options;
use edgeqoe_core::source::{LinkType, Packet};
use libfuzzer_sys::fuzz_target;

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::Loopback,
    LinkType::Ppp,
    LinkType::RawIp,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
];

/// The pause before a frame, by the two highest bits of its link type: none, 1 ms, 1 s, 30 s.
const PAUSES_NS: [u64; 4] = [0, 1_000_000, 1_000_000_000, 30_000_000_000];

const OPTIONS: &str = r#"{
    "probe_id": "fuzz", "captures": [], "active_timeout_s": 10, "client_address": "full",
    "batch_rows": 20, "batch_interval_s": 10,
    "limits": {"flows": 8, "fragments": 4, "reassembly_bytes": 4096, "clients": 4, "pairs": 4, "names": 4, "bearers": 4},
    "subscriber_prefixes": [], "ran_prefixes": [], "attribution": []
}"#;

fuzz_target!(|input: &[u8]| {
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let mut pipeline = Pipeline::new(&options, "fuzz", b"key", 7).expect("the options are valid");
    let (mut rest, mut time_ns) = (input, 1_700_000_000_000_000_000);
    while let [link, length, uncaptured, next @ ..] = rest {
        let (data, next) = next.split_at(usize::from(*length).min(next.len()));
        time_ns += PAUSES_NS[usize::from(link >> 6)];
        pipeline.on_packet(&Packet {
            time_ns,
            interface: 0,
            link: LINKS[usize::from(link & 0x3f) % LINKS.len()],
            wire_len: data.len() as u32 + u32::from(*uncaptured),
            data,
        });
        pipeline.close_bodies(&[]);
        while pipeline.take_body().is_some() {}
        rest = next;
    }
    pipeline.finish(&[]);
    assert_eq!(count(&pipeline, "flows_live"), 0);
    assert!(count(&pipeline, "records") >= count(&pipeline, "flows"));
});

fn count(pipeline: &Pipeline, name: &str) -> u64 {
    let counters = pipeline.counters();
    counters
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |&(_, value)| value)
}
