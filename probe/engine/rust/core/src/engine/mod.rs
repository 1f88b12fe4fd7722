//! The engine: packets of one capture in, bodies of batches out (`pipeline::Pipeline`).
//!
//! `duplicates` sorts out what a mirror shows twice, `tracker` finds each packet's `session` and knows when records are due; `emit` writes them;
//! `application` says what a session carries, `failure` what became of it.

mod application;
mod clients;
mod clock;
mod duplicates;
mod emit;
mod failure;
mod ledger;
pub mod options;
mod pipeline;
mod quic_ids;
mod session;
mod site;
mod tracker;
mod transport;
mod volume;

pub use pipeline::{Counters, Pipeline};
