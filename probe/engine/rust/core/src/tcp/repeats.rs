//! Segments that the tap saw twice: was the original lost behind the tap, or was the copy needless?

use super::before;
use super::holes::Sighting;

/// Most retransmissions watched at once; beyond that the oldest is taken for a loss.
const MAX_REPEATS: usize = 64;
/// Most separate stretches of data remembered that a receiver holds out of order; beyond that
/// the lowest is forgotten, and a needless copy of it counts as a loss.
const MAX_STRETCHES: usize = 64;

/// A change of the number of losses; one that was counted may turn out to be none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    pub found: u32,
    pub withdrawn: u32,
}

#[derive(Debug, Clone, Copy)]
struct Repeat {
    segment: Sighting,
    /// It stands as a loss; only a report of a duplicate can still change that.
    counted: bool,
}

/// What there is to go by where a receiver says nothing of what it holds out of order.
#[derive(Debug, Clone, Copy)]
pub struct WithoutSack {
    /// Up to where it had acknowledged before.
    pub from: u32,
    /// What it sent last before this acknowledgment, behind a silence, was lost before the tap.
    pub misses_one: bool,
}

/// What an acknowledgment says of retransmissions.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub up_to: u32,
    pub without_sack: Option<WithoutSack>,
    /// Timestamp echo reply.
    pub echo: Option<u32>,
    pub time_ns: u64,
    /// No answer can come sooner from the receiver.
    pub least_round_trip_ns: u64,
}

/// Retransmissions of one direction whose originals passed the tap, until they are judged.
#[derive(Debug, Default)]
pub struct Repeats(Vec<Repeat>);

impl Repeats {
    pub fn watch(&mut self, segment: Sighting) -> Losses {
        let mut losses = Losses::default();
        if self.0.len() == MAX_REPEATS {
            losses.found += u32::from(!self.0.remove(0).counted);
        }
        let counted = false;
        self.0.push(Repeat { segment, counted });
        losses
    }

    /// Judges what is acknowledged.
    ///
    /// The copy was needless if the original's arrival set off the acknowledgment: it echoes a
    /// timestamp from before the copy (Eifel detection, RFC 3522 3.2), or comes sooner than an
    /// answer to the copy could. A receiver acknowledges at once what fills a hole (RFC 5681 4.2):
    /// so what lies behind the segment that was next in line and is acknowledged with it had
    /// arrived, and without SACK, when senders repeat a whole window, that is most of it. Bias: an
    /// acknowledgment lost before the tap hides a loss then. That segment itself had arrived if the
    /// receiver sent something since that was lost before the tap.
    pub fn acknowledged(&mut self, answer: &Answer) -> Losses {
        let mut losses = Losses::default();
        let next_in_line = self.next_in_line(answer);
        let answer = &self.narrowed(answer, next_in_line);
        let is_covered = |repeat: &Repeat| !before(answer.up_to, repeat.segment.end);
        if let Some(position) = next_in_line
            && is_covered(&self.0[position])
            && answer.misses_one()
        {
            losses.withdrawn += u32::from(self.0.remove(position).counted);
        }
        for repeat in self.0.iter_mut().filter(|repeat| !repeat.counted) {
            if is_covered(repeat) && !answer.is_to_original(&repeat.segment) {
                repeat.counted = true;
                losses.found += 1;
            }
        }
        self.0
            .retain(|repeat| repeat.counted || !is_covered(repeat));
        losses
    }

    /// The newest copy of the segment that the receiver had waited for.
    fn next_in_line(&self, answer: &Answer) -> Option<usize> {
        let from = answer.without_sack?.from;
        self.0.iter().rposition(|repeat| {
            !before(from, repeat.segment.start) && before(from, repeat.segment.end)
        })
    }

    /// The answer with nothing but its echo to go by, if that shows that it was not the segment next
    /// in line that set it off.
    fn narrowed(&self, answer: &Answer, next_in_line: Option<usize>) -> Answer {
        let timestamp = next_in_line.and_then(|position| self.0[position].segment.timestamp);
        let is_to_next = match (timestamp, answer.echo) {
            (Some(timestamp), Some(echo)) => !before(timestamp, echo),
            _ => true,
        };
        Answer {
            without_sack: answer.without_sack.filter(|_| is_to_next),
            ..*answer
        }
    }

    /// The receiver reports bytes [start, end) as received out of order. Echoes tell nothing then:
    /// they stay at the last segment in order (RFC 7323 4.3).
    pub fn received(&mut self, start: u32, end: u32, answer: &Answer) {
        let within = |segment: &Sighting| {
            !before(segment.start, start)
                && !before(end, segment.end)
                && answer.is_too_soon(segment)
        };
        self.0
            .retain(|repeat| repeat.counted || !within(&repeat.segment));
    }

    /// The receiver reports bytes as received twice (RFC 2883): their copy was needless.
    pub fn duplicated(&mut self, start: u32, end: u32) -> Losses {
        let mut losses = Losses::default();
        let newest = self.0.iter().rposition(|repeat| {
            before(repeat.segment.start, end) && before(start, repeat.segment.end)
        });
        if let Some(position) = newest {
            losses.withdrawn += u32::from(self.0.remove(position).counted);
        }
        losses
    }

    /// Nothing more will be heard: what is not judged is a loss. Where a receiver without SACK had
    /// acknowledged up to `no_sack_from`, only what it waited for is: behind that, senders repeat
    /// what has arrived.
    pub fn close(&mut self, no_sack_from: Option<u32>) -> Losses {
        let is_lost = |repeat: &&Repeat| {
            let behind = no_sack_from.is_some_and(|from| before(from, repeat.segment.start));
            !repeat.counted && !behind
        };
        let open = self.0.iter().filter(is_lost).count();
        self.0.clear();
        Losses {
            found: open as u32,
            withdrawn: 0,
        }
    }
}

impl Answer {
    fn is_to_original(&self, copy: &Sighting) -> bool {
        let older_echo = match (self.echo, copy.timestamp) {
            (Some(echo), Some(value)) => before(echo, value),
            _ => false,
        };
        let behind = self
            .without_sack
            .is_some_and(|it| before(it.from, copy.start));
        older_echo || behind || self.is_too_soon(copy)
    }

    fn misses_one(&self) -> bool {
        self.without_sack.is_some_and(|it| it.misses_one)
    }

    fn is_too_soon(&self, copy: &Sighting) -> bool {
        self.time_ns.saturating_sub(copy.time_ns) < self.least_round_trip_ns
    }
}

/// Stretches of data that a receiver reported to hold out of order (RFC 2018), in order.
#[derive(Debug, Default)]
pub struct Stretches(Vec<(u32, u32)>);

impl Stretches {
    pub fn holds(&self, start: u32, end: u32) -> bool {
        self.0
            .iter()
            .any(|held| !before(start, held.0) && !before(held.1, end))
    }

    /// Adds [start, end), merged with what it touches.
    pub fn add(&mut self, mut start: u32, mut end: u32) {
        if self.holds(start, end) {
            return;
        }
        self.0.retain(|&(low, high)| {
            let apart = before(end, low) || before(high, start);
            if !apart {
                start = if before(low, start) { low } else { start };
                end = if before(end, high) { high } else { end };
            }
            apart
        });
        if self.0.len() == MAX_STRETCHES {
            self.0.remove(0);
        }
        let position = self.0.iter().position(|&(low, _)| before(start, low));
        self.0
            .insert(position.unwrap_or(self.0.len()), (start, end));
    }

    pub fn acknowledged(&mut self, up_to: u32) {
        self.0.retain(|&(_, end)| before(up_to, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn copy(timestamp: Option<u32>) -> Sighting {
        Sighting {
            start: 100,
            end: 200,
            timestamp,
            time_ns: 1000 * MS,
        }
    }

    fn answer(echo: Option<u32>, time_ms: u64) -> Answer {
        Answer {
            up_to: 500,
            without_sack: None,
            echo,
            time_ns: time_ms * MS,
            least_round_trip_ns: 30 * MS,
        }
    }

    fn losses(found: u32, withdrawn: u32) -> Losses {
        Losses { found, withdrawn }
    }

    #[test]
    fn a_copy_that_is_answered_after_a_round_trip_made_good_a_loss() {
        let mut repeats = Repeats::default();
        repeats.watch(copy(None));
        assert_eq!(repeats.acknowledged(&answer(None, 1031)), losses(1, 0));
        assert_eq!(repeats.close(None), losses(0, 0));
    }

    #[test]
    fn an_answer_that_comes_too_soon_is_to_the_original() {
        let mut repeats = Repeats::default();
        repeats.watch(copy(None));
        assert_eq!(repeats.acknowledged(&answer(None, 1010)), losses(0, 0));
        assert_eq!(repeats.close(None), losses(0, 0));
    }

    #[test]
    fn an_echo_from_before_the_copy_is_to_the_original_however_late() {
        for (echo, found) in [(49, 0), (50, 1)] {
            let mut repeats = Repeats::default();
            repeats.watch(copy(Some(50)));
            let judged = repeats.acknowledged(&answer(Some(echo), 5000));
            assert_eq!(judged, losses(found, 0));
        }
    }

    #[test]
    fn without_sack_what_is_acknowledged_with_the_segment_next_in_line_had_arrived() {
        let next = Sighting {
            start: 200,
            end: 300,
            ..copy(Some(50))
        };
        let later = Sighting {
            timestamp: Some(51),
            ..next
        };
        for (second, echo, found) in [(next, 50, 1), (later, 50, 1), (later, 51, 2)] {
            let mut repeats = Repeats::default();
            repeats.watch(copy(Some(50)));
            repeats.watch(second);
            let judged = repeats.acknowledged(&Answer {
                without_sack: Some(WithoutSack {
                    from: 100,
                    misses_one: false,
                }),
                ..answer(Some(echo), 1040)
            });
            assert_eq!(judged, losses(found, 0));
        }
    }

    #[test]
    fn a_reported_duplicate_takes_a_loss_back() {
        let mut repeats = Repeats::default();
        repeats.watch(copy(None));
        repeats.acknowledged(&answer(None, 1031));
        assert_eq!(repeats.duplicated(100, 200), losses(0, 1));
        assert_eq!(repeats.duplicated(100, 200), losses(0, 0));
    }

    #[test]
    fn what_nobody_answers_is_lost() {
        let mut repeats = Repeats::default();
        repeats.watch(copy(None));
        repeats.watch(copy(None));
        assert_eq!(repeats.close(None), losses(2, 0));
    }

    #[test]
    fn without_sack_only_what_the_receiver_waited_for_is_lost_when_nobody_answers() {
        let mut repeats = Repeats::default();
        for start in [100, 200, 300] {
            let end = start + 100;
            repeats.watch(Sighting {
                start,
                end,
                ..copy(None)
            });
        }
        assert_eq!(repeats.close(Some(100)), losses(1, 0));
    }

    #[test]
    fn an_acknowledgment_lost_before_the_tap_shows_the_newest_copy_to_be_needless() {
        for (misses_one, found) in [(false, 2), (true, 1)] {
            let mut repeats = Repeats::default();
            repeats.watch(copy(None));
            repeats.watch(copy(None));
            let judged = repeats.acknowledged(&Answer {
                without_sack: Some(WithoutSack {
                    from: 100,
                    misses_one,
                }),
                ..answer(None, 1040)
            });
            assert_eq!(judged, losses(found, 0));
        }
    }

    #[test]
    fn the_list_is_bounded_and_what_falls_out_is_a_loss() {
        let mut repeats = Repeats::default();
        let found: u32 = (0..100).map(|_| repeats.watch(copy(None)).found).sum();
        assert_eq!(found + repeats.close(None).found, 100);
    }

    #[test]
    fn stretches_merge_and_are_forgotten_once_acknowledged() {
        let mut stretches = Stretches::default();
        for (start, end) in [(300, 400), (100, 200), (200, 300)] {
            stretches.add(start, end);
        }
        assert!(stretches.holds(100, 400) && !stretches.holds(50, 150));
        stretches.acknowledged(400);
        assert!(!stretches.holds(100, 200));
    }

    proptest! {
        #[test]
        fn stretches_stay_bounded_and_hold_what_was_added(blocks: Vec<(u32, u32)>) {
            let mut stretches = Stretches::default();
            for (start, end) in blocks {
                stretches.add(start, end);
                prop_assert!(stretches.0.len() <= MAX_STRETCHES);
            }
        }
    }
}
