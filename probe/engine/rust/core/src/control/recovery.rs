//! What nodes say of their last start, from which their restarts are told.

use std::collections::HashMap;

use crate::control::message::Protocol;
use crate::decap::Address;

const SECOND_NS: u64 = 1_000_000_000;
/// How far two clocks that run alike may seem apart between two messages, in seconds.
const CLOCK_SLACK_S: u32 = 2;

/// The latest start that a node has told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// A restart counter of 8 bits (GTP), or seconds since 1900 (PFCP).
    pub counter: u32,
    /// When it told of it.
    pub told_ns: u64,
}

/// Restart counters (TS 23.007 18 and 20), or times of start, by node.
#[derive(Debug)]
pub struct Recoveries {
    known: HashMap<(Protocol, Address), Recovery>,
    limit: usize,
}

impl Recoveries {
    /// `limit`: nodes; of further ones restarts go unnoticed.
    pub fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            limit,
        }
    }

    /// Takes in what a node says, and tells whether it has restarted. A counter that goes back is of a
    /// message that was overtaken.
    pub fn has_restarted(
        &mut self,
        protocol: Protocol,
        node: Address,
        counter: u32,
        told_ns: u64,
    ) -> bool {
        let now = Recovery { counter, told_ns };
        let Some(&before) = self.known.get(&(protocol, node)) else {
            self.set(protocol, node, now);
            return false;
        };
        if !is_later(protocol, before.counter, counter) {
            return false;
        }
        self.set(protocol, node, now);
        !(protocol == Protocol::Pfcp && is_mere_clock(before, now))
    }

    pub fn set(&mut self, protocol: Protocol, node: Address, recovery: Recovery) {
        let key = (protocol, node);
        if self.known.len() < self.limit || self.known.contains_key(&key) {
            self.known.insert(key, recovery);
        }
    }

    /// All of them, in an order of their own.
    pub fn all(&self) -> Vec<(Protocol, Address, Recovery)> {
        let known = self.known.iter();
        let mut all: Vec<_> = known.map(|(&(of, node), &now)| (of, node, now)).collect();
        all.sort_unstable_by_key(|&(protocol, node, _)| (protocol as u8, node));
        all
    }
}

/// Counters of 8 bits wrap around; PFCP tells the time of the start (TS 29.244 8.2.65).
fn is_later(protocol: Protocol, before: u32, now: u32) -> bool {
    const HALF_WAY: u32 = 128;
    match protocol {
        Protocol::Gtpv1 | Protocol::Gtpv2 => {
            (1..HALF_WAY).contains(&(now.wrapping_sub(before) & 0xff))
        }
        _ => now > before,
    }
}

/// Some SMFs tell the time of the message for that of their start. Then both advance alike, which of a
/// node that was up for a while before it restarted they do not.
fn is_mere_clock(before: Recovery, now: Recovery) -> bool {
    let elapsed_s = now.told_ns.saturating_sub(before.told_ns) / SECOND_NS;
    let elapsed_s = u32::try_from(elapsed_s).unwrap_or(u32::MAX);
    let advanced_s = now.counter.wrapping_sub(before.counter);
    advanced_s.abs_diff(elapsed_s) <= CLOCK_SLACK_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8) -> Address {
        Address::v4([10, 0, 0, last])
    }

    /// How many of the messages, as counter and second, tell of a restart.
    fn restarts(protocol: Protocol, told: &[(u32, u64)]) -> usize {
        let mut recoveries = Recoveries::new(8);
        let told = told.iter().filter(|&&(counter, second)| {
            recoveries.has_restarted(protocol, node(1), counter, second * SECOND_NS)
        });
        told.count()
    }

    #[test]
    fn a_counter_that_advances_is_a_restart_and_one_that_was_overtaken_is_none() {
        assert_eq!(restarts(Protocol::Gtpv2, &[(7, 0), (7, 60), (8, 120)]), 1);
        assert_eq!(restarts(Protocol::Gtpv2, &[(255, 0), (0, 60)]), 1);
        assert_eq!(restarts(Protocol::Gtpv2, &[(8, 0), (7, 1), (8, 2)]), 0);
    }

    #[test]
    fn a_later_start_is_a_restart() {
        let start = 3_848_000_000;
        let told = [(start, 100), (start, 160), (start + 215, 220)];
        assert_eq!(restarts(Protocol::Pfcp, &told), 1);
    }

    #[test]
    fn a_node_that_tells_the_time_for_its_start_has_not_restarted() {
        let start = 3_848_000_000;
        let requests = [
            (start + 3600, 100),
            (start + 3605, 105),
            (start + 3611, 110),
        ];
        assert_eq!(restarts(Protocol::Pfcp, &requests), 0);
        let with_answers = [(start + 3600, 100), (start, 101), (start + 3605, 105)];
        assert_eq!(restarts(Protocol::Pfcp, &with_answers), 0);
    }

    #[test]
    fn nodes_are_bounded_and_those_known_are_followed() {
        let mut recoveries = Recoveries::new(1);
        let (one, other) = (node(1), node(2));
        for (node, counter, restarted) in [
            (one, 1, false),
            (other, 1, false),
            (other, 2, false),
            (one, 2, true),
        ] {
            let has_restarted = recoveries.has_restarted(Protocol::Gtpv1, node, counter, 0);
            assert_eq!(has_restarted, restarted);
        }
        assert_eq!(recoveries.all().len(), 1);
    }
}
