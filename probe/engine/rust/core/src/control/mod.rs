//! The control plane of a mobile network: who a packet belongs to and where that subscriber is.
//!
//! Each protocol has a reader that turns bytes into one [`Message`](message::Message), whatever the
//! protocol; what is learned from messages is protocol-neutral from there on.

pub mod attribution;
pub mod identity;
pub mod message;
mod nas;
pub mod ngap;
mod paths;
mod per;
mod ran;
#[cfg(test)]
mod ran_corpus;
#[cfg(test)]
mod ran_tests;
pub mod s1ap;
pub mod sctp;

pub use paths::{PathLimits, PathReport, Paths};
