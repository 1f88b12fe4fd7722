//! Holes in one direction's sequence space: was a segment lost before the tap, behind it, or late?

use super::before;

/// Most holes remembered at once; beyond that the oldest is forgotten.
const MAX_HOLES: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
struct Hole {
    start: u32,
    end: u32,
    opened_ns: u64,
}

/// What an old segment (one that does not carry the direction forward) turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldSegment {
    /// It fills a hole too soon for anyone to have asked for it again.
    OutOfOrder,
    /// It fills a hole: the original was lost before it reached the tap.
    LostBeforeTap,
    /// The tap saw these bytes before: they were lost behind it, or sent again needlessly.
    LostAfterTap,
}

/// The holes of one direction. Bounded; empty for most flows, so it is boxed by its owner.
#[derive(Debug, Clone, Default)]
pub struct Holes {
    holes: [Hole; MAX_HOLES],
    used: usize,
}

impl Holes {
    pub fn open(&mut self, start: u32, end: u32, time_ns: u64) {
        if self.used == MAX_HOLES {
            self.remove(0);
        }
        self.holes[self.used] = Hole {
            start,
            end,
            opened_ns: time_ns,
        };
        self.used += 1;
    }

    fn remove(&mut self, position: usize) {
        self.holes.copy_within(position + 1..self.used, position);
        self.used -= 1;
    }

    /// Says what the old segment [start, end) is, and fills the holes it touches.
    ///
    /// A retransmission needs a round trip from the tap to the receiver, the sender and back, so
    /// what fills a hole faster than `round_trip_ns` was only reordered.
    pub fn classify(
        &mut self,
        start: u32,
        end: u32,
        time_ns: u64,
        round_trip_ns: u64,
    ) -> OldSegment {
        let touched = (0..self.used).find(|&position| {
            let hole = &self.holes[position];
            before(start, hole.end) && before(hole.start, end)
        });
        let Some(position) = touched else {
            return OldSegment::LostAfterTap;
        };
        let waited = time_ns.saturating_sub(self.holes[position].opened_ns);
        self.fill(position, start, end);
        if waited < round_trip_ns {
            OldSegment::OutOfOrder
        } else {
            OldSegment::LostBeforeTap
        }
    }

    fn fill(&mut self, position: usize, start: u32, end: u32) {
        let hole = self.holes[position];
        let left = before(hole.start, start);
        let right = before(end, hole.end);
        match (left, right) {
            (false, false) => self.remove(position),
            (true, false) => self.holes[position].end = start,
            (false, true) => self.holes[position].start = end,
            (true, true) => {
                self.holes[position].end = start;
                self.open(end, hole.end, hole.opened_ns);
            }
        }
    }

    /// Forgets holes that the receiver has acknowledged; returns whether there was one: bytes that
    /// arrived although the tap never saw them.
    pub fn acknowledged(&mut self, up_to: u32) -> bool {
        let known = self.used;
        let mut position = 0;
        while position < self.used {
            if before(up_to, self.holes[position].end) {
                position += 1;
            } else {
                self.remove(position);
            }
        }
        self.used < known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn with_hole() -> Holes {
        let mut holes = Holes::default();
        holes.open(100, 300, 0);
        holes
    }

    #[test]
    fn what_fills_a_hole_within_a_round_trip_is_reordered() {
        assert_eq!(
            with_hole().classify(100, 300, 5 * MS, 20 * MS),
            OldSegment::OutOfOrder
        );
    }

    #[test]
    fn what_fills_a_hole_later_was_lost_before_the_tap() {
        assert_eq!(
            with_hole().classify(100, 300, 30 * MS, 20 * MS),
            OldSegment::LostBeforeTap
        );
    }

    #[test]
    fn bytes_seen_before_were_lost_behind_the_tap() {
        let mut holes = with_hole();
        assert_eq!(
            holes.classify(0, 100, 30 * MS, 20 * MS),
            OldSegment::LostAfterTap
        );
        holes.classify(100, 300, 30 * MS, 20 * MS);
        assert_eq!(
            holes.classify(100, 300, 60 * MS, 20 * MS),
            OldSegment::LostAfterTap
        );
    }

    #[test]
    fn a_hole_filled_in_the_middle_leaves_both_ends_open() {
        let mut holes = with_hole();
        holes.classify(150, 200, 30 * MS, 20 * MS);
        assert_eq!(
            holes.classify(200, 300, 30 * MS, 20 * MS),
            OldSegment::LostBeforeTap
        );
        assert_eq!(
            holes.classify(100, 150, 30 * MS, 20 * MS),
            OldSegment::LostBeforeTap
        );
        assert_eq!(holes.used, 0);
    }

    #[test]
    fn an_acknowledged_hole_means_the_tap_missed_bytes() {
        let mut holes = with_hole();
        assert!(!holes.acknowledged(299));
        assert!(holes.acknowledged(300));
        assert!(!holes.acknowledged(300));
    }

    #[test]
    fn holes_work_across_the_wrap_of_sequence_numbers() {
        let mut holes = Holes::default();
        holes.open(u32::MAX - 10, 10, 0);
        assert_eq!(
            holes.classify(u32::MAX - 10, 10, 30 * MS, 20 * MS),
            OldSegment::LostBeforeTap
        );
    }

    #[test]
    fn more_holes_than_are_kept_do_not_grow_memory() {
        let mut holes = Holes::default();
        (0..100).for_each(|step| holes.open(step * 10, step * 10 + 5, 0));
        assert_eq!(holes.used, MAX_HOLES);
    }
}
