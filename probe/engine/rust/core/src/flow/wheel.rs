//! Deadlines of flows, on a wheel of one-second slots.
//!
//! Each live flow has exactly one timer. A packet does not touch it: when the timer comes up, the
//! caller looks at the flow and either ends it or sets the timer again.

use super::table::FlowId;

const SECOND_NS: u64 = 1_000_000_000;

/// Slots of the wheel: the farthest a timer can be set is one second less.
const SLOTS: u64 = 512;

/// Timers by the second in which they come up.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<FlowId>>,
    /// The second (since the epoch) whose slot comes up next.
    next: u64,
}

impl Wheel {
    /// A wheel that starts at `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self {
            slots,
            next: now_ns / SECOND_NS + 1,
        }
    }

    /// The time at which the next slot comes up.
    pub fn next_ns(&self) -> u64 {
        self.next.saturating_mul(SECOND_NS)
    }

    /// Sets the flow's timer: it comes up at the first whole second at or after `deadline_ns`, or
    /// as late as the wheel reaches if that is sooner. Returns when it comes up.
    pub fn set(&mut self, id: FlowId, deadline_ns: u64) -> u64 {
        let second = deadline_ns
            .div_ceil(SECOND_NS)
            .clamp(self.next, self.next.saturating_add(SLOTS - 1));
        self.slots[(second % SLOTS) as usize].push(id);
        second.saturating_mul(SECOND_NS)
    }

    /// Takes the timers of the next second into `due` and moves on.
    pub fn turn(&mut self, due: &mut Vec<FlowId>) {
        // The room goes with the timers: a burst would leave it behind in each slot.
        let slot = std::mem::take(&mut self.slots[(self.next % SLOTS) as usize]);
        if due.is_empty() {
            *due = slot;
        } else {
            due.extend(slot);
        }
        self.next = self.next.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: FlowId = FlowId {
        slot: 1,
        generation: 0,
    };

    fn seconds_until_due(wheel: &mut Wheel) -> u64 {
        let start = wheel.next;
        let mut due = Vec::new();
        while due.is_empty() {
            wheel.turn(&mut due);
        }
        wheel.next - start
    }

    #[test]
    fn a_timer_comes_up_at_the_first_second_not_before_its_deadline() {
        let mut wheel = Wheel::new(100 * SECOND_NS);
        wheel.set(FLOW, 102 * SECOND_NS + 1);
        assert_eq!(seconds_until_due(&mut wheel), 3);
    }

    #[test]
    fn a_deadline_in_the_past_comes_up_next() {
        let mut wheel = Wheel::new(100 * SECOND_NS);
        wheel.set(FLOW, 5);
        assert_eq!(seconds_until_due(&mut wheel), 1);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_comes_up_early_rather_than_never() {
        let mut wheel = Wheel::new(0);
        wheel.set(FLOW, u64::MAX);
        assert_eq!(seconds_until_due(&mut wheel), SLOTS);
    }
}
