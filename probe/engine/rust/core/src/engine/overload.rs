//! What is left out when packets come faster than they can be worked on, and when it comes back.
//!
//! Sans-IO: a live source tells its [`Pressure`] now and then, and [`Overload`] answers with what is
//! to be left out. A file has no pressure: it waits, so a replay leaves nothing out.

use serde::Deserialize;

use crate::source::Pressure;

/// What is left out. Identity, counters and the causes of failures never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Shedding {
    /// Full service.
    #[default]
    Nothing,
    /// Content that no cause of a failure comes from: QUIC handshakes that succeed, certificates.
    Content,
    /// And round trips, but for those of handshakes.
    RoundTrips,
}

impl Shedding {
    /// From full service to the least.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Content, Self::RoundTrips];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Content => "content",
            Self::RoundTrips => "round_trips",
        }
    }

    pub fn sheds_content(self) -> bool {
        self >= Self::Content
    }

    pub fn sheds_round_trips(self) -> bool {
        self >= Self::RoundTrips
    }

    fn more(self) -> Self {
        match self {
            Self::Nothing => Self::Content,
            Self::Content | Self::RoundTrips => Self::RoundTrips,
        }
    }

    fn less(self) -> Self {
        match self {
            Self::Nothing | Self::Content => Self::Nothing,
            Self::RoundTrips => Self::Content,
        }
    }
}

/// Who decides what is left out (the option `limits.shedding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SheddingMode {
    /// The pressure of the source.
    #[default]
    Auto,
    /// Never anything.
    Nothing,
    /// Always this, in a replay too.
    Content,
    RoundTrips,
}

impl SheddingMode {
    /// What is left out before anything is known of the pressure.
    pub fn at_first(self) -> Shedding {
        self.fixed().unwrap_or_default()
    }

    fn fixed(self) -> Option<Shedding> {
        match self {
            Self::Auto => None,
            Self::Nothing => Some(Shedding::Nothing),
            Self::Content => Some(Shedding::Content),
            Self::RoundTrips => Some(Shedding::RoundTrips),
        }
    }
}

/// Why more is left out; none of them where less is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel dropped packets.
    Drops,
    /// Too much of the ring waits to be read.
    Ring,
    /// What is worked on is old.
    Lag,
    /// All is calm.
    Calm,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drops => "drops",
            Self::Ring => "ring",
            Self::Lag => "lag",
            Self::Calm => "calm",
        }
    }
}

/// A step from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub time_ns: u64,
    pub before: Shedding,
    pub after: Shedding,
    pub reason: Reason,
    pub waiting_percent: u8,
    pub lag_ns: u64,
}

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MS;

/// A ring that is half full has as much time left as it took to come so far.
const PRESSING_PERCENT: u8 = 50;
const CALM_PERCENT: u8 = 25;
/// A block that is not full is handed over after 50 ms, so a lag of 100 ms is no lag.
const PRESSING_LAG_NS: u64 = 500 * MS;
const CALM_LAG_NS: u64 = 250 * MS;
/// A step is given so long to work before the next.
const SETTLING_NS: u64 = 250 * MS;
/// It has to be calm for so long before a step back; longer after one that came too soon.
const SHORTEST_CALM_NS: u64 = 5 * SECOND_NS;
const LONGEST_CALM_NS: u64 = 80 * SECOND_NS;
/// A step back that lasts no longer than this came too soon.
const TOO_SOON_NS: u64 = 30 * SECOND_NS;

/// Decides what one capture leaves out.
#[derive(Debug)]
pub struct Overload {
    mode: SheddingMode,
    shedding: Shedding,
    /// When the latest step was taken; none before the first.
    stepped_ns: Option<u64>,
    /// When the latest step was one back.
    relaxed_ns: Option<u64>,
    calm_since_ns: Option<u64>,
    calm_needed_ns: u64,
    dropped: u64,
    looked_ns: u64,
}

impl Overload {
    pub fn new(mode: SheddingMode) -> Self {
        Self {
            mode,
            shedding: mode.at_first(),
            stepped_ns: None,
            relaxed_ns: None,
            calm_since_ns: None,
            calm_needed_ns: SHORTEST_CALM_NS,
            dropped: 0,
            looked_ns: 0,
        }
    }

    pub fn shedding(&self) -> Shedding {
        self.shedding
    }

    /// Takes in how far the source is behind; returns the step taken, if one is.
    pub fn look(&mut self, pressure: &Pressure) -> Option<Change> {
        if self.mode != SheddingMode::Auto {
            return None;
        }
        self.follow_clock(pressure.clock_ns);
        let dropped = pressure.dropped > self.dropped;
        self.dropped = pressure.dropped;
        match pressing(pressure, dropped) {
            Some(reason) => {
                self.calm_since_ns = None;
                self.shed_more(pressure, reason)
            }
            None => self.shed_less(pressure),
        }
    }

    /// A clock that was set back would keep a state for as long as it lacks.
    fn follow_clock(&mut self, now_ns: u64) {
        if now_ns < self.looked_ns {
            self.stepped_ns = None;
            self.relaxed_ns = None;
            self.calm_since_ns = None;
        }
        self.looked_ns = now_ns;
    }

    fn shed_more(&mut self, pressure: &Pressure, reason: Reason) -> Option<Change> {
        let now_ns = pressure.clock_ns;
        let since = |then: Option<u64>| then.map(|then| now_ns.saturating_sub(then));
        if since(self.stepped_ns).is_some_and(|age_ns| age_ns < SETTLING_NS) {
            return None;
        }
        let change = self.step(self.shedding.more(), pressure, reason)?;
        if let Some(age_ns) = since(self.relaxed_ns.take()) {
            self.calm_needed_ns = if age_ns < TOO_SOON_NS {
                (self.calm_needed_ns * 2).min(LONGEST_CALM_NS)
            } else {
                SHORTEST_CALM_NS
            };
        }
        Some(change)
    }

    fn shed_less(&mut self, pressure: &Pressure) -> Option<Change> {
        let now_ns = pressure.clock_ns;
        let is_calm = pressure.waiting_percent <= CALM_PERCENT && pressure.lag_ns <= CALM_LAG_NS;
        if !is_calm || self.shedding == Shedding::Nothing {
            self.calm_since_ns = None;
            return None;
        }
        let since_ns = *self.calm_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) < self.calm_needed_ns {
            return None;
        }
        self.calm_since_ns = Some(now_ns);
        self.relaxed_ns = Some(now_ns);
        self.step(self.shedding.less(), pressure, Reason::Calm)
    }

    fn step(&mut self, to: Shedding, pressure: &Pressure, reason: Reason) -> Option<Change> {
        let before = std::mem::replace(&mut self.shedding, to);
        if before == to {
            return None;
        }
        self.stepped_ns = Some(pressure.clock_ns);
        Some(Change {
            time_ns: pressure.clock_ns,
            before,
            after: to,
            reason,
            waiting_percent: pressure.waiting_percent,
            lag_ns: pressure.lag_ns,
        })
    }
}

fn pressing(pressure: &Pressure, dropped: bool) -> Option<Reason> {
    if dropped {
        Some(Reason::Drops)
    } else if pressure.waiting_percent >= PRESSING_PERCENT {
        Some(Reason::Ring)
    } else if pressure.lag_ns >= PRESSING_LAG_NS {
        Some(Reason::Lag)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1_000 * SECOND_NS;

    fn at(ms: u64, waiting_percent: u8) -> Pressure {
        Pressure {
            clock_ns: START + ms * MS,
            waiting_percent,
            dropped: 0,
            lag_ns: 0,
        }
    }

    /// What is left out after each look, one every 100 ms from `from_ms` on.
    fn run(overload: &mut Overload, from_ms: u64, for_ms: u64, waiting_percent: u8) -> Vec<Change> {
        (from_ms..from_ms + for_ms)
            .step_by(100)
            .filter_map(|ms| overload.look(&at(ms, waiting_percent)))
            .collect()
    }

    fn steps(changes: &[Change]) -> Vec<Shedding> {
        changes.iter().map(|change| change.after).collect()
    }

    #[test]
    fn content_goes_before_round_trips_and_comes_back_after_them() {
        let mut overload = Overload::new(SheddingMode::Auto);
        let up = run(&mut overload, 0, 1_000, 80);
        assert_eq!(steps(&up), [Shedding::Content, Shedding::RoundTrips]);
        let down = run(&mut overload, 1_000, 12_000, 3);
        assert_eq!(steps(&down), [Shedding::Content, Shedding::Nothing]);
        assert_eq!(overload.shedding(), Shedding::Nothing);
    }

    #[test]
    fn a_step_is_given_time_to_work() {
        let mut overload = Overload::new(SheddingMode::Auto);
        let up = run(&mut overload, 0, 1_000, 80);
        assert!(up[1].time_ns - up[0].time_ns >= SETTLING_NS);
    }

    #[test]
    fn between_pressing_and_calm_nothing_changes() {
        let mut overload = Overload::new(SheddingMode::Auto);
        run(&mut overload, 0, 100, 60);
        assert_eq!(run(&mut overload, 1_000, 600_000, 40), []);
        assert_eq!(overload.shedding(), Shedding::Content);
    }

    #[test]
    fn drops_and_lag_are_pressing_without_a_full_ring() {
        for (dropped, lag_ns, reason) in [(1, 0, Reason::Drops), (0, PRESSING_LAG_NS, Reason::Lag)]
        {
            let mut overload = Overload::new(SheddingMode::Auto);
            let pressure = Pressure {
                dropped,
                lag_ns,
                ..at(0, 0)
            };
            let change = overload.look(&pressure);
            assert_eq!(change.map(|change| change.reason), Some(reason));
        }
    }

    #[test]
    fn drops_of_long_ago_press_no_more() {
        let mut overload = Overload::new(SheddingMode::Auto);
        let dropped = |ms| Pressure {
            dropped: 7,
            ..at(ms, 0)
        };
        overload.look(&dropped(0));
        for ms in (100..12_000).step_by(100) {
            overload.look(&dropped(ms));
        }
        assert_eq!(overload.shedding(), Shedding::Nothing);
    }

    #[test]
    fn what_swings_comes_back_later_each_time() {
        let mut overload = Overload::new(SheddingMode::Auto);
        let mut waits = Vec::new();
        let mut ms = 0;
        for _ in 0..6 {
            run(&mut overload, ms, 100, 60);
            let calm = (ms + 100..).step_by(100);
            let mut looks = calm.filter_map(|ms| overload.look(&at(ms, 0)));
            let back_ms = looks.next().map_or(0, |back| (back.time_ns - START) / MS);
            waits.push(back_ms - (ms + 100));
            ms = back_ms + 1_000;
        }
        let seconds: Vec<u64> = waits.iter().map(|wait_ms| wait_ms / 1_000).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 80]);
    }

    #[test]
    fn a_step_back_that_lasted_leaves_no_distrust() {
        let mut overload = Overload::new(SheddingMode::Auto);
        for round in 0..3u64 {
            let ms = round * 200_000;
            run(&mut overload, ms, 100, 60);
            let back = run(&mut overload, ms + 100, 60_000, 0);
            assert_eq!(back[0].time_ns, START + (ms + 5_100) * MS);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut overload = Overload::new(SheddingMode::Auto);
        run(&mut overload, 500_000, 100, 60);
        let back = run(&mut overload, 0, 6_000, 0);
        assert_eq!(steps(&back), [Shedding::Nothing]);
    }

    #[test]
    fn what_is_fixed_stays() {
        let mut overload = Overload::new(SheddingMode::Content);
        assert_eq!(run(&mut overload, 0, 60_000, 100), []);
        assert_eq!(overload.shedding(), Shedding::Content);
    }

    proptest! {
        #[test]
        fn each_step_is_to_a_neighbour_and_calm_ends_in_full_service(
            looks: Vec<(u16, u8, u8, u16)>,
        ) {
            let mut overload = Overload::new(SheddingMode::Auto);
            let (mut ms, mut dropped) = (0u64, 0u64);
            for (wait, waiting_percent, drops, lag_ms) in looks {
                ms += u64::from(wait);
                dropped += u64::from(drops / 200);
                let before = overload.shedding();
                let lag_ns = u64::from(lag_ms) * MS;
                let pressure = Pressure { dropped, lag_ns, ..at(ms, waiting_percent) };
                if let Some(change) = overload.look(&pressure) {
                    prop_assert_eq!(change.before, before);
                    prop_assert!(change.after == before.more() || change.after == before.less());
                    prop_assert!(change.after != before);
                }
            }
            for second in 0..200 {
                overload.look(&Pressure { dropped, ..at(ms + second * 1_000, 0) });
            }
            prop_assert_eq!(overload.shedding(), Shedding::Nothing);
        }
    }
}
