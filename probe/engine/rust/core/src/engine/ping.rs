//! Echo requests and their replies on one flow.

use crate::engine::icmp::Echo;
use crate::flow::Direction;
use crate::flow::samples::Samples;
use crate::tcp::micros;

/// Most requests of one flow that are waited for.
const MAX_PENDING: usize = 16;
/// How long a reply is waited for, as `ping` does for its last one.
const PATIENCE_NS: u64 = 10 * 1_000_000_000;

/// A request whose reply is awaited.
#[derive(Debug, Clone, Copy)]
struct Pending {
    by: Direction,
    sequence: u16,
    sent_ns: u64,
}

/// What happened in one interval.
#[derive(Debug, Clone, Default)]
pub struct PingReport {
    pub requests: u32,
    pub unanswered: u32,
    /// From request to reply, by the direction of the request: the round trip between the tap and
    /// the one who replied. A repeated request voids nothing: its sequence number is new.
    pub round_trips: [Samples; 2],
}

/// The echoes of one flow.
#[derive(Debug, Default)]
pub struct Ping {
    /// In the order of their sending; `MAX_PENDING` at most.
    pending: Vec<Pending>,
    answered: bool,
    /// Given up before any reply was seen: the way back may not be visible at all.
    silent: u32,
    interval: PingReport,
}

impl Ping {
    pub fn on_echo(&mut self, direction: Direction, echo: Echo, time_ns: u64) {
        self.expire(time_ns);
        if echo.is_request {
            self.on_request(direction, echo.sequence, time_ns);
        } else {
            self.on_reply(direction, echo.sequence, time_ns);
        }
    }

    fn on_request(&mut self, by: Direction, sequence: u16, time_ns: u64) {
        let is_copy = |known: &Pending| known.by == by && known.sequence == sequence;
        if self.pending.iter().any(is_copy) {
            return;
        }
        self.interval.requests = self.interval.requests.saturating_add(1);
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push(Pending {
            by,
            sequence,
            sent_ns: time_ns,
        });
    }

    fn on_reply(&mut self, by: Direction, sequence: u16, time_ns: u64) {
        self.answered = true;
        let asked = |known: &Pending| known.by != by && known.sequence == sequence;
        if let Some(index) = self.pending.iter().position(asked) {
            let request = self.pending.remove(index);
            self.interval.round_trips[request.by.index()].add(micros(request.sent_ns, time_ns));
        }
    }

    fn expire(&mut self, now_ns: u64) {
        let waiting = self.pending.len();
        self.pending
            .retain(|request| now_ns.saturating_sub(request.sent_ns) < PATIENCE_NS);
        self.silent += (waiting - self.pending.len()) as u32;
        if self.answered {
            self.interval.unanswered += std::mem::take(&mut self.silent);
        }
    }

    /// Counts what was not answered up to `now_ns`, at the flow's end. `reached`: the way back to
    /// whoever asks is visible.
    pub fn silence(&mut self, now_ns: u64, reached: bool) {
        self.answered |= reached;
        self.expire(now_ns);
    }

    pub fn take_report(&mut self) -> PingReport {
        std::mem::take(&mut self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reverse};

    const SECOND: u64 = 1_000_000_000;

    fn echo(is_request: bool, sequence: u16) -> Echo {
        Echo {
            is_request,
            sequence,
        }
    }

    #[test]
    fn a_reply_gives_a_round_trip_of_the_one_who_replied() {
        let mut ping = Ping::default();
        ping.on_echo(Forward, echo(true, 1), SECOND);
        ping.on_echo(Forward, echo(true, 1), SECOND);
        ping.on_echo(Reverse, echo(false, 1), SECOND + 20_000_000);
        ping.on_echo(Reverse, echo(false, 1), SECOND + 30_000_000);
        let report = ping.take_report();
        assert_eq!((report.requests, report.unanswered), (1, 0));
        assert_eq!(report.round_trips[0].min_us(), Some(20_000));
        assert_eq!(report.round_trips[0].count(), Some(1));
        assert_eq!(report.round_trips[1].count(), None);
    }

    #[test]
    fn requests_without_reply_count_once_replies_are_visible() {
        let mut ping = Ping::default();
        (0..5).for_each(|number| ping.on_echo(Forward, echo(true, number), SECOND));
        ping.on_echo(Reverse, echo(false, 4), SECOND + 1);
        ping.silence(60 * SECOND, false);
        assert_eq!(ping.take_report().unanswered, 4);
    }

    #[test]
    fn without_any_way_back_nothing_is_said_of_replies() {
        let mut ping = Ping::default();
        ping.on_echo(Forward, echo(true, 1), SECOND);
        ping.silence(60 * SECOND, false);
        assert_eq!(ping.take_report().unanswered, 0);
    }

    #[test]
    fn a_flood_of_requests_is_bounded() {
        let mut ping = Ping::default();
        (0..=u16::MAX).for_each(|number| ping.on_echo(Forward, echo(true, number), SECOND));
        assert_eq!(ping.pending.len(), MAX_PENDING);
        assert_eq!(ping.take_report().requests, 65_536);
    }
}
