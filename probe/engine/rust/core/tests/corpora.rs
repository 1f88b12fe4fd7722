//! The whole engine over captures that other people made, in a debug build: no panic, no overflow,
//! every packet accounted for, the same bytes every time.
//!
//! The captures lie outside the project; without them the tests say so and pass.

mod common;

use std::path::{Path, PathBuf};

use common::captures;
use edgeqoe_core::engine::Pipeline;
use edgeqoe_core::engine::options::Options;
use edgeqoe_core::source::{Event, open_files};

const OPTIONS: &str = r#"{
    "probe_id": "test", "captures": [], "active_timeout_s": 60, "client_address": "full",
    "batch_rows": 500, "batch_interval_s": 30,
    "limits": {"flows": 5000, "fragments": 64, "reassembly_bytes": 1048576, "clients": 1000,
               "pairs": 1000, "names": 1000, "bearers": 1000},
    "subscriber_prefixes": [], "ran_prefixes": [], "attribution": []
}"#;

/// Runs a capture through the engine; returns its bodies and the packets that the source gave.
fn run(path: &Path, options: &str) -> (Vec<Vec<u8>>, u64) {
    run_with(path, options, |_| {})
}

/// The same; `between` is done after each packet.
fn run_with(path: &Path, options: &str, between: impl Fn(&mut Pipeline)) -> (Vec<Vec<u8>>, u64) {
    let options = Options::parse(options).expect("the options are valid");
    let mut pipeline = Pipeline::new(&options, "test", b"key", 7).expect("the options are valid");
    let mut source = open_files(&[path.to_path_buf()], 0).expect("the capture opens");
    // A damaged capture gives an error after its last whole packet: what came before counts.
    while let Ok(Event::Packet(packet)) = source.next() {
        pipeline.on_packet(&packet);
        between(&mut pipeline);
        if pipeline.is_body_due() {
            pipeline.close_bodies(source.ledger());
        }
    }
    pipeline.finish(source.ledger());
    let packets = source
        .ledger()
        .iter()
        .map(|interface| interface.received - interface.no_timestamp);
    let bodies = std::iter::from_fn(|| pipeline.take_body()).collect();
    (bodies, packets.sum())
}

#[test]
fn every_capture_gives_the_same_bodies_twice() {
    for path in captures() {
        let (first, packets) = run(&path, OPTIONS);
        let (second, _) = run(&path, OPTIONS);
        assert!(first == second, "{}", path.display());
        assert!(packets == 0 || !first.is_empty(), "{}", path.display());
    }
}

#[test]
fn no_record_depends_on_whether_flows_rest() {
    let differ = |path: &PathBuf| {
        let (awake, _) = run(path, OPTIONS);
        let (rested, _) = run_with(path, OPTIONS, Pipeline::rest);
        awake != rested
    };
    let differing: Vec<PathBuf> = captures().into_iter().filter(differ).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn tiny_tables_survive_every_capture() {
    let tiny = OPTIONS
        .replace("\"flows\": 5000", "\"flows\": 3")
        .replace("\"fragments\": 64", "\"fragments\": 1")
        .replace(
            "\"clients\": 1000, \"names\": 1000",
            "\"clients\": 1, \"names\": 1",
        )
        .replace("\"active_timeout_s\": 60", "\"active_timeout_s\": 1");
    for path in captures() {
        let (bodies, _) = run(&path, &tiny);
        assert!(!bodies.is_empty(), "{}", path.display());
    }
}
