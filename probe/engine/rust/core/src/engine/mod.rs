//! The engine: packets of one capture in, bodies of batches out (`pipeline::Pipeline`).
//!
//! `duplicates` sorts out what a mirror shows twice, `tracker` finds each packet's `session` and knows when
//! records are due; `emit` writes them; `application` says what a session carries, `verdict` what
//! became of it; `clients` knows what a client's sessions say about each other.

mod application;
mod clients;
mod clock;
mod duplicates;
mod emit;
mod evidence;
mod exchange;
mod failure;
mod flows;
mod icmp;
mod ledger;
mod names;
mod notes;
pub mod options;
mod ping;
mod pipeline;
mod place;
mod quic_ids;
mod residents;
mod session;
mod shared;
mod signalling;
mod site;
mod tracker;
mod transport;
mod tunnelled;
mod verdict;
mod volume;

pub use pipeline::{Counters, Pipeline};
