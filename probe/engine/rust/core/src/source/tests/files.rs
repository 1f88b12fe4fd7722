use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::build::*;
use super::*;
use crate::source::{capture_span, open_files};

fn directory(files: &[(&str, Vec<u8>)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).expect("a file");
    }
    directory
}

fn paths(directory: &TempDir, names: &[&str]) -> Vec<PathBuf> {
    names
        .iter()
        .map(|name| directory.path().join(name))
        .collect()
}

fn read_files(paths: &[PathBuf]) -> Outcome {
    drain(&mut *open_files(paths, 0).expect("the files open"))
}

fn refused(paths: &[PathBuf]) -> String {
    match open_files(paths, 0) {
        Ok(_) => "it opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn seconds(outcome: &Outcome) -> Vec<u64> {
    outcome.times().iter().map(|time| time / SECOND).collect()
}

#[test]
fn files_are_merged_by_packet_time_however_they_overlap() {
    let files = directory(&[
        ("a", pcap_of(&[7, 8, 9])),
        ("b", pcap_of(&[1, 2, 8])),
        ("c", pcapng_of(10)),
    ]);
    let outcome = read_files(&paths(&files, &["a", "b", "c"]));
    let expected = [1, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 8, 8, 9, 9, 10];
    assert_eq!(seconds(&outcome), expected);
    let received: Vec<_> = outcome
        .ledger
        .iter()
        .map(|e| (&e.name[..], e.received))
        .collect();
    assert!(received.contains(&("a", 3)) && received.contains(&("b", 3)));
    assert!(received.contains(&("eth0", 10)));
    assert!(outcome.ledger.iter().all(|entry| entry.time_went_back == 0));
}

#[test]
fn equal_times_go_by_the_order_of_the_files() {
    let one = pcap_header(Order::Little, MICROSECONDS, 1);
    let with = |data: &[u8; 1]| {
        let record = pcap_record(Order::Little, (5, 0), (1, 1), data);
        [one.clone(), record.clone(), record].concat()
    };
    let files = directory(&[("a", with(b"a")), ("b", with(b"b"))]);
    for (order, expected) in [(["a", "b"], "aabb"), (["b", "a"], "bbaa")] {
        let outcome = read_files(&paths(&files, &order));
        let data: Vec<u8> = outcome
            .packets
            .iter()
            .flat_map(|p| p.data.clone())
            .collect();
        assert_eq!(data, expected.as_bytes());
    }
}

#[test]
fn a_directory_gives_its_captures_and_passes_over_the_rest() {
    let files = directory(&[
        ("2.pcap", pcap_of(&[3, 4])),
        ("1.pcapng", pcapng_of(2)),
        ("README", b"what these are".to_vec()),
        ("new.pcap", Vec::new()),
    ]);
    fs::create_dir(files.path().join("deeper")).expect("a directory");
    let outcome = read_files(&[files.path().to_owned()]);
    assert_eq!(seconds(&outcome), [1, 2, 3, 4]);
    assert_eq!(outcome.error, None);
}

#[test]
fn a_directory_without_captures_and_named_files_that_are_none_are_refused() {
    let files = directory(&[("README", b"what these are".to_vec()), ("empty", vec![])]);
    let error = refused(&[files.path().to_owned()]);
    assert!(
        error.ends_with(": there is no capture file in it"),
        "{error}"
    );
    let error = refused(&paths(&files, &["README"]));
    assert!(error.contains("README: not a capture file"), "{error}");
    let error = refused(&paths(&files, &["empty"]));
    assert!(error.ends_with("empty: the file is empty"), "{error}");
    let error = refused(&paths(&files, &["missing"]));
    assert!(error.contains("missing: cannot be opened: "), "{error}");
    assert!(refused(&["-".into(), "-".into()]).contains("can be read only once"));
    assert!(refused(&[]).contains("no file"));
}

#[test]
fn a_damaged_file_of_several_ends_early_and_its_error_comes_last() {
    let whole = pcap_of(&[1, 3, 5]);
    let files = directory(&[
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("good", pcap_of(&[2, 4, 6])),
        ("also-cut", whole[..whole.len() - 2].to_vec()),
    ]);
    let outcome = read_files(&paths(&files, &["cut", "good"]));
    assert_eq!(seconds(&outcome), [1, 2, 3, 4, 6]);
    assert!(
        outcome
            .error()
            .contains("cut: truncated: record at offset 59")
    );
    let outcome = read_files(&paths(&files, &["cut", "good", "also-cut"]));
    assert_eq!(outcome.packets.len(), 7);
    assert!(outcome.error().ends_with("(damaged files besides: 1)"));
}

#[test]
fn files_without_a_timed_packet_are_still_counted() {
    let untimed = [
        section(Order::Little),
        interface(Order::Little, 1, &[option(Order::Little, 2, b"spb")]),
        simple(Order::Little, b"abc"),
    ];
    let files = directory(&[("a", untimed.concat()), ("b", pcap_of(&[1]))]);
    let outcome = read_files(&paths(&files, &["a", "b"]));
    assert_eq!(outcome.packets.len(), 1);
    let entry = outcome.ledger.iter().find(|entry| entry.name == "spb");
    assert_eq!(entry.expect("its ledger").no_timestamp, 1);
}

#[test]
fn many_files_in_a_row_are_one_stream() {
    let contents: Vec<_> = (0..100_u32)
        .map(|hour| {
            (
                format!("{:03}", 99 - hour),
                pcap_of(&[hour * 2, hour * 2 + 1]),
            )
        })
        .collect();
    let named: Vec<_> = contents.iter().map(|(n, b)| (&n[..], b.clone())).collect();
    let files = directory(&named);
    let outcome = read_files(&[files.path().to_owned()]);
    assert_eq!(seconds(&outcome), (0..200).collect::<Vec<u64>>());
}

#[test]
fn progress_goes_from_nothing_to_all_stored_bytes() {
    let files = directory(&[("a", pcap_of(&[1; 100])), ("b", pcap_of(&[2; 50]))]);
    let stored: u64 = ["a", "b"]
        .iter()
        .map(|name| fs::metadata(files.path().join(name)).expect("a file").len())
        .sum();
    let mut source = open_files(&[files.path().to_owned()], 0).expect("it opens");
    assert_eq!(source.progress(), Some((0, stored)));
    drain(&mut *source);
    assert_eq!(source.progress(), Some((stored, stored)));
}

#[test]
fn a_stream_has_no_progress() {
    let source = open(&pcap_of(&[1])).expect("it opens");
    assert_eq!(source.progress(), None);
}

#[test]
fn the_span_is_earliest_and_latest_time_of_all_files() {
    let files = directory(&[("a", pcap_of(&[5, 9, 4])), ("b", pcap_of(&[7, 6]))]);
    let span = capture_span(&paths(&files, &["a", "b"])).expect("a span");
    assert_eq!(span, (4 * SECOND, 9 * SECOND, 5));
}

#[test]
fn a_truncated_tail_shortens_the_span() {
    let whole = pcap_of(&[5, 6, 7]);
    let files = directory(&[("a", whole[..whole.len() - 1].to_vec())]);
    let span = capture_span(&[files.path().to_owned()]).expect("a span");
    assert_eq!(span, (5 * SECOND, 6 * SECOND, 2));
}

#[test]
fn no_span_without_packets_or_of_a_stream() {
    let files = directory(&[("a", pcap_of(&[]))]);
    let error = capture_span(&paths(&files, &["a"])).expect_err("no packet");
    assert!(
        error
            .to_string()
            .ends_with("there is no packet with a time in it")
    );
    let error = capture_span(&["-".into()]).expect_err("a stream");
    assert!(
        error
            .to_string()
            .starts_with("standard input: can be read only once")
    );
}
