//! Real captures against what tshark's capinfos says of them; skipped where they are absent.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::reference::{captures, shared};
use crate::source::{capture_span, open_files};

/// A file that Wireshark takes for a variant with longer record headers, by a guess at its second
/// record: that record is corrupt by the format that the file states.
const GUESSED: &str = "suricata-verify--fuzz.pcap";

/// A file with packets without a time, for which capinfos then gives no times at all; these are
/// the times that tshark shows, in microseconds.
const UNTIMED: (&str, [u64; 2]) = (
    "gopacket--test202.pcapng",
    [1_340_954_905_298_858, 1_340_954_905_301_858],
);

fn outcome_of(path: &Path) -> Outcome {
    drain(&mut *open_files(&[path.to_owned()], 0).expect("it opens"))
}

#[test]
fn real_captures_give_the_packets_and_times_of_their_truth() {
    let Some(captures) = captures() else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let mut wrong = Vec::new();
    for (path, truth) in captures.iter().filter(|(path, _)| !path.ends_with(GUESSED)) {
        wrong.extend(difference(path, truth).map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(captures.len() > 100);
}

/// Says what differs from the truth: packets, first time and last time to the microsecond.
fn difference(path: &Path, truth: &Value) -> Option<String> {
    let outcome = outcome_of(path);
    let received: u64 = outcome.ledger.iter().map(|entry| entry.received).sum();
    let (first, last, timed) = capture_span(&[path.to_owned()]).expect("a span");
    let expected = times_of(path, truth);
    let right = outcome.error.is_none()
        && timed == outcome.packets.len() as u64
        && received == truth["capture"]["packets"].as_u64().expect("a count")
        && near(first, expected[0])
        && near(last, expected[1]);
    (!right).then(|| {
        format!(
            "{received} packets from {first} to {last}, {:?}",
            outcome.error
        )
    })
}

/// First and last time of the truth, in microseconds.
fn times_of(path: &Path, truth: &Value) -> [u64; 2] {
    if path.ends_with(UNTIMED.0) {
        return UNTIMED.1;
    }
    ["first_time", "last_time"].map(|key| {
        let seconds = truth["capture"][key].as_f64().expect("a time");
        (seconds * 1e6).round() as u64
    })
}

/// The truth keeps times as floating-point seconds: good to a microsecond.
fn near(time_ns: u64, expected_us: u64) -> bool {
    (time_ns / 1_000).abs_diff(expected_us) <= 1
}

#[test]
fn a_corrupt_real_capture_gives_its_packets_then_says_where() {
    let path = shared().join("corpora/dev").join(GUESSED);
    if !path.exists() {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    }
    let outcome = outcome_of(&path);
    assert_eq!(outcome.packets.len(), 1);
    assert!(outcome.error().contains("corrupt record at offset 228"));
}
