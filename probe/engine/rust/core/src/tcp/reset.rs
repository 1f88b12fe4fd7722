//! Resets (RFC 9293 3.5.2), and what tells a forged one from the sender's own.

use super::before;
use super::segment::Segment;
use crate::flow::Direction;
use crate::flow::keeper::Keeper;

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
    /// Keeps them, or gives them back.
    pub fn keep(&mut self, keeper: &mut impl Keeper) {
        // One is told by the other where they are alike; no packet has a limit of 0.
        let mut other = if self.high == self.low { 0 } else { self.high };
        let mut range = u16::from(self.low) | u16::from(other) << 8;
        keeper.short(&mut range);
        [self.low, other] = range.to_le_bytes();
        self.high = if other == 0 { self.low } else { other };
    }

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

/// What is overtaken on the way is overtaken by less, mostly.
const REORDERING_NS: u64 = 1_000_000;

/// What one side had sent when it sent a reset, or another in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    /// Behind its last byte.
    pub next: u32,
    /// Its last acknowledgment.
    pub acknowledgment: u32,
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
    pub(super) sender: Sender,
    pub(super) hop_limit: u8,
    /// It came from another number of hops away than its sender.
    pub ttl_mismatch: bool,
    /// A receiver would not accept its sequence number (RFC 5961 3.2).
    pub sequence_mismatch: bool,
    /// Others followed at sequence numbers that its sender had not reached.
    pub sequence_guessed: bool,
    /// Its sender went on as if it knew nothing of it.
    pub sender_continues: bool,
}

impl Reset {
    /// Whether somebody between the two ends made it up.
    ///
    /// A host that has reset a connection sends nothing more on it, so a sender that goes on did
    /// not send the reset; nor does it reset where it has not been. A hop limit of its own points to
    /// a box on the way; that may be one that acts for the server, a load balancer, which no
    /// bystander can tell from a forger. A sequence number out of the window alone does not end a
    /// connection, so it only adds to the evidence.
    pub fn is_injected(&self) -> bool {
        self.ttl_mismatch || self.sequence_guessed || self.sender_continues
    }

    /// Codes of what shows that it is forged.
    pub fn codes(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.ttl_mismatch, "reset_ttl_mismatch"),
            (self.sequence_mismatch, "reset_sequence_mismatch"),
            (self.sequence_guessed, "reset_sequence_guessed"),
            (self.sender_continues, "sender_continues_after_reset"),
        ]
        .into_iter()
        .filter_map(|(is_seen, code)| is_seen.then_some(code))
    }

    /// Takes in another reset in the name of the same sender. Where many packets meet a closed
    /// connection, each is answered by one, but at what was sent and acknowledged (RFC 9293 3.10.7.1).
    pub(super) fn on_another(&mut self, sequence: u32) {
        let is_ahead = before(self.sender.next, sequence);
        self.sequence_guessed |= is_ahead && sequence != self.sequence;
    }

    /// Whether a later segment of its sender shows that it knows nothing of the reset: it carries new
    /// data, or acknowledges what it had not. What is older may have been overtaken on the way.
    pub(super) fn is_unknown_to(&self, segment: &Segment<'_>, time_ns: u64) -> bool {
        let sent = if self.sequence_mismatch {
            self.sender.next
        } else {
            self.sequence
        };
        let sends = segment.payload_len > 0 && before(sent, segment.sequence_end());
        let hears = segment.has_ack()
            && before(self.sender.acknowledgment, segment.acknowledgment)
            && time_ns.saturating_sub(self.time_ns) >= REORDERING_NS;
        segment.is_syn_ack() || sends || hears
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
