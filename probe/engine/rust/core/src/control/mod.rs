//! The control plane of a mobile network: who a packet belongs to and where that subscriber is.
//!
//! Each protocol has a reader that turns bytes into one [`Message`](message::Message), whatever the
//! protocol; what is learned from messages is protocol-neutral from there on.

pub mod attribution;
pub mod bearers;
mod cursor;
pub mod gtp;
#[cfg(test)]
mod gtp_corpus;
pub mod gtpv1;
pub mod gtpv2;
pub mod identity;
pub mod learner;
pub mod location;
pub mod message;
mod nas;
pub mod ngap;
pub mod numbering;
mod paths;
mod per;
pub mod pfcp;
pub mod radius;
mod ran;
#[cfg(test)]
mod ran_corpus;
#[cfg(test)]
mod ran_tests;
pub mod reader;
mod recovery;
pub mod s1ap;
#[cfg(test)]
mod samples;
pub mod saved;
pub mod sctp;
pub mod transactions;
pub mod tunnels;
pub mod vault;

pub use paths::{END_MARKER, ERROR_INDICATION, Ends, PathLimits, PathReport, Paths, RoundTrips};
