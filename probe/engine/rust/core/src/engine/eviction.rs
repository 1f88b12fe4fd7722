//! Who gives way when the table of flows is full.
//!
//! Flows of which nothing is known yet come first: opened and not answered, or of a few packets one way.
//! A scan or a flood is made of them. They wait in the order in which they came, and have a second to
//! prove themselves, or less if they are an eighth of the table: so a flood takes no more than that from
//! flows that were there before, and a full table still lets new ones in. Then come, of a few that are
//! looked at, flows that are closed, and those that were silent for the longest time.

use std::collections::VecDeque;

use crate::engine::flows::{Flow, Flows};
use crate::flow::FlowId;

const SECOND_NS: u64 = 1_000_000_000;
/// In which a new flow may prove itself.
const PROBATION_NS: u64 = SECOND_NS;
/// What was silent for so long would hardly be missed.
const IDLE_NS: u64 = 60 * SECOND_NS;
/// The share of the table that unproven flows may keep.
const SHARE: usize = 8;
/// Bound of one search; flows that proved themselves meanwhile are found here once and never again.
const SEARCH: usize = 32;

/// What gave way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evicted {
    /// Closed, and kept for stragglers only.
    Closed,
    /// Unanswered, or a few packets one way.
    Unproven,
    /// Silent for a minute or more.
    Idle,
    Active,
}

/// The counters, in the order of `Evicted`.
const NAMES: [&str; 4] = [
    "flows_evicted_closed",
    "flows_evicted_unproven",
    "flows_evicted_idle",
    "flows_evicted_active",
];

/// Newcomers in the order in which they came, and what was evicted.
#[derive(Debug)]
pub struct Eviction {
    newcomers: VecDeque<FlowId>,
    most: usize,
    capacity: usize,
    counts: [u64; NAMES.len()],
}

impl Eviction {
    /// For a table of `capacity` flows.
    pub fn new(capacity: usize) -> Self {
        Self {
            newcomers: VecDeque::new(),
            most: (capacity / SHARE).max(1),
            capacity,
            counts: [0; NAMES.len()],
        }
    }

    /// Evictions since the start by what gave way.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.counts)
    }

    /// Notes a flow that begins, with `live` flows in the table. While half of it is free nobody will
    /// have to give way soon.
    #[inline]
    pub fn on_begin(&mut self, id: FlowId, live: usize) {
        if live * 2 < self.capacity {
            return;
        }
        if self.newcomers.len() == self.most {
            self.newcomers.pop_front();
        }
        self.newcomers.push_back(id);
    }

    /// Chooses and counts who gives way.
    #[cold]
    pub fn choose(&mut self, flows: &mut Flows, now_ns: u64) -> Option<FlowId> {
        let victim = self.unproven(flows, now_ns).or_else(|| {
            let id = flows.victim(|flow| (standing(flow, now_ns), flow.last_ns()))?;
            Some((id, standing(flows.peek(id)?, now_ns)))
        });
        let (id, evicted) = victim?;
        self.counts[evicted as usize] += 1;
        Some(id)
    }

    fn unproven(&mut self, flows: &Flows, now_ns: u64) -> Option<(FlowId, Evicted)> {
        for _ in 0..SEARCH {
            let id = *self.newcomers.front()?;
            let newcomer = flows.peek(id).filter(|it| it.is_unproven());
            if let Some(flow) = newcomer {
                let age_ns = now_ns.saturating_sub(flow.start_ns());
                if age_ns < PROBATION_NS && self.newcomers.len() < self.most {
                    return None;
                }
                self.newcomers.pop_front();
                return Some((id, Evicted::Unproven));
            }
            self.newcomers.pop_front();
        }
        None
    }
}

/// The lower, the sooner it gives way.
fn standing(flow: &Flow, now_ns: u64) -> Evicted {
    let silent_ns = now_ns.saturating_sub(flow.last_ns());
    if flow.is_closed() {
        Evicted::Closed
    } else if flow.is_unproven() && silent_ns >= PROBATION_NS {
        Evicted::Unproven
    } else if silent_ns >= IDLE_NS {
        Evicted::Idle
    } else {
        Evicted::Active
    }
}
