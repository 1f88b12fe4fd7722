//! TCP as a bystander sees it: round trips on both sides of the tap, loss, handshake and end.

mod connection;
mod loss;
mod segment;
pub mod stream;

pub(crate) use connection::micros;
pub use connection::{Connection, HalfReport, Handshake};
pub use segment::Segment;

/// Whether sequence number `left` lies before `right` (RFC 9293 3.4, modulo 2^32).
pub(crate) fn before(left: u32, right: u32) -> bool {
    (left.wrapping_sub(right) as i32) < 0
}
