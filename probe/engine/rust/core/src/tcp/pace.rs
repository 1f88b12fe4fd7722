//! What held one direction's sender up: waiting without progress, and what limited its rate.
//!
//! After Zhang, Breslau, Paxson and Shenker, "On the characteristics and origins of internet flow
//! rates" (SIGCOMM 2002), but decided round trip by round trip as packets pass, from a tap that may
//! stand anywhere on the path.

use super::micros;
use crate::flow::keeper::Keeper;

/// The shortest wait that is a stall; below it lie retransmissions that went well.
const LEAST_STALL_NS: u64 = 1_000_000_000;
/// Payload below which an interval says nothing about limits: a slow start over many paths.
const LEAST_PAYLOAD: u64 = 32 * 1024;
/// Comparisons with the window before it can be blamed or ruled out.
const LEAST_ROUNDS: u16 = 3;

/// What held a direction's throughput down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The path: congestion control, losses, slow start.
    Network,
    /// The receiver left no room.
    ReceiverWindow,
    /// The sender had nothing to send.
    Application,
}

/// What the receiver allowed in an acknowledgment that the sender is about to get.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    acknowledged: u32,
    window: u32,
    /// Bytes that the sender had outstanding of it.
    used: u32,
    /// 0: none.
    time_ns: u64,
}

/// One direction's sender over time. Times are 0 where there is none.
#[derive(Debug, Default)]
pub struct Pace {
    /// Since when outstanding data made no progress.
    waiting_since_ns: u64,
    /// Up to when that wait is in a record already.
    reported_ns: u64,
    /// Since when all that was sent is acknowledged, and the window is open.
    idle_since_ns: u64,
    /// Since when the receiver keeps its window closed.
    closed_since_ns: u64,
    /// The sender has probed the closed window: it has more to send.
    probed: bool,
    /// Something was acknowledged: so the other direction is visible.
    heard: bool,
    allowance: Allowance,
    interval: Interval,
}

#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    stall_us: u32,
    paused_us: u32,
    closed_us: u32,
    rounds: u16,
    full_rounds: u16,
    payload: u64,
    first_ns: u64,
    last_ns: u64,
}

/// New data at the tap.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub time_ns: u64,
    /// The sequence number behind it.
    pub next: u32,
    pub payload_len: u32,
    /// The direction's largest segment so far.
    pub largest: u32,
    /// Least round trip between the tap and the sender.
    pub sender_round_trip_ns: u64,
}

/// What an interval says about a direction's pace.
#[derive(Debug, Clone, Copy)]
pub struct PaceReport {
    /// None where data was sent and no acknowledgment is ever seen: whether it arrives shows
    /// elsewhere.
    pub stall_us: Option<u32>,
    pub payload: u64,
    pub limit: Option<Limit>,
}

impl Pace {
    /// Keeps it, or gives it back. `acknowledged` is its direction's, `last_ns` the time of the flow's
    /// last packet, `is_long_ago`: more than a round trip before now.
    pub fn keep(
        &mut self,
        keeper: &mut impl Keeper,
        acknowledged: u32,
        last_ns: u64,
        is_long_ago: bool,
    ) {
        let allowance = &mut self.allowance;
        let is_allowed = allowance.time_ns != 0;
        // Of an allowance that was not used in time nothing counts but that there was one.
        let (mut is_stale, mut is_open) = match (is_allowed, is_long_ago && allowance.used == 0) {
            (allowed, true) => (allowed, false),
            (allowed, false) => (false, allowed),
        };
        let mut is_rare = self.reported_ns != 0 || self.closed_since_ns != 0 || self.probed;
        let mut is_waiting = self.waiting_since_ns != 0;
        let mut has_counted = self.interval.has_counted();
        keeper.bits([
            &mut is_stale,
            &mut is_open,
            &mut is_rare,
            &mut is_waiting,
            &mut has_counted,
            &mut self.heard,
        ]);
        keeper.time(last_ns, &mut self.idle_since_ns);
        if is_waiting {
            keeper.time(last_ns, &mut self.waiting_since_ns);
        }
        if is_rare {
            keeper.time(last_ns, &mut self.reported_ns);
            keeper.time(last_ns, &mut self.closed_since_ns);
            keeper.bits([&mut self.probed]);
        }
        if is_stale {
            *allowance = Allowance::default();
            allowance.time_ns = 1;
        }
        if is_open {
            keeper.near(acknowledged, &mut allowance.acknowledged);
            keeper.small(&mut allowance.window);
            keeper.small(&mut allowance.used);
            keeper.time(last_ns, &mut allowance.time_ns);
        }
        if has_counted {
            self.interval.keep(keeper, last_ns);
        }
    }

    /// Takes in new data.
    #[inline]
    pub fn on_data(&mut self, sent: &Sent) {
        self.note_pause(sent);
        if self.waiting_since_ns == 0 {
            self.waiting_since_ns = sent.time_ns;
        }
        self.compare_with_window(sent);
        let interval = &mut self.interval;
        interval.payload += u64::from(sent.payload_len);
        if interval.first_ns == 0 {
            interval.first_ns = sent.time_ns;
        }
        interval.last_ns = sent.time_ns;
    }

    /// A sender that has nothing outstanding needs a round trip to react to the last
    /// acknowledgment; what it waits longer is a pause of its own.
    #[inline]
    fn note_pause(&mut self, sent: &Sent) {
        if self.idle_since_ns == 0 {
            return;
        }
        let reaction_ns = sent.sender_round_trip_ns + sent.sender_round_trip_ns / 2;
        if self.interval.first_ns != 0 {
            let ready_ns = self.idle_since_ns.saturating_add(reaction_ns);
            let paused_us = micros(ready_ns, sent.time_ns);
            self.interval.paused_us = self.interval.paused_us.saturating_add(paused_us);
        }
        self.idle_since_ns = 0;
    }

    /// Once in a while: has the sender used up what the receiver allowed?
    ///
    /// What an acknowledgment allows shows at the tap a round trip to the sender later, so that is
    /// when the outstanding data is compared with it: the result does not depend on where the tap
    /// stands. A quarter of that time is left to the burst that the acknowledgment sets off; later,
    /// acknowledgments that followed have mixed in. Bias: a sender held by the network at three
    /// quarters of the window or more is said to be held by the window.
    #[inline]
    fn compare_with_window(&mut self, sent: &Sent) {
        const BURST_NS: u64 = 2_000_000;
        let allowance = &mut self.allowance;
        let waited_ns = sent.time_ns.saturating_sub(allowance.time_ns);
        if allowance.time_ns == 0 || waited_ns < sent.sender_round_trip_ns {
            return;
        }
        if waited_ns <= sent.sender_round_trip_ns / 4 * 5 + BURST_NS {
            let used = sent.next.wrapping_sub(allowance.acknowledged);
            allowance.used = allowance.used.max(used);
        } else {
            self.judge_round(sent.largest);
        }
    }

    fn judge_round(&mut self, largest: u32) {
        let Allowance { used, window, .. } = std::mem::take(&mut self.allowance);
        if used == 0 {
            return;
        }
        let full = used.saturating_add(largest.saturating_mul(2)) > window;
        let interval = &mut self.interval;
        interval.rounds = interval.rounds.saturating_add(1);
        interval.full_rounds = interval.full_rounds.saturating_add(full.into());
    }

    /// Takes in an acknowledgment that moved forward, or a report of data received out of order.
    #[inline]
    pub fn on_progress(&mut self, time_ns: u64, all: bool, round_trip_ns: u64) {
        self.heard = true;
        self.count_wait(time_ns, round_trip_ns);
        self.waiting_since_ns = if all { 0 } else { time_ns };
        self.idle_since_ns = if all { time_ns } else { 0 };
    }

    fn count_wait(&mut self, now_ns: u64, round_trip_ns: u64) {
        if self.waiting_since_ns == 0 {
            return;
        }
        let waited_ns = now_ns.saturating_sub(self.waiting_since_ns);
        if waited_ns >= LEAST_STALL_NS.max(3 * round_trip_ns) {
            let stall_us = micros(self.waiting_since_ns.max(self.reported_ns), now_ns);
            self.interval.stall_us = self.interval.stall_us.saturating_add(stall_us);
            self.reported_ns = now_ns;
        }
    }

    /// Takes in the window that the receiver offers, in bytes; None where its scale is not known.
    #[inline]
    pub fn on_window(&mut self, acknowledged: u32, window: Option<u32>, closed: bool, now_ns: u64) {
        if closed != (self.closed_since_ns != 0) {
            self.open_or_close(closed, now_ns);
        }
        if let Some(window) = window
            && self.allowance.time_ns == 0
        {
            self.allowance = Allowance {
                acknowledged,
                window,
                used: 0,
                time_ns: now_ns,
            };
        }
    }

    #[cold]
    fn open_or_close(&mut self, closed: bool, now_ns: u64) {
        if closed {
            self.closed_since_ns = now_ns;
            return;
        }
        let closed_us = micros(self.closed_since_ns, now_ns);
        self.interval.closed_us = self.interval.closed_us.saturating_add(closed_us);
        self.closed_since_ns = 0;
        self.probed = false;
        if self.idle_since_ns != 0 {
            self.idle_since_ns = now_ns;
        }
    }

    /// The sender asks whether the window has opened (RFC 9293 3.8.6.1).
    #[cold]
    pub fn on_probe(&mut self) {
        self.probed = self.closed_since_ns != 0;
    }

    pub fn is_probed(&self) -> bool {
        self.probed
    }

    /// The tap missed so much that nothing is known of what is outstanding.
    #[cold]
    pub fn lose_track(&mut self) {
        self.waiting_since_ns = 0;
        self.idle_since_ns = 0;
        self.allowance = Allowance::default();
    }

    pub fn is_shut_out(&self) -> bool {
        self.closed_since_ns != 0 && self.probed
    }

    /// Since when nothing gets through to the receiver: outstanding data, or a closed window in
    /// spite of more to send.
    pub fn blocked_since_ns(&self) -> Option<u64> {
        let shut_out_ns = if self.probed { self.closed_since_ns } else { 0 };
        [self.waiting_since_ns, shut_out_ns]
            .into_iter()
            .filter(|&since| since != 0)
            .min()
    }

    /// The interval's figures; the next one starts at `now_ns`.
    pub fn take_report(&mut self, now_ns: u64, round_trip_ns: u64) -> PaceReport {
        self.count_wait(now_ns, round_trip_ns);
        if self.closed_since_ns != 0 {
            let closed_us = micros(self.closed_since_ns, now_ns);
            self.interval.closed_us = self.interval.closed_us.saturating_add(closed_us);
            self.closed_since_ns = now_ns.max(1);
        }
        let interval = std::mem::take(&mut self.interval);
        PaceReport {
            stall_us: (self.heard || self.waiting_since_ns == 0).then_some(interval.stall_us),
            payload: interval.payload,
            limit: interval.limit(),
        }
    }
}

impl Interval {
    fn has_counted(&self) -> bool {
        self.first_ns != 0 || self.stall_us != 0 || self.closed_us != 0 || self.rounds != 0
    }

    fn keep(&mut self, keeper: &mut impl Keeper, last_ns: u64) {
        keeper.small(&mut self.stall_us);
        keeper.small(&mut self.paused_us);
        keeper.small(&mut self.closed_us);
        keeper.short(&mut self.rounds);
        keeper.short(&mut self.full_rounds);
        keeper.number(&mut self.payload);
        keeper.time(last_ns, &mut self.first_ns);
        keeper.time(last_ns, &mut self.last_ns);
    }

    fn limit(&self) -> Option<Limit> {
        let span_us = micros(self.first_ns, self.last_ns);
        if self.payload < LEAST_PAYLOAD || span_us == 0 {
            return None;
        }
        let most_of_it = |part_us: u32| part_us >= span_us / 2;
        if most_of_it(self.closed_us) {
            Some(Limit::ReceiverWindow)
        } else if most_of_it(self.paused_us) {
            Some(Limit::Application)
        } else if self.rounds < LEAST_ROUNDS {
            None
        } else if self.full_rounds >= self.rounds.div_ceil(2) {
            Some(Limit::ReceiverWindow)
        } else {
            Some(Limit::Network)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SEGMENT: u32 = 1000;

    /// A sender that has `flight` segments on the way per round trip of 40 ms, half of it on each
    /// side of the tap, and rests `rest_ms` after each; its receiver offers `window` bytes.
    fn run(flight: u32, window: Option<u32>, rest_ms: u64) -> PaceReport {
        let mut pace = Pace::default();
        let (mut next, mut now_ns) = (0_u32, 1000 * MS);
        for _ in 0..50 {
            for _ in 0..flight {
                next += SEGMENT;
                pace.on_data(&Sent {
                    time_ns: now_ns,
                    next,
                    payload_len: SEGMENT,
                    largest: SEGMENT,
                    sender_round_trip_ns: 20 * MS,
                });
            }
            now_ns += 20 * MS;
            pace.on_progress(now_ns, true, 40 * MS);
            pace.on_window(next, window, window == Some(0), now_ns);
            now_ns += (20 + rest_ms) * MS;
        }
        pace.take_report(now_ns, 40 * MS)
    }

    #[test]
    fn a_sender_that_always_fills_the_window_is_limited_by_it() {
        let limit = run(10, Some(10 * SEGMENT), 0).limit;
        assert_eq!(limit, Some(Limit::ReceiverWindow));
    }

    #[test]
    fn a_sender_that_never_fills_the_window_and_never_rests_is_limited_by_the_network() {
        assert_eq!(run(10, Some(100 * SEGMENT), 0).limit, Some(Limit::Network));
    }

    #[test]
    fn a_sender_that_rests_is_limited_by_its_application() {
        let limit = run(10, Some(100 * SEGMENT), 200).limit;
        assert_eq!(limit, Some(Limit::Application));
    }

    #[test]
    fn an_unknown_window_or_little_data_says_nothing() {
        assert_eq!(run(10, None, 0).limit, None);
        let mut pace = Pace::default();
        assert_eq!(pace.take_report(MS, 0).limit, None);
    }

    fn outstanding() -> Pace {
        let mut pace = Pace::default();
        pace.on_data(&Sent {
            time_ns: 1000 * MS,
            next: SEGMENT,
            payload_len: SEGMENT,
            largest: SEGMENT,
            sender_round_trip_ns: 20 * MS,
        });
        pace
    }

    #[test]
    fn a_wait_of_a_second_or_three_round_trips_is_a_stall() {
        for (waited_ms, round_trip_ms, stall_us) in [
            (999, 40, 0),
            (1000, 40, 1_000_000),
            (1500, 600, 0),
            (1800, 600, 1_800_000),
        ] {
            let mut pace = outstanding();
            pace.on_progress((1000 + waited_ms) * MS, true, round_trip_ms * MS);
            let report = pace.take_report(9000 * MS, round_trip_ms * MS);
            assert_eq!(report.stall_us, Some(stall_us), "{waited_ms} ms");
        }
    }

    #[test]
    fn a_stall_over_an_interval_s_end_is_counted_once() {
        let mut pace = outstanding();
        pace.on_progress(1000 * MS, false, 40 * MS);
        let stalls = |pace: &mut Pace, ms: u64| pace.take_report(ms * MS, 40 * MS).stall_us;
        assert_eq!(stalls(&mut pace, 4000), Some(3_000_000));
        pace.on_progress(4500 * MS, true, 40 * MS);
        assert_eq!(stalls(&mut pace, 9000), Some(500_000));
    }

    #[test]
    fn a_sender_with_nothing_outstanding_does_not_stall() {
        let mut pace = outstanding();
        pace.on_progress(1040 * MS, true, 40 * MS);
        assert_eq!(pace.blocked_since_ns(), None);
        let report = pace.take_report(60_000 * MS, 40 * MS);
        assert_eq!(report.stall_us, Some(0));
    }

    #[test]
    fn data_whose_acknowledgments_pass_elsewhere_does_not_stall() {
        let report = outstanding().take_report(60_000 * MS, 0);
        assert_eq!(report.stall_us, None);
    }

    #[test]
    fn a_closed_window_blocks_without_outstanding_data() {
        let mut pace = outstanding();
        pace.on_progress(1040 * MS, true, 40 * MS);
        pace.on_window(SEGMENT, Some(0), true, 1040 * MS);
        assert_eq!(pace.blocked_since_ns(), None);
        pace.on_probe();
        assert_eq!(pace.blocked_since_ns(), Some(1040 * MS));
        assert!(pace.is_shut_out());
        pace.on_window(SEGMENT, Some(5000), false, 3000 * MS);
        assert_eq!(pace.blocked_since_ns(), None);
    }
}
