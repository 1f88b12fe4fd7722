//! Which hand has the ICMP flow of two hosts.
//!
//! Echoes apart, all that two hosts say to each other over ICMP is one flow, be it about the flows of
//! several hands. The flow stays where it began: with the flow that its first error is about, which
//! tells which way is up.

use std::collections::HashMap;

use super::batch::Arrival;
use crate::decap::{Address, Inner};
use crate::engine::clock::Step;

const SECOND_NS: u64 = 1_000_000_000;
/// As long as an ICMP flow lives without a packet.
const IDLE_NS: u64 = 10 * SECOND_NS;
/// Flows remembered at once, some 60 bytes each.
const CAPACITY: usize = 65_536;

#[derive(Debug, Default)]
pub struct IcmpHomes {
    homes: HashMap<(Address, Address), Home>,
    swept_ns: u64,
    /// Flows whose home was not remembered because there were too many.
    pub shed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Home {
    part: u16,
    last_ns: u64,
}

impl Home {
    /// Whether its flow has not come to its end: that comes at a whole second.
    fn lives(&self, now_ns: u64) -> bool {
        let deadline_ns = self.last_ns.saturating_add(IDLE_NS);
        now_ns / SECOND_NS < deadline_ns.div_ceil(SECOND_NS)
    }
}

impl IcmpHomes {
    /// The hand of an ICMP packet's flow; `begins_at` gives that of a new one.
    pub fn home_of(
        &mut self,
        inner: &Inner<'_>,
        arrival: Arrival,
        begins_at: impl FnOnce() -> u16,
    ) -> u16 {
        let (one, other) = (inner.source, inner.destination);
        let ends = (one.min(other), one.max(other));
        let last_ns = arrival.time_ns.min(arrival.now_ns);
        if let Some(home) = self.homes.get_mut(&ends)
            && home.lives(arrival.now_ns)
        {
            home.last_ns = home.last_ns.max(last_ns);
            return home.part;
        }
        let part = begins_at();
        if self.make_room(arrival.now_ns) || self.homes.contains_key(&ends) {
            self.homes.insert(ends, Home { part, last_ns });
        } else {
            self.shed += 1;
        }
        part
    }

    /// Whether there is room for another; once a second those whose flow has ended are forgotten for it.
    fn make_room(&mut self, now_ns: u64) -> bool {
        if self.homes.len() >= CAPACITY && self.swept_ns / SECOND_NS != now_ns / SECOND_NS {
            self.swept_ns = now_ns;
            self.homes.retain(|_, home| home.lives(now_ns));
        }
        self.homes.len() < CAPACITY
    }

    /// Flows live on where the clock is set back.
    pub fn take_step(&mut self, step: Step) {
        if let Step::Back(now_ns) = step {
            for home in self.homes.values_mut() {
                home.last_ns = home.last_ns.min(now_ns);
            }
        }
    }
}
