//! The engine: packets of one capture in, bodies of batches out (`pipeline::Pipeline`).
//!
//! `duplicates` sorts out what a mirror shows twice, `tracker` finds each packet's `session` and knows when
//! records are due; `emit` writes them; `application` says what a session carries, `verdict` what
//! became of it; `clients` knows what a client's sessions say about each other.

mod application;
mod aside;
mod body;
mod clients;
mod clock;
pub mod crew;
mod duplicates;
mod emit;
mod evidence;
mod exchange;
mod failure;
mod flows;
mod icmp;
mod joint;
mod ledger;
mod log;
mod names;
mod notes;
pub mod options;
mod ping;
mod pipeline;
mod place;
mod quic_ids;
mod residents;
mod session;
pub mod shard;
mod shared;
mod signalling;
mod site;
mod tracker;
mod transport;
mod tunnelled;
mod verdict;
mod volume;

/// The tables of what sessions say about each other: their keys come off the wire, so each table has a
/// seed of its own. Several times cheaper than the standard library's for keys of some bytes.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;

pub use pipeline::{Counters, Pipeline};
