//! The numbers that an end gives its packets: a gap in them is a packet lost before the tap.

use super::LEAST_TIMEOUT_US;
use super::round_trip::Moment;
use crate::flow::keeper::Keeper;

/// Steps of one in a row after which a sender is taken to count the packets of a connection with
/// its IPv4 identification. RFC 6864 leaves the field free; Linux counts in it, socket by socket.
const STEPS_TO_TRUST: u8 = 8;
/// A larger step is no gap, but a sender who does not count.
const LARGEST_GAP: u16 = 16;

/// IPv4 identifications of one direction's packets.
#[derive(Debug, Default, Clone, Copy)]
pub struct Numbering {
    last: u16,
    in_step: u8,
    heard: Moment,
}

impl Numbering {
    pub fn is_used(&self) -> bool {
        self.heard != Moment::default()
    }

    /// Keeps it, or gives it back.
    pub fn keep(&mut self, keeper: &mut impl Keeper, now: Moment) {
        keeper.byte(&mut self.in_step);
        keeper.short(&mut self.last);
        self.heard.keep(keeper, now);
    }

    /// Takes in a packet. True if packets between it and the one before are missing, and the sender
    /// had been silent for longer than a retransmission timeout: what is missing lies within that
    /// silence. IPv6 has no identification (0), and so no gaps.
    pub fn misses_one(&mut self, identification: u16, now: Moment) -> bool {
        let step = identification.wrapping_sub(self.last);
        let silence_us = now.since(self.heard).unwrap_or(0);
        let trusted = self.in_step >= STEPS_TO_TRUST;
        self.in_step = match step {
            1 => self.in_step.saturating_add(1),
            2..=LARGEST_GAP if trusted => self.in_step,
            _ => 0,
        };
        self.last = identification;
        self.heard = now;
        trusted && (2..=LARGEST_GAP).contains(&step) && silence_us >= LEAST_TIMEOUT_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn counted(from: u16) -> Numbering {
        let mut numbering = Numbering::default();
        for step in 0..20 {
            let now = Moment::of(SECOND + u64::from(step));
            assert!(!numbering.misses_one(from.wrapping_add(step), now));
        }
        numbering
    }

    #[test]
    fn a_gap_behind_a_silence_is_a_packet_lost_before_the_tap() {
        for from in [100u16, 65_530] {
            let next = from.wrapping_add(20);
            let late = Moment::of(2 * SECOND);
            assert!(counted(from).misses_one(next.wrapping_add(1), late));
            assert!(!counted(from).misses_one(next, late));
            assert!(!counted(from).misses_one(next.wrapping_add(1), Moment::of(SECOND + 99)));
        }
    }

    #[test]
    fn senders_that_do_not_count_have_no_gaps() {
        for identification in [
            |_| 0,
            |n: u16| n.wrapping_mul(2),
            |n: u16| n.wrapping_mul(40_503),
        ] {
            let mut numbering = Numbering::default();
            let any = (0..200).any(|number| {
                numbering.misses_one(
                    identification(number),
                    Moment::of(u64::from(number) * SECOND),
                )
            });
            assert!(!any);
        }
    }
}
