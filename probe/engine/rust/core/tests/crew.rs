//! Several threads give what one gives: the same bodies, byte for byte, and the same totals.
//!
//! The captures lie outside the project; without them the tests say so and pass.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::captures;
use edgeqoe_core::control::attribution::AttributionMap;
use edgeqoe_core::engine::crew::{Crew, Employer, Outcome};
use edgeqoe_core::engine::options::Options;
use edgeqoe_core::engine::{Counters, Pipeline};
use edgeqoe_core::source::{Event, Source, open_files};

/// Small bodies, so that many end within a batch of packets.
const OPTIONS: &str = r#"{
    "probe_id": "test", "captures": [], "active_timeout_s": 60, "client_address": "full",
    "batch_rows": 7, "batch_interval_s": 5,
    "limits": {"flows": 100000, "fragments": 4096, "reassembly_bytes": 16777216,
               "clients": 100000, "pairs": 100000, "names": 100000, "bearers": 100000},
    "subscriber_prefixes": [], "ran_prefixes": [], "attribution": []
}"#;

/// What came of a capture.
#[derive(Debug, PartialEq, Eq, Default)]
struct Found {
    bodies: Vec<Vec<u8>>,
    totals: BTreeMap<&'static str, u64>,
    bearers: Vec<u8>,
    failure: Option<String>,
}

fn totals(counters: Counters) -> BTreeMap<&'static str, u64> {
    let mut totals: BTreeMap<&'static str, u64> = counters.into_iter().collect();
    totals.remove("icmp_homes_shed");
    totals
}

fn by_one(source: &mut dyn Source, options: &Options) -> Found {
    let mut pipeline = Pipeline::new(options, "test", b"key", 7).expect("the options are valid");
    let mut failure = None;
    loop {
        match source.next() {
            Ok(Event::Packet(packet)) => pipeline.on_packet(&packet),
            Ok(Event::Idle(now_ns)) => pipeline.on_time(now_ns),
            Ok(Event::End) => break,
            Err(error) => {
                failure = Some(error.to_string());
                break;
            }
        }
        if pipeline.is_body_due() {
            pipeline.close_bodies(source.ledger());
        }
    }
    pipeline.finish(source.ledger());
    Found {
        bodies: std::iter::from_fn(|| pipeline.take_body()).collect(),
        totals: totals(pipeline.counters()),
        bearers: pipeline.save_bearers(),
        failure,
    }
}

/// Keeps what a crew gives; takes `room` bodies at most.
struct Keeper {
    bodies: Mutex<Vec<Vec<u8>>>,
    counters: Mutex<Counters>,
    room: usize,
    stop: AtomicBool,
}

impl Keeper {
    fn with_room(room: usize) -> Self {
        Self {
            bodies: Mutex::default(),
            counters: Mutex::default(),
            room,
            stop: AtomicBool::new(false),
        }
    }
}

impl Employer for Keeper {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn newer_map(&self) -> Option<Arc<AttributionMap>> {
        None
    }

    fn take_body(&self, body: Vec<u8>) -> bool {
        let mut bodies = self.bodies.lock().unwrap();
        bodies.push(body);
        bodies.len() < self.room
    }

    fn note(&self, counters: Counters, _progress: Option<(u64, u64)>) {
        *self.counters.lock().unwrap() = counters;
    }
}

fn worked(source: &mut dyn Source, options: &Options, hands: u16, keeper: &Keeper) -> Outcome {
    let crew = Crew::new(options, "test", b"key", hands, None).expect("the options are valid");
    crew.run(source, keeper)
}

fn by_crew(source: &mut dyn Source, options: &Options, hands: u16) -> Found {
    let keeper = Keeper::with_room(usize::MAX);
    let outcome = worked(source, options, hands, &keeper);
    Found {
        bodies: keeper.bodies.into_inner().unwrap(),
        totals: totals(keeper.counters.into_inner().unwrap()),
        bearers: outcome.bearers,
        failure: outcome.failure,
    }
}

fn opened(path: &Path) -> Box<dyn Source> {
    open_files(&[path.to_path_buf()], 0).expect("the capture opens")
}

#[test]
fn any_number_of_threads_gives_what_one_gives() {
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let mut differing = Vec::new();
    for path in captures() {
        let one = by_one(&mut *opened(&path), &options);
        for hands in [1, 2, 3, 7] {
            let several = by_crew(&mut *opened(&path), &options, hands);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            for (what, is_same) in [
                ("bodies", one.bodies == several.bodies),
                ("totals", one.totals == several.totals),
                ("bearers", one.bearers == several.bearers),
                ("failure", one.failure == several.failure),
            ] {
                if !is_same {
                    differing.push(format!("{name} by {hands}: {what}"));
                }
            }
            if one.totals != several.totals {
                eprintln!("{name} by {hands}: {:?}\n{:?}", one.totals, several.totals);
            }
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

/// The capture with most packets, in which many batches follow each other.
fn longest() -> Option<PathBuf> {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    captures().into_iter().max_by_key(size)
}

#[test]
fn what_the_operator_says_changes_nothing_about_it() {
    let text = OPTIONS
        .replace(
            r#""subscriber_prefixes": []"#,
            r#""subscriber_prefixes": ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"]"#,
        )
        .replace(r#""active_timeout_s": 60"#, r#""active_timeout_s": 1"#)
        .replace(r#""batch_rows": 7"#, r#""batch_rows": 1"#);
    let options = Options::parse(&text).expect("the options are valid");
    for path in captures() {
        let one = by_one(&mut *opened(&path), &options);
        let several = by_crew(&mut *opened(&path), &options, 5);
        assert!(one == several, "{}", path.display());
    }
}

#[test]
fn a_crew_ends_where_nobody_takes_its_bodies() {
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let Some(path) = longest() else { return };
    for room in [1, 2, 9] {
        let keeper = Keeper::with_room(room);
        worked(&mut *opened(&path), &options, 3, &keeper);
        assert_eq!(keeper.bodies.into_inner().unwrap().len(), room);
    }
}

#[test]
fn a_crew_that_is_stopped_ends_its_flows() {
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let Some(path) = longest() else { return };
    let keeper = Keeper::with_room(usize::MAX);
    keeper.stop.store(true, Ordering::Relaxed);
    let outcome = worked(&mut *opened(&path), &options, 2, &keeper);
    assert_eq!(outcome.failure, None);
    let bodies = keeper.bodies.into_inner().unwrap();
    assert_eq!(bodies.len(), 1, "the account of no packet");
}

#[test]
fn contexts_of_an_earlier_run_are_given_back_unused() {
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let signalling = captures().into_iter();
    let kept = signalling.map(|path| by_one(&mut *opened(&path), &options).bearers);
    let Some(saved) = kept.max_by_key(Vec::len) else {
        return;
    };
    let kept = edgeqoe_core::control::saved::Kept::read(&saved).expect("what was saved");
    let keeper = Keeper::with_room(usize::MAX);
    keeper.stop.store(true, Ordering::Relaxed);
    let Some(path) = longest() else { return };
    let crew = Crew::new(&options, "test", b"key", 2, Some(kept)).expect("valid options");
    let outcome = crew.run(&mut *opened(&path), &keeper);
    assert!(outcome.bearers == saved);
}
