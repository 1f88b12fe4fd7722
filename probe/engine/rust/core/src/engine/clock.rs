//! Packet time that one wrong timestamp cannot carry away.

const SECOND_NS: u64 = 1_000_000_000;

/// Later times are taken for this one, so that deadlines behind it can still be told apart.
const LATEST_NS: u64 = u64::MAX - 4096 * SECOND_NS;
/// A step ahead by more than this needs a second packet that agrees.
const LEAP_NS: u64 = 86_400 * SECOND_NS;
/// Packets from further back than this are not merely reordered.
const BEHIND_NS: u64 = 60 * SECOND_NS;
/// So many packets in a row from far back: the capturing clock was set back.
const PACKETS_BEHIND: u32 = 32;

/// What a packet's time does to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Stay,
    Forward(u64),
    Back(u64),
}

/// The greatest packet time that can be believed.
#[derive(Debug, Default)]
pub struct Clock {
    now_ns: u64,
    /// When the second of `now_ns` ends; 0 where that is not known.
    next_second_ns: u64,
    last_packet_ns: u64,
    /// The last packet was more than a day ahead, at this time.
    leap_ns: Option<u64>,
    behind: u32,
    /// Whether the last packet brought another second, or the first.
    is_another_second: bool,
    /// Packets whose time was not believed.
    pub leaps_doubted: u64,
    /// How often the clock was set back.
    pub set_back: u64,
}

impl Clock {
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The time at which a capture ends: where its last packets come from far back, theirs, since
    /// nobody has waited until `now_ns`.
    pub fn closing_ns(&self) -> u64 {
        if self.last_packet_ns.saturating_add(BEHIND_NS) < self.now_ns {
            self.last_packet_ns
        } else {
            self.now_ns
        }
    }

    /// Goes on to the time of a packet that is in order and of the same second, as nearly every one is;
    /// false for any other, which `observe` has to judge.
    #[inline]
    pub fn runs_on(&mut self, packet_ns: u64) -> bool {
        let in_order = self.now_ns <= packet_ns && packet_ns < self.next_second_ns;
        if in_order {
            self.now_ns = packet_ns;
            self.last_packet_ns = packet_ns;
            self.leap_ns = None;
            self.behind = 0;
            self.is_another_second = false;
        }
        in_order
    }

    pub fn observe(&mut self, packet_ns: u64) -> Step {
        let packet_ns = packet_ns.min(LATEST_NS);
        self.last_packet_ns = packet_ns;
        let step = self.step(packet_ns);
        self.is_another_second = match step {
            Step::Stay => false,
            Step::Forward(now_ns) => {
                let before_ns = std::mem::replace(&mut self.now_ns, now_ns);
                before_ns == 0 || now_ns / SECOND_NS != before_ns / SECOND_NS
            }
            Step::Back(now_ns) => {
                self.now_ns = now_ns;
                true
            }
        };
        self.next_second_ns = match self.now_ns {
            0 => 0,
            now_ns => LATEST_NS.min((now_ns / SECOND_NS + 1) * SECOND_NS),
        };
        step
    }

    /// Whether what happens once a second is due with the time observed last.
    pub fn is_another_second(&self) -> bool {
        self.is_another_second
    }

    /// Takes over the time of another clock.
    pub fn follow(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.next_second_ns = 0;
    }

    fn step(&mut self, packet_ns: u64) -> Step {
        let leaps = packet_ns > self.now_ns.saturating_add(LEAP_NS) && self.now_ns > 0;
        let earlier_leap_ns = std::mem::replace(&mut self.leap_ns, leaps.then_some(packet_ns));
        if leaps {
            return match earlier_leap_ns {
                Some(earlier_ns) => Step::Forward(earlier_ns.min(packet_ns)),
                None => {
                    self.leaps_doubted += 1;
                    Step::Stay
                }
            };
        }
        let far_back = packet_ns.saturating_add(BEHIND_NS) < self.now_ns;
        self.behind = if far_back { self.behind + 1 } else { 0 };
        if self.behind >= PACKETS_BEHIND {
            self.behind = 0;
            self.set_back += 1;
            return Step::Back(packet_ns);
        }
        if packet_ns > self.now_ns {
            Step::Forward(packet_ns)
        } else {
            Step::Stay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000 * SECOND_NS;

    fn started() -> Clock {
        let mut clock = Clock::default();
        assert_eq!(clock.observe(START), Step::Forward(START));
        clock
    }

    #[test]
    fn one_packet_of_another_century_changes_nothing() {
        let mut clock = started();
        assert_eq!(clock.observe(4_102_444_800 * SECOND_NS), Step::Stay);
        assert_eq!(clock.observe(START + 1), Step::Forward(START + 1));
        assert_eq!((clock.now_ns(), clock.leaps_doubted), (START + 1, 1));
    }

    #[test]
    fn two_packets_after_years_are_believed() {
        let mut clock = started();
        let later = START + 3650 * LEAP_NS;
        assert_eq!(clock.observe(later), Step::Stay);
        assert_eq!(clock.observe(later + 5), Step::Forward(later));
        assert_eq!(clock.observe(later + 9), Step::Forward(later + 9));
    }

    #[test]
    fn a_gap_within_a_day_is_believed_at_once() {
        let mut clock = started();
        assert_eq!(
            clock.observe(START + LEAP_NS),
            Step::Forward(START + LEAP_NS)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed_after_some_packets() {
        let mut clock = started();
        let earlier = START - 3600 * SECOND_NS;
        let steps: Vec<Step> = (0..u64::from(PACKETS_BEHIND))
            .map(|packet| clock.observe(earlier + packet))
            .collect();
        let last = earlier + u64::from(PACKETS_BEHIND) - 1;
        assert_eq!(steps.last(), Some(&Step::Back(last)));
        assert_eq!(clock.now_ns(), last);
    }

    #[test]
    fn a_capture_that_ends_far_back_ends_there() {
        let mut clock = started();
        assert_eq!(clock.closing_ns(), START);
        clock.observe(START - 3600 * SECOND_NS);
        assert_eq!(clock.closing_ns(), START - 3600 * SECOND_NS);
    }

    #[test]
    fn stragglers_do_not_set_it_back() {
        let mut clock = started();
        for packet in 0..1000 {
            clock.observe(START - 3600 * SECOND_NS);
            clock.observe(START + packet);
        }
        assert_eq!((clock.set_back, clock.now_ns()), (0, START + 999));
    }

    #[test]
    fn a_packet_in_order_says_the_same_by_the_short_way() {
        let (mut short, mut long) = (started(), started());
        for clock in [&mut short, &mut long] {
            clock.observe(START + 3650 * LEAP_NS);
        }
        for clock in [&mut short, &mut long] {
            clock.observe(START + 5);
        }
        assert!(short.runs_on(START + 6));
        assert_eq!(long.observe(START + 6), Step::Forward(START + 6));
        assert_eq!(format!("{short:?}"), format!("{long:?}"));
        assert!(!short.runs_on(START + 5));
        assert!(!short.runs_on(START + SECOND_NS));
    }

    #[test]
    fn the_end_of_time_is_survived() {
        let mut clock = Clock::default();
        assert_eq!(clock.observe(u64::MAX), Step::Forward(LATEST_NS));
        assert_eq!(clock.observe(u64::MAX), Step::Stay);
    }
}
