//! Resets (RFC 9293 3.5.2), and what tells a forged one from the sender's own.

use super::before;
use crate::flow::Direction;

/// Hops by which two routes between the same hosts may differ. Load balancing among equal paths
/// makes one or two; a box on the way that forges packets with its own initial value is further off.
const ROUTE_HOPS: u8 = 3;
/// No receive window is larger (RFC 7323 2.3).
const LARGEST_WINDOW: u32 = 1 << 30;

/// The hop limits that a sender's packets had at the tap.
#[derive(Debug, Clone, Copy, Default)]
pub struct HopLimits {
    low: u8,
    high: u8,
}

impl HopLimits {
    /// 0 is "not known".
    #[inline]
    pub fn add(&mut self, hop_limit: u8) {
        if hop_limit == self.low && hop_limit == self.high || hop_limit == 0 {
            return;
        }
        let first = self.high == 0;
        self.low = if first {
            hop_limit
        } else {
            self.low.min(hop_limit)
        };
        self.high = self.high.max(hop_limit);
    }

    /// Whether no route explains this hop limit beside the others.
    pub fn exclude(self, hop_limit: u8) -> bool {
        let known = self.high != 0 && hop_limit != 0;
        known
            && (hop_limit < self.low.saturating_sub(ROUTE_HOPS)
                || hop_limit > self.high.saturating_add(ROUTE_HOPS))
    }
}

/// The reset that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    pub by: Direction,
    /// Neither side had sent a FIN, and data of the other side was unanswered or the resetting
    /// side's own data was in flight.
    pub unfinished: bool,
    pub time_ns: u64,
    pub(super) sequence: u32,
    /// What its sender had sent up to then.
    pub(super) next: u32,
    pub(super) hop_limit: u8,
    /// It came from another number of hops away than its sender.
    pub ttl_mismatch: bool,
    /// A receiver would not accept its sequence number (RFC 5961 3.2).
    pub sequence_mismatch: bool,
    /// Its sender went on as if it knew nothing of it.
    pub sender_continues: bool,
}

impl Reset {
    /// Whether somebody between the two ends made it up.
    ///
    /// A host that has reset a connection sends no more data on it, so a sender that goes on did
    /// not send the reset. A hop limit of its own points to a box on the way; that may be one that
    /// acts for the server, a load balancer, which no bystander can tell from a forger. A sequence
    /// number out of the window alone does not end a connection, so it only adds to the evidence.
    pub fn is_injected(&self) -> bool {
        self.ttl_mismatch || self.sender_continues
    }

    /// Comma-joined codes of what shows that it is forged.
    pub fn evidence(&self) -> &'static str {
        match (
            self.ttl_mismatch,
            self.sequence_mismatch,
            self.sender_continues,
        ) {
            (true, true, true) => {
                "reset_ttl_mismatch,reset_sequence_mismatch,sender_continues_after_reset"
            }
            (true, true, false) => "reset_ttl_mismatch,reset_sequence_mismatch",
            (true, false, true) => "reset_ttl_mismatch,sender_continues_after_reset",
            (false, true, true) => "reset_sequence_mismatch,sender_continues_after_reset",
            (true, false, false) => "reset_ttl_mismatch",
            (false, true, false) => "reset_sequence_mismatch",
            (false, false, _) => "sender_continues_after_reset",
        }
    }
}

/// Whether a reset with `sequence` is one that its sender could have made: what it has sent up to
/// `next`, acknowledged up to `acknowledged` (it copies an acknowledgment where it knows of no
/// connection), or further within a window, if the tap missed the last segments.
pub(super) fn is_plausible(sequence: u32, acknowledged: u32, next: u32) -> bool {
    let lowest = if before(next, acknowledged) {
        next
    } else {
        acknowledged
    };
    sequence.wrapping_sub(lowest) <= LARGEST_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_limits_of_another_route_are_not_excluded() {
        let mut hops = HopLimits::default();
        assert!(!hops.exclude(64));
        [55, 56, 0].into_iter().for_each(|hop| hops.add(hop));
        assert!(!hops.exclude(52) && !hops.exclude(59) && !hops.exclude(0));
        assert!(hops.exclude(51) && hops.exclude(60) && hops.exclude(250));
    }

    #[test]
    fn a_reset_from_before_the_window_is_not_plausible() {
        assert!(is_plausible(1000, 900, 1000));
        assert!(is_plausible(900, 900, 1000));
        assert!(is_plausible(5000, 900, 1000));
        assert!(!is_plausible(899, 900, 1000));
        assert!(!is_plausible(0x8000_0000, 900, 1000));
        assert!(is_plausible(5, u32::MAX - 5, u32::MAX));
    }
}
