//! TCP as a bystander sees it: round trips on both sides of the tap, loss, handshake and end.

mod connection;
mod half;
mod handshake;
mod holes;
mod numbering;
mod options;
mod pace;
mod repeats;
mod reset;
mod round_trip;
mod segment;
pub mod stream;

pub use connection::{Blocked, Connection, HalfReport, Method};
pub use half::Recovery;
pub use handshake::Handshake;
pub use pace::Limit;
pub use reset::Reset;
pub use segment::Segment;

/// No stack in use has a shorter retransmission timeout.
const LEAST_TIMEOUT_US: u32 = 200_000;

/// Whether sequence number `left` lies before `right` (RFC 9293 3.4, modulo 2^32).
#[inline]
pub(crate) fn before(left: u32, right: u32) -> bool {
    (left.wrapping_sub(right) as i32) < 0
}

/// The time between two moments in whole microseconds, 0 where the clock went back.
pub(crate) fn micros(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns) / 1000).unwrap_or(u32::MAX)
}
