//! Flows: which packets belong together, and when a flow's time is up.
//!
//! The table is generic over its entry, so it knows nothing of the protocols above it.

pub mod keeper;
mod key;
pub mod samples;
mod table;
mod wheel;

pub use key::{Direction, FlowKey, protocol_number};
pub use table::{FlowId, Table};
pub use wheel::Wheel;
