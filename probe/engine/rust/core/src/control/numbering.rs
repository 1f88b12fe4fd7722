//! The numbers of a tunnel's packets: which are missing, and which came late.
//!
//! GTP-U numbers the packets of a tunnel in 16 bits where the S flag is set (TS 29.281 5.1); the PDU session
//! container numbers those of a QoS flow in 24 (TS 38.415 5.5.3.18 and 5.5.3.19). A number that is skipped
//! is *missing*; one that comes after all, within the last 64, is *late*. What was lost is the difference:
//! both only ever grow, so that sums over intervals are right though a packet comes in a later one.
//!
//! Nothing says that a sender counts each tunnel's packets: some write random numbers, or count all tunnels
//! together. A gap is told once the next number goes on from behind it, and no more where gaps are the
//! rule; what fits no count is *disordered*, and is neither missing nor numbered.

/// What one packet adds, or what several did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets with a number that was not seen before.
    pub packets: u32,
    /// Numbers that were skipped.
    pub missing: u32,
    /// Packets whose number was skipped before.
    pub late: u32,
    /// Times that the numbers went on elsewhere: another sender, a restart, or more loss than is
    /// believed. What was between is not counted as missing.
    pub jumps: u32,
    /// Packets whose number fits no count.
    pub disordered: u32,
}

impl Counted {
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.missing = self.missing.saturating_add(other.missing);
        self.late = self.late.saturating_add(other.late);
        self.jumps = self.jumps.saturating_add(other.jumps);
        self.disordered = self.disordered.saturating_add(other.disordered);
    }
}

/// Who counts, and so where a number begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    Tunnel,
    /// A QoS flow, by its identifier.
    Flow(u8),
}

impl Counter {
    fn modulus(self) -> u32 {
        match self {
            Self::Tunnel => 1 << 16,
            Self::Flow(_) => 1 << 24,
        }
    }
}

/// Most numbers that are believed to be missing in a row; a larger gap has to go on from there
/// (compare RFC 3550 A.1).
const MAX_MISSING: u32 = 1000;
/// How far back a number is told from one that was seen.
const WINDOW: u32 = u64::BITS;
/// How many more gaps than numbers in order a sender may show that counts; as many again after long order.
const TRUST: u8 = 16;
/// After such a silence the numbers may be those of another tunnel with the same identifier.
const SILENCE_NS: u64 = 30_000_000_000;

/// Where the numbers of a counter are.
#[derive(Debug, Clone, Copy)]
pub struct Numbering {
    highest: u32,
    /// Of the 64 numbers up to the highest; the lowest bit is the highest number's.
    seen: u64,
    /// A number behind a gap, which the next has to confirm.
    beyond_gap: Option<u32>,
    /// What would follow a number that did not fit.
    expected_elsewhere: Option<u32>,
    trust: u8,
    pub last_ns: u64,
}

impl Numbering {
    /// Begins with a first packet. Those before it are none of those that are missing.
    pub fn begin(number: u32, time_ns: u64) -> Self {
        Self {
            highest: number,
            seen: u64::MAX,
            beyond_gap: None,
            expected_elsewhere: None,
            trust: TRUST,
            last_ns: time_ns,
        }
    }

    /// Takes in the next packet.
    pub fn on_number(&mut self, counter: Counter, number: u32, time_ns: u64) -> Counted {
        let is_anew = time_ns.saturating_sub(self.last_ns) > SILENCE_NS;
        self.last_ns = self.last_ns.max(time_ns);
        if is_anew {
            *self = Self::begin(number, time_ns);
            return one();
        }
        let modulus = counter.modulus();
        let mut counted = self.settle_gap(number, modulus);
        counted.add(self.place(number, modulus, time_ns));
        counted
    }

    /// Takes in the number behind a gap if the next one stands beside it.
    fn settle_gap(&mut self, next: u32, modulus: u32) -> Counted {
        let Some(beyond) = self.beyond_gap else {
            return Counted::default();
        };
        let apart = next.wrapping_sub(beyond) & (modulus - 1);
        let behind = self.highest.wrapping_sub(next) & (modulus - 1);
        if apart == 0 || behind < WINDOW {
            // A copy tells nothing.
            return Counted::default();
        }
        self.beyond_gap = None;
        if apart > WINDOW && apart < modulus - WINDOW {
            return disordered();
        }
        self.trust = self.trust.saturating_sub(1);
        let ahead = beyond.wrapping_sub(self.highest) & (modulus - 1);
        let counted = self.go_on(beyond, ahead);
        if self.trust > 0 {
            counted
        } else {
            disordered()
        }
    }

    fn place(&mut self, number: u32, modulus: u32, time_ns: u64) -> Counted {
        let ahead = number.wrapping_sub(self.highest) & (modulus - 1);
        let behind = modulus - ahead;
        match ahead {
            0 => Counted::default(),
            1 => {
                self.gain_trust();
                self.go_on(number, 1)
            }
            2..=MAX_MISSING => {
                self.beyond_gap = Some(number);
                Counted::default()
            }
            _ if behind < WINDOW => self.on_earlier(behind),
            _ => self.on_stray(number, modulus, time_ns),
        }
    }

    fn gain_trust(&mut self) {
        self.trust = (self.trust + 1).min(2 * TRUST);
    }

    fn go_on(&mut self, number: u32, ahead: u32) -> Counted {
        self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
        self.highest = number;
        self.expected_elsewhere = None;
        Counted {
            missing: ahead - 1,
            ..one()
        }
    }

    /// A copy, or late.
    fn on_earlier(&mut self, behind: u32) -> Counted {
        let bit = 1 << behind;
        if self.seen & bit != 0 {
            return Counted::default();
        }
        self.seen |= bit;
        self.gain_trust();
        Counted { late: 1, ..one() }
    }

    /// A number far from the others is believed with its successor.
    fn on_stray(&mut self, number: u32, modulus: u32, time_ns: u64) -> Counted {
        if self.expected_elsewhere != Some(number) {
            self.expected_elsewhere = Some(number.wrapping_add(1) & (modulus - 1));
            return disordered();
        }
        *self = Self::begin(number, time_ns);
        Counted { jumps: 1, ..one() }
    }
}

fn disordered() -> Counted {
    Counted {
        disordered: 1,
        ..Counted::default()
    }
}

fn one() -> Counted {
    Counted {
        packets: 1,
        ..Counted::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(counter: Counter, numbers: impl IntoIterator<Item = u32>) -> Counted {
        let mut numbers = numbers.into_iter();
        let first = numbers.next().expect("one number");
        let mut numbering = Numbering::begin(first, 0);
        let mut counted = one();
        for (step, number) in numbers.enumerate() {
            counted.add(numbering.on_number(counter, number, step as u64));
        }
        counted
    }

    fn figures(numbers: impl IntoIterator<Item = u32>) -> [u32; 4] {
        let counted = count(Counter::Tunnel, numbers);
        [
            counted.packets,
            counted.missing,
            counted.late,
            counted.jumps,
        ]
    }

    #[test]
    fn a_skipped_number_is_missing() {
        assert_eq!(figures([10, 11, 13, 14]), [4, 1, 0, 0]);
        assert_eq!(figures([10, 15, 16]), [3, 4, 0, 0]);
        assert_eq!(figures([10, 15]), [1, 0, 0, 0], "not yet confirmed");
    }

    #[test]
    fn a_packet_that_was_overtaken_is_late_and_not_lost() {
        assert_eq!(figures([10, 12, 11, 13]), [4, 1, 1, 0]);
        assert_eq!(figures((0..70).chain([5])), [70, 0, 0, 0], "seen before");
        let overtaken = (0..5).chain(6..69).chain([5]);
        assert_eq!(figures(overtaken), [69, 1, 1, 0], "63 numbers later");
        let forgotten = (0..5).chain(6..70).chain([5]);
        assert_eq!(figures(forgotten), [69, 1, 0, 0], "64 numbers later");
    }

    #[test]
    fn a_packet_from_before_the_first_one_is_not_late() {
        assert_eq!(figures([10, 9, 8, 11]), [2, 0, 0, 0]);
    }

    #[test]
    fn copies_are_one_packet() {
        assert_eq!(figures([10, 10, 11, 11, 10, 12]), [3, 0, 0, 0]);
        assert_eq!(
            figures([7; 100]),
            [1, 0, 0, 0],
            "a sender that does not count"
        );
    }

    #[test]
    fn numbers_go_around() {
        assert_eq!(figures([65_534, 65_535, 0, 1]), [4, 0, 0, 0]);
        assert_eq!(figures([65_534, 1, 65_535]), [3, 2, 1, 0]);
        let flow = count(Counter::Flow(9), [0xff_fffe, 0xff_ffff, 0, 2, 3]);
        assert_eq!((flow.packets, flow.missing), (5, 1));
        let beyond = count(Counter::Flow(9), [65_535, 65_536]);
        assert_eq!((beyond.packets, beyond.missing), (2, 0));
    }

    #[test]
    fn a_sender_that_begins_anew_has_lost_nothing() {
        assert_eq!(figures([5000, 5001, 0, 1, 2]), [4, 0, 0, 1]);
        assert_eq!(figures([5000, 5001, 40_000, 40_001]), [3, 0, 0, 1]);
    }

    #[test]
    fn one_wrong_number_changes_nothing() {
        assert_eq!(figures([10, 11, 40_000, 12, 13]), [4, 0, 0, 0]);
        assert_eq!(figures([10, 40_000, 11, 40_001, 12]), [3, 0, 0, 0]);
    }

    #[test]
    fn the_largest_gap_that_is_believed() {
        assert_eq!(figures([0, 1000, 1001]), [3, 999, 0, 0]);
        assert_eq!(figures([0, 1001, 1003]), [1, 0, 0, 0]);
    }

    #[test]
    fn after_a_long_silence_the_numbers_begin_anew() {
        let mut numbering = Numbering::begin(10, 0);
        numbering.on_number(Counter::Tunnel, 20, SILENCE_NS);
        let soon = numbering.on_number(Counter::Tunnel, 21, SILENCE_NS);
        assert_eq!(soon.missing, 9);
        let later = numbering.on_number(Counter::Tunnel, 30, 2 * SILENCE_NS + 1);
        assert_eq!((later.packets, later.missing, later.jumps), (1, 0, 0));
    }

    #[test]
    fn a_sender_whose_numbers_are_no_count_has_lost_nothing() {
        let random = (0..300_u32).map(|step| step.wrapping_mul(2_654_435_761) >> 16);
        let backwards = (0..300_u32).map(|step| 40_000 - step);
        for numbers in [random.collect::<Vec<_>>(), backwards.collect()] {
            let counted = count(Counter::Tunnel, numbers);
            assert!(counted.packets < 5 && counted.missing < 100, "{counted:?}");
            assert!(counted.disordered > 200, "{counted:?}");
        }
    }

    #[test]
    fn a_sender_that_counts_all_its_tunnels_together_is_soon_not_believed() {
        let counted = count(Counter::Tunnel, (0..300).map(|step| step * 7));
        assert!(counted.missing <= 6 * u32::from(TRUST), "{counted:?}");
        assert!(counted.disordered > 270, "{counted:?}");
    }

    proptest! {
        /// Whatever is lost, doubled or overtaken by a few: packets, missing and late tell of it exactly.
        #[test]
        fn what_is_lost_is_what_is_missing_and_not_late(
            start in 0_u32..65_536,
            fates in prop::collection::vec(0_u8..8, 1..400),
        ) {
            let mut sent: Vec<(usize, u32)> = Vec::new();
            for (place, fate) in fates.iter().enumerate() {
                let number = (start + place as u32) & 0xffff;
                match fate {
                    0 => {}
                    1 => sent.push((place + 7, number)),
                    2 => sent.extend([(place, number), (place + 3, number)]),
                    _ => sent.push((place, number)),
                }
            }
            // The ends are not lost and not late: else nobody could tell.
            let last = (start + fates.len() as u32) & 0xffff;
            sent.push((fates.len() + 8, last));
            sent.push((fates.len() + 9, (last + 1) & 0xffff));
            sent.sort_by_key(|&(time, _)| time);
            let before = start.wrapping_sub(1) & 0xffff;
            let counted = count(Counter::Tunnel, [before].into_iter().chain(sent.iter().map(|one| one.1)));
            let lost = fates.iter().filter(|&&fate| fate == 0).count() as u32;
            prop_assert_eq!(counted.missing - counted.late, lost);
            prop_assert_eq!(counted.packets, fates.len() as u32 + 3 - lost);
            prop_assert_eq!(counted.jumps, 0);
        }

        #[test]
        fn no_more_is_late_than_was_missing(numbers in prop::collection::vec(any::<u32>(), 1..200)) {
            for counter in [Counter::Tunnel, Counter::Flow(1)] {
                let within = numbers.iter().map(|number| number & (counter.modulus() - 1));
                let counted = count(counter, within);
                prop_assert!(counted.late <= counted.missing);
                prop_assert!(counted.packets as usize <= numbers.len());
            }
        }
    }
}
