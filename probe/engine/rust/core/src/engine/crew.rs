//! Several threads that share the work of one capture, and give what one would (ADR 0031).
//!
//! The *front* reads packets, takes them apart, tells copies, keeps time and account, and shares packets out by
//! `shard::Sharing`. *Hands* measure the flows of their part. What concerns more than one flow they
//! write down (`log`), and the *back* takes it in, in the order of packets, and writes the records. So each
//! table is one thread's: of packets the front's, of flows a hand's, of clients, names and records the
//! back's. The control plane alone is learned by every hand.
//!
//! Two joins are made within a hand, and differ from those of one thread where their flows are in two:
//! a QUIC connection that goes on from an address of another part is not known again, and
//! an ICMP error's own flow takes its direction from the flow that it is about where both are in one part.

mod back;
mod batch;
mod front;
mod hand;
mod icmp_homes;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crate::control::attribution::AttributionMap;
use crate::control::saved::Kept;
use crate::engine::log::{Entry, Moment};
use crate::engine::options::Options;
use crate::engine::pipeline::{Counters, site_of};
use crate::engine::shard::{Part, Sharing};
use crate::source::{Source, SourceError};
use back::Back;
use batch::Batch;
use front::Front;
use hand::Hand;

/// Batches on their way to a hand, and entries on their way back, before the sender waits: with a batch in
/// the making, in work and on its way back, some 8 for each hand (see `batch` for how large one is).
const QUEUED: usize = 4;

/// What a crew asks of whoever runs it.
pub trait Employer: Sync {
    /// No further packet is wanted.
    fn is_stopped(&self) -> bool;
    /// Another attribution map, since the last call.
    fn newer_map(&self) -> Option<Arc<AttributionMap>>;
    /// Takes a body; waits while there is no room. False if nobody wants it.
    fn take_body(&self, body: Vec<u8>) -> bool;
    /// Takes note of totals since the start, and of bytes read and bytes in all.
    fn note(&self, counters: Counters, progress: Option<(u64, u64)>);
}

/// How a crew's work ended, after the last body.
#[derive(Debug)]
pub struct Outcome {
    /// One line.
    pub failure: Option<String>,
    /// What is known of the mobile network's sessions, for the next run.
    pub bearers: Vec<u8>,
}

/// What one thread hands to the back.
struct Chunk {
    entries: Vec<(Moment, Entry)>,
    /// No more comes of this batch's packets.
    ends_batch: bool,
}

/// Totals of each thread, as it last noted them.
#[derive(Default)]
struct Board(Vec<Mutex<Counters>>);

impl Board {
    fn of(threads: usize) -> Self {
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    fn note(&self, thread: usize, counters: Counters) {
        if let Some(place) = self.0.get(thread) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        }
    }

    fn sums(&self) -> Counters {
        let mut sums = Counters::new();
        for place in &self.0 {
            for &(name, value) in &*place.lock().unwrap_or_else(PoisonError::into_inner) {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name, value)),
                }
            }
        }
        sums
    }
}

/// The threads of one capture, before they start.
pub struct Crew {
    front: Front,
    hands: Vec<Hand>,
    back: Back,
    kept: Option<Kept>,
}

impl Crew {
    /// `hands` threads measure flows, one at least; one each reads, and writes. The error is one line.
    pub fn new(
        options: &Options,
        capture_point: &str,
        site_key: &[u8],
        hands: u16,
        kept: Option<Kept>,
    ) -> Result<Self, String> {
        let of = hands.max(1);
        let seed = RandomState::new().hash_one(capture_point);
        let sharing = Sharing::new(options, of)?;
        let stamp = site_of(Part::WHOLE, options, capture_point, site_key)?.stamp;
        let hand = |number| {
            let site = site_of(Part { number, of }, options, capture_point, site_key)?;
            Ok(Hand::new(
                site,
                &options.limits,
                sharing.clone(),
                kept.clone(),
                seed,
            ))
        };
        Ok(Self {
            front: Front::new(options, sharing.clone(), seed),
            hands: (0..of).map(hand).collect::<Result<_, String>>()?,
            back: Back::new(options, capture_point, stamp),
            kept,
        })
    }

    /// Works until the source ends or fails, or until nothing more is wanted.
    pub fn run(self, source: &mut dyn Source, employer: &dyn Employer) -> Outcome {
        let Self {
            front,
            hands,
            back,
            kept,
        } = self;
        let board = Board::of(hands.len() + 2);
        // Nobody takes bodies any more.
        let is_left = AtomicBool::new(false);
        let (board, is_left) = (&board, &is_left);
        let (failure, bearers) = thread::scope(|scope| {
            let (mut to_hands, mut logs, mut threads) = (Vec::new(), Vec::new(), Vec::new());
            for (number, hand) in hands.into_iter().enumerate() {
                let (batches, log, line) = line();
                to_hands.push(batches);
                logs.push(log);
                let run = move || hand.run(&line, &|counters| board.note(number, counters));
                threads.push(scope.spawn(run));
            }
            let thread_of_back = to_hands.len();
            let (to_back, log) = sync_channel(QUEUED);
            logs.push(log);
            let writer = scope.spawn(move || {
                back.run(
                    logs,
                    |body| {
                        let is_taken = employer.take_body(body);
                        is_left.fetch_or(!is_taken, Ordering::Relaxed);
                        is_taken
                    },
                    |counters| board.note(thread_of_back, counters),
                )
            });
            let note = |counters: Counters, source: &dyn Source| {
                board.note(thread_of_back + 1, counters);
                employer.note(board.sums(), source.progress());
            };
            let is_stopped = || employer.is_stopped() || is_left.load(Ordering::Relaxed);
            let lines = front::Lines { to_hands, to_back };
            let failure = front.run(source, lines, is_stopped, &|| employer.newer_map(), note);
            (
                failure.map(|error: SourceError| error.to_string()),
                joined(threads, writer),
            )
        });
        employer.note(board.sums(), source.progress());
        match bearers {
            Ok(bearers) => Outcome {
                failure,
                bearers: bearers.unwrap_or_else(|| kept.unwrap_or_default().write()),
            },
            Err(lost) => Outcome {
                failure: Some(lost.into()),
                bearers: Vec::new(),
            },
        }
    }
}

/// Between the front and a hand: batches go, and come back to be filled again.
struct ToHand {
    batches: SyncSender<Batch>,
    emptied: Receiver<Batch>,
}

/// A hand's end of it, and its way to the back.
struct Line {
    batches: Receiver<Batch>,
    emptied: SyncSender<Batch>,
    log: SyncSender<Chunk>,
}

fn line() -> (ToHand, Receiver<Chunk>, Line) {
    let (batches, work) = sync_channel(QUEUED);
    let (back, emptied) = sync_channel(2 * QUEUED);
    let (log, logs) = sync_channel(QUEUED);
    let to_hand = ToHand { batches, emptied };
    let line = Line {
        batches: work,
        emptied: back,
        log,
    };
    (to_hand, logs, line)
}

/// Waits for all threads; gives what the lead knows of the mobile network, or what went wrong.
fn joined(
    hands: Vec<ScopedJoinHandle<'_, Option<Vec<u8>>>>,
    back: ScopedJoinHandle<'_, bool>,
) -> Result<Option<Vec<u8>>, &'static str> {
    const LOST: &str = "a thread of the engine ended unexpectedly: the records are not complete";
    let hands: Vec<_> = hands.into_iter().map(ScopedJoinHandle::join).collect();
    let is_whole = back.join().unwrap_or(false);
    let mut hands = hands.into_iter();
    let lead = hands.next().and_then(Result::ok);
    if !is_whole || hands.any(|hand| hand.is_err()) {
        return Err(LOST);
    }
    lead.ok_or(LOST)
}
