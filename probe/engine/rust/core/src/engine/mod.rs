//! The engine: packets of one capture in, bodies of batches out (`pipeline::Pipeline`).
//!
//! `tracker` finds each packet's `session` and knows when records are due; `emit` writes them;
//! `application` says what a session carries, `failure` what became of it.

mod application;
mod clients;
mod clock;
mod emit;
mod failure;
mod icmp;
mod ledger;
mod names;
mod notes;
pub mod options;
mod ping;
mod pipeline;
mod session;
mod site;
mod tracker;
mod transport;
mod volume;

pub use pipeline::{Counters, Pipeline};
