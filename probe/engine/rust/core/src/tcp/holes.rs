//! Holes in one direction's sequence space as seen at the tap: was what fills one late, or sent
//! again?

use super::before;

/// Most holes remembered at once; beyond that the oldest is forgotten. With SACK a window of 1,000
/// segments has 50 at 5 % loss.
const MAX_HOLES: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Hole {
    start: u32,
    end: u32,
    opened_ns: u64,
    /// Of the segment behind the hole.
    timestamp: Option<u32>,
}

/// A segment at the tap: sequence numbers [start, end), timestamp value, time.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    pub start: u32,
    pub end: u32,
    pub timestamp: Option<u32>,
    pub time_ns: u64,
}

/// What a segment that fills a hole turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// The original, overtaken by later segments.
    Reordered,
    /// A retransmission: the original was lost before it reached the tap.
    LostBeforeTap,
}

/// The holes of one direction, oldest first. Allocated at the first hole, at most [`MAX_HOLES`].
#[derive(Debug, Default)]
pub struct Holes(Vec<Hole>);

impl Holes {
    /// `behind` is the segment that showed the hole [start, end).
    pub fn open(&mut self, start: u32, end: u32, behind: &Sighting) {
        self.insert(Hole {
            start,
            end,
            opened_ns: behind.time_ns,
            timestamp: behind.timestamp,
        });
    }

    fn insert(&mut self, hole: Hole) {
        if self.0.len() == MAX_HOLES {
            self.0.remove(0);
        }
        self.0.push(hole);
    }

    /// Fills the holes that a segment touches and says what it is; None if it touches none.
    ///
    /// A retransmission carries a newer timestamp than the segment behind the hole, an overtaken
    /// original an older one (RFC 7323 4.2). Within one tick, and without timestamps, time decides:
    /// a retransmission needs a round trip from the tap to the receiver, the sender and back, so
    /// what comes sooner than `round_trip_ns` was only late.
    pub fn fill(&mut self, segment: &Sighting, round_trip_ns: u64) -> Option<Filling> {
        let mut filled = None;
        let mut position = 0;
        while position < self.0.len() {
            let hole = self.0[position];
            if before(segment.start, hole.end) && before(hole.start, segment.end) {
                filled = filled.or(Some(hole));
                self.0.remove(position);
                self.keep_rest(position, &hole, segment.start, segment.end);
            } else {
                position += 1;
            }
        }
        filled.map(|hole| hole.judge(segment, round_trip_ns))
    }

    /// Puts back what is left of a hole on either side of [start, end).
    fn keep_rest(&mut self, position: usize, hole: &Hole, start: u32, end: u32) {
        if before(end, hole.end) {
            let right = Hole {
                start: end,
                ..*hole
            };
            self.0.insert(position, right);
        }
        if before(hole.start, start) && self.0.len() < MAX_HOLES {
            let left = Hole {
                end: start,
                ..*hole
            };
            self.0.insert(position, left);
        }
    }

    /// Forgets what of the holes the receiver holds, [start, end); returns whether there was any:
    /// bytes that arrived although the tap never saw them.
    pub fn received(&mut self, start: u32, end: u32) -> bool {
        let whole = |hole: &Hole| !before(hole.start, start) && !before(end, hole.end);
        let known = self.0.len();
        self.0.retain(|hole| !whole(hole));
        self.0.len() < known
    }

    /// Forgets holes that the receiver has acknowledged; returns whether there was one.
    pub fn acknowledged(&mut self, up_to: u32) -> bool {
        let known = self.0.len();
        self.0.retain(|hole| before(up_to, hole.end));
        self.0.len() < known
    }
}

impl Hole {
    fn judge(&self, segment: &Sighting, round_trip_ns: u64) -> Filling {
        let waited = segment.time_ns.saturating_sub(self.opened_ns);
        let too_soon = waited < round_trip_ns;
        let older = match (segment.timestamp, self.timestamp) {
            (Some(value), Some(behind)) if value != behind => before(value, behind),
            _ => too_soon,
        };
        if older {
            Filling::Reordered
        } else {
            Filling::LostBeforeTap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(start: u32, end: u32, time_ms: u64) -> Sighting {
        Sighting {
            start,
            end,
            timestamp: None,
            time_ns: time_ms * MS,
        }
    }

    fn stamped(start: u32, end: u32, time_ms: u64, timestamp: u32) -> Sighting {
        Sighting {
            timestamp: Some(timestamp),
            ..seen(start, end, time_ms)
        }
    }

    fn with_hole() -> Holes {
        let mut holes = Holes::default();
        holes.open(100, 300, &seen(300, 400, 0));
        holes
    }

    #[test]
    fn what_fills_a_hole_within_a_round_trip_is_reordered() {
        assert_eq!(
            with_hole().fill(&seen(100, 300, 5), 20 * MS),
            Some(Filling::Reordered)
        );
    }

    #[test]
    fn what_fills_a_hole_later_was_lost_before_the_tap() {
        assert_eq!(
            with_hole().fill(&seen(100, 300, 30), 20 * MS),
            Some(Filling::LostBeforeTap)
        );
    }

    #[test]
    fn timestamps_decide_before_time_does() {
        for (timestamp, wanted) in [
            (9, Filling::Reordered),
            (11, Filling::LostBeforeTap),
            (10, Filling::LostBeforeTap),
        ] {
            let mut holes = Holes::default();
            holes.open(100, 300, &stamped(300, 400, 0, 10));
            let filled = holes.fill(&stamped(100, 300, 30, timestamp), 20 * MS);
            assert_eq!(filled, Some(wanted), "timestamp {timestamp}");
        }
        let mut holes = Holes::default();
        holes.open(100, 300, &stamped(300, 400, 0, 10));
        let soon = holes.fill(&stamped(100, 300, 5, 11), 20 * MS);
        assert_eq!(soon, Some(Filling::LostBeforeTap));
    }

    #[test]
    fn bytes_seen_before_fill_nothing() {
        let mut holes = with_hole();
        assert_eq!(holes.fill(&seen(0, 100, 30), 20 * MS), None);
        holes.fill(&seen(100, 300, 30), 20 * MS);
        assert_eq!(holes.fill(&seen(100, 300, 60), 20 * MS), None);
    }

    #[test]
    fn a_hole_filled_in_the_middle_leaves_both_ends_open() {
        let mut holes = with_hole();
        holes.fill(&seen(150, 200, 30), 20 * MS);
        for (start, end) in [(200, 300), (100, 150)] {
            let filled = holes.fill(&seen(start, end, 30), 20 * MS);
            assert_eq!(filled, Some(Filling::LostBeforeTap));
        }
        assert!(holes.0.is_empty());
    }

    #[test]
    fn a_super_segment_fills_every_hole_under_it() {
        let mut holes = with_hole();
        holes.open(400, 500, &seen(500, 600, 1));
        assert!(holes.fill(&seen(50, 550, 30), 20 * MS).is_some());
        assert!(holes.0.is_empty());
    }

    #[test]
    fn an_acknowledged_hole_means_the_tap_missed_bytes() {
        let mut holes = with_hole();
        assert!(!holes.acknowledged(299));
        assert!(holes.acknowledged(300));
        assert!(!holes.acknowledged(300));
    }

    #[test]
    fn a_hole_that_the_receiver_reports_to_hold_was_missed_by_the_tap() {
        let mut holes = with_hole();
        assert!(!holes.received(150, 400));
        assert!(holes.received(100, 400));
        assert!(holes.0.is_empty());
    }

    #[test]
    fn holes_work_across_the_wrap_of_sequence_numbers() {
        let mut holes = Holes::default();
        holes.open(u32::MAX - 10, 10, &seen(10, 20, 0));
        assert_eq!(
            holes.fill(&seen(u32::MAX - 10, 10, 30), 20 * MS),
            Some(Filling::LostBeforeTap)
        );
    }

    #[test]
    fn more_holes_than_are_kept_do_not_grow_memory() {
        let mut holes = Holes::default();
        for step in 0..1000 {
            holes.open(
                step * 10,
                step * 10 + 5,
                &seen(step * 10 + 5, step * 10 + 10, 0),
            );
            holes.fill(&seen(step * 10 + 1, step * 10 + 2, 0), 0);
            assert!(holes.0.len() <= MAX_HOLES);
        }
    }
}
