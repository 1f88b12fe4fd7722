//! Round trips of one direction: from the tap to its receiver and back.
//!
//! Two estimators. [`Marks`] follows segments that must be acknowledged; sequence numbers say which
//! segment an acknowledgment answers, timestamps say which copy of it. [`Echo`] follows timestamps
//! alone (RFC 7323), and so works for a side that is only ever sent acknowledgments; it needs the
//! echoing side to be sending without a pause.

use super::before;
use crate::flow::keeper::Keeper;

/// Segments followed at once in one direction. Bounds memory; see [`Marks::sent`] for the choice.
const MAX_MARKS: usize = 8;

/// A moment in microseconds modulo 2^32 (71 minutes): enough for what is outstanding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    #[inline]
    pub fn of(time_ns: u64) -> Self {
        Self((time_ns / 1000) as u32)
    }

    /// Microseconds since `earlier`; None where the capture's clock went back.
    #[inline]
    pub fn since(self, earlier: Self) -> Option<u32> {
        let elapsed = self.0.wrapping_sub(earlier.0);
        (elapsed <= i32::MAX as u32).then_some(elapsed)
    }

    /// Keeps it, or gives it back; `base` lies close to it.
    pub fn keep(&mut self, keeper: &mut impl Keeper, base: Self) {
        keeper.near(base.0, &mut self.0);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    sequence_end: u32,
    timestamp: Option<u32>,
    sent: Moment,
}

/// So many take no room of their own.
const FEW_MARKS: usize = 2;

/// Segments sent and not yet acknowledged, in order of sequence.
#[derive(Debug, Default)]
pub struct Marks {
    used: u8,
    few: [Mark; FEW_MARKS],
    /// In their stead once there were more at once.
    many: Option<Box<[Mark; MAX_MARKS]>>,
}

impl Marks {
    #[inline]
    fn list(&self) -> &[Mark] {
        let used = usize::from(self.used);
        match &self.many {
            Some(many) => &many[..used],
            None => &self.few[..used],
        }
    }

    #[inline]
    fn places(&mut self) -> &mut [Mark] {
        match &mut self.many {
            Some(many) => &mut many[..],
            None => &mut self.few,
        }
    }

    #[inline]
    fn remove(&mut self, start: usize, count: usize) {
        let used = usize::from(self.used);
        self.places().copy_within(start + count..used, start);
        self.used = (used - count) as u8;
    }

    #[inline]
    fn add(&mut self, mark: Mark) {
        let position = usize::from(self.used);
        if position == FEW_MARKS && self.many.is_none() {
            self.make_room();
        }
        if let Some(place) = self.places().get_mut(position) {
            *place = mark;
            self.used += 1;
        }
    }

    #[cold]
    fn make_room(&mut self) {
        let mut many = [Mark::default(); MAX_MARKS];
        many[..FEW_MARKS].copy_from_slice(&self.few);
        self.many = Some(Box::new(many));
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Gives back the room of many where there are few.
    pub fn shrink(&mut self) {
        let used = usize::from(self.used);
        if used <= FEW_MARKS
            && let Some(many) = self.many.take()
        {
            self.few[..used].copy_from_slice(&many[..used]);
        }
    }

    /// Keeps them, or gives them back; `next` and `now` lie close to them.
    pub fn keep(&mut self, keeper: &mut impl Keeper, next: u32, now: Moment) {
        let mut list = [Mark::default(); MAX_MARKS];
        let mut used = self.used;
        list[..usize::from(used)].copy_from_slice(self.list());
        keeper.byte(&mut used);
        *self = Self::default();
        for mark in list.iter_mut().take(usize::from(used)) {
            keeper.near(next, &mut mark.sequence_end);
            keeper.option(&mut mark.timestamp);
            mark.sent.keep(keeper, now);
            self.add(*mark);
        }
    }

    /// Follows a new segment of `len` bytes; `flight` bytes are outstanding with it.
    ///
    /// When all marks are in use it takes the place of a random one with the probability that
    /// leaves every segment in flight the same chance, so neither the head of a burst nor one
    /// parity of segments is preferred. The choice depends on the sequence number alone.
    #[inline]
    pub fn sent(
        &mut self,
        sequence_end: u32,
        timestamp: Option<u32>,
        now: Moment,
        flight: u32,
        len: u32,
    ) {
        if usize::from(self.used) == MAX_MARKS {
            let random = sequence_end.wrapping_mul(0x9e37_79b1);
            let share = (u64::from(random) * u64::from(flight)) >> 32;
            if share >= u64::from(len) * MAX_MARKS as u64 {
                return;
            }
            self.remove(random as usize % MAX_MARKS, 1);
        }
        self.add(Mark {
            sequence_end,
            timestamp,
            sent: now,
        });
    }

    /// Takes in an acknowledgment and gives the round trip that it ends, in microseconds.
    ///
    /// Only an acknowledgment of exactly a followed segment's end counts, and of several that it
    /// covers the newest: a receiver that acknowledges every second segment does so at once after
    /// the second. An `echo` newer than the segment shows that a later one, such as the
    /// retransmission that filled a hole, set off the acknowledgment. Bias: a delayed
    /// acknowledgment of a lone segment (RFC 9293 3.8.6.3) is a sample like any other.
    #[inline]
    pub fn acknowledged(&mut self, up_to: u32, echo: Option<u32>, now: Moment) -> Option<u32> {
        let covered = self
            .list()
            .iter()
            .take_while(|mark| !before(up_to, mark.sequence_end))
            .count();
        let newest = *self.list().get(covered.checked_sub(1)?)?;
        self.remove(0, covered);
        let of_later = newest
            .timestamp
            .zip(echo)
            .is_some_and(|(timestamp, echo)| before(timestamp, echo));
        if newest.sequence_end == up_to && !of_later {
            now.since(newest.sent)
        } else {
            None
        }
    }

    /// Karn's rule (RFC 6298 3): after a retransmission an acknowledgment may answer either copy.
    /// Those sent in an earlier tick than the retransmission can be told apart by the echo.
    #[cold]
    pub fn retransmitted(&mut self, timestamp: Option<u32>) {
        let mut kept = 0;
        for position in 0..usize::from(self.used) {
            let mark = self.list()[position];
            let of_copy = mark.timestamp.zip(timestamp);
            if of_copy.is_some_and(|(original, copy)| before(original, copy)) {
                self.places()[kept] = mark;
                kept += 1;
            }
        }
        self.used = kept as u8;
    }

    /// A segment that begins at `start` comes only now: those behind it overtook it, and what
    /// acknowledges them had to wait for it.
    #[cold]
    pub fn overtook(&mut self, start: u32) {
        let waiting = |mark: &Mark| before(start, mark.sequence_end);
        let kept = self.list().iter().position(waiting);
        self.used = kept.unwrap_or(self.list().len()) as u8;
    }

    /// How long ago the segment that ends at `sequence_end` was sent, if it is followed.
    pub fn age_us(&self, sequence_end: u32, now: Moment) -> Option<u32> {
        let mark = self
            .list()
            .iter()
            .find(|mark| mark.sequence_end == sequence_end)?;
        now.since(mark.sent)
    }
}

/// The share of a round trip by which an echo may have come late.
const ECHO_PRECISION: u32 = 8;

/// The first packet with a new timestamp, followed until its echo returns.
#[derive(Debug, Default)]
pub struct Echo {
    newest: Option<u32>,
    awaited: Option<u32>,
    sent: Moment,
}

impl Echo {
    pub fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Keeps it, or gives it back.
    pub fn keep(&mut self, keeper: &mut impl Keeper, now: Moment) {
        let (mut has_newest, mut is_awaiting) = (self.newest.is_some(), self.awaited.is_some());
        keeper.bits([&mut has_newest, &mut is_awaiting]);
        let mut newest = self.newest.unwrap_or_default();
        if has_newest {
            keeper.word(&mut newest);
            self.newest = Some(newest);
        }
        if is_awaiting {
            let mut awaited = self.awaited.unwrap_or_default();
            keeper.near(newest, &mut awaited);
            self.awaited = Some(awaited);
            self.sent.keep(keeper, now);
        }
    }

    /// A packet of this direction carries `value`. Only a value newer than all before it starts a
    /// measurement: any other packet may not be the first with it (ticks last 1 ms to 1 s), or is a
    /// retransmission out of order. The very first value seen may be older than the capture.
    #[inline]
    pub fn sent(&mut self, value: u32, now: Moment) {
        let Some(newest) = self.newest else {
            self.newest = Some(value);
            return;
        };
        if !before(newest, value) {
            return;
        }
        self.newest = Some(value);
        if self.awaited.is_none() {
            self.awaited = Some(value);
            self.sent = now;
        }
    }

    /// A packet of the other direction echoes `echo`, sent `gap_us` after that direction's packet
    /// before. Gives the round trip in microseconds.
    ///
    /// The packet before did not bring the echo, so the echo is late by the gap at most: where the
    /// gap is more than an eighth of the time measured, the sender was idle and there is no sample.
    #[inline]
    pub fn echoed(&mut self, echo: u32, now: Moment, gap_us: Option<u32>) -> Option<u32> {
        let awaited = self.awaited?;
        if before(echo, awaited) {
            return None;
        }
        self.awaited = None;
        let elapsed = now.since(self.sent).filter(|_| echo == awaited)?;
        (gap_us? <= elapsed / ECHO_PRECISION).then_some(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_ms(ms: u64) -> Moment {
        Moment::of(ms * 1_000_000)
    }

    #[test]
    fn the_newest_segment_of_an_acknowledgment_gives_the_sample() {
        let mut marks = Marks::default();
        marks.sent(100, None, at_ms(0), 100, 100);
        marks.sent(200, None, at_ms(12), 200, 100);
        assert_eq!(marks.acknowledged(200, None, at_ms(42)), Some(30_000));
        assert_eq!(marks.acknowledged(200, None, at_ms(50)), None);
    }

    #[test]
    fn an_acknowledgment_within_a_segment_gives_no_sample() {
        let mut marks = Marks::default();
        marks.sent(100, None, at_ms(0), 100, 100);
        assert_eq!(marks.acknowledged(50, None, at_ms(5)), None);
        assert_eq!(marks.acknowledged(100, None, at_ms(30)), Some(30_000));
        marks.sent(200, None, at_ms(40), 100, 100);
        assert_eq!(marks.acknowledged(250, None, at_ms(70)), None);
    }

    #[test]
    fn a_retransmission_voids_what_is_outstanding() {
        let mut marks = Marks::default();
        marks.sent(100, None, at_ms(0), 100, 100);
        marks.retransmitted(None);
        assert_eq!(marks.acknowledged(100, None, at_ms(300)), None);
    }

    #[test]
    fn what_overtook_another_segment_gives_no_sample() {
        let mut marks = Marks::default();
        marks.sent(100, None, at_ms(0), 100, 100);
        marks.sent(300, None, at_ms(1), 300, 100);
        marks.overtook(100);
        assert_eq!(marks.acknowledged(100, None, at_ms(30)), Some(30_000));
        assert_eq!(marks.acknowledged(300, None, at_ms(40)), None);
    }

    #[test]
    fn an_echo_tells_the_original_from_its_retransmission() {
        for (echo, sample) in [(10, Some(30_000)), (250, None)] {
            let mut marks = Marks::default();
            marks.sent(100, Some(10), at_ms(0), 100, 100);
            marks.retransmitted(Some(250));
            assert_eq!(marks.acknowledged(100, Some(echo), at_ms(30)), sample);
        }
        let mut marks = Marks::default();
        marks.sent(100, Some(10), at_ms(0), 100, 100);
        marks.retransmitted(Some(10));
        assert_eq!(marks.acknowledged(100, Some(10), at_ms(30)), None);
    }

    #[test]
    fn an_echo_tells_nothing_of_a_segment_without_timestamp() {
        // The client goes on to echo what the server said before it, or a box in the way, left
        // timestamps out.
        let mut marks = Marks::default();
        marks.sent(100, None, at_ms(0), 100, 100);
        let sample = marks.acknowledged(100, Some(1_093_000_248), at_ms(30));
        assert_eq!(sample, Some(30_000));
    }

    #[test]
    fn all_segments_of_a_large_flight_have_a_chance_to_be_followed() {
        // 200 segments in flight again and again, acknowledged two by two.
        let (mut heads, mut tails, mut sequence) = (0, 0, 0_u32);
        for _ in 0..50 {
            let mut marks = Marks::default();
            let first = sequence;
            for count in 1..=200 {
                sequence = sequence.wrapping_add(1448);
                marks.sent(sequence, None, at_ms(0), count * 1448, 1448);
            }
            for pair in 1..=100 {
                let up_to = first.wrapping_add(pair * 2 * 1448);
                if marks.acknowledged(up_to, None, at_ms(30)).is_some() {
                    *(if pair <= 50 { &mut heads } else { &mut tails }) += 1;
                }
            }
        }
        assert!(heads > 50 && tails > 50, "{heads} and {tails}");
    }

    #[test]
    fn marks_work_across_the_wrap_of_sequence_numbers_and_clock() {
        let mut marks = Marks::default();
        let before_wrap = Moment(u32::MAX - 999);
        marks.sent(5, Some(u32::MAX), before_wrap, 100, 100);
        assert_eq!(
            marks.acknowledged(5, Some(u32::MAX), Moment(1000)),
            Some(2000)
        );
        marks.sent(105, Some(3), at_ms(50), 100, 100);
        assert_eq!(marks.acknowledged(105, Some(3), at_ms(40)), None);
    }

    fn awaiting() -> Echo {
        let mut echo = Echo::default();
        echo.sent(10, at_ms(0));
        echo.sent(20, at_ms(100));
        echo
    }

    #[test]
    fn the_first_echo_of_a_new_timestamp_gives_the_sample() {
        let mut echo = awaiting();
        assert_eq!(echo.echoed(10, at_ms(120), Some(1000)), None);
        assert_eq!(echo.echoed(20, at_ms(140), Some(1000)), Some(40_000));
        assert_eq!(echo.echoed(20, at_ms(150), Some(1000)), None);
    }

    #[test]
    fn a_sender_that_was_idle_gives_no_sample() {
        assert_eq!(awaiting().echoed(20, at_ms(1100), Some(990_000)), None);
        assert_eq!(awaiting().echoed(20, at_ms(140), None), None);
    }

    #[test]
    fn a_timestamp_that_does_not_advance_starts_nothing() {
        let mut echo = Echo::default();
        echo.sent(10, at_ms(0));
        echo.sent(10, at_ms(100));
        echo.sent(9, at_ms(100));
        assert_eq!(echo.echoed(10, at_ms(140), Some(0)), None);
    }

    #[test]
    fn an_echo_that_was_lost_on_the_way_gives_no_sample() {
        let mut echo = awaiting();
        echo.sent(30, at_ms(130));
        assert_eq!(echo.echoed(30, at_ms(170), Some(100)), None);
        echo.sent(40, at_ms(200));
        assert_eq!(echo.echoed(40, at_ms(230), Some(100)), Some(30_000));
    }

    #[test]
    fn timestamps_roll_over() {
        let mut echo = Echo::default();
        echo.sent(u32::MAX, at_ms(0));
        echo.sent(3, at_ms(100));
        assert_eq!(echo.echoed(u32::MAX, at_ms(110), Some(1000)), None);
        assert_eq!(echo.echoed(3, at_ms(140), Some(1000)), Some(40_000));
    }

    proptest! {
        #[test]
        fn marks_stay_in_bounds(steps: Vec<(bool, u32, u32, u32)>) {
            let mut marks = Marks::default();
            for (send, sequence, other, time) in steps {
                if send {
                    marks.sent(sequence, Some(other), Moment(time), other, 1448);
                } else {
                    let _ = marks.acknowledged(sequence, Some(other), Moment(time));
                }
                prop_assert!(usize::from(marks.used) <= MAX_MARKS);
            }
        }
    }
}
