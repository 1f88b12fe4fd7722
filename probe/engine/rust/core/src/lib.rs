//! EdgeQoE's packet engine: from a capture source to columns of session records.
//!
//! Data flows one way, and a module imports only from those to its left:
//! `source < decap < flow < tcp | app | control < record < engine`.
//! The core has no Python, no wall clock and no logging: time is packet time, and whatever goes
//! wrong with a packet is counted by reason.
#![deny(unsafe_code)]

pub mod app;
pub mod control;
pub mod decap;
pub mod engine;
pub mod flow;
mod keyed;
pub mod memory;
pub mod record;
#[cfg(test)]
mod reference;
pub mod sha256;
pub mod source;
pub mod tcp;
