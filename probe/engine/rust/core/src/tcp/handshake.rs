//! The three-way handshake (RFC 9293 3.5) as a bystander times it.

use super::micros;
use crate::flow::keeper::Keeper;

/// A SYN seen again sooner than this is a copy made by the mirror: senders wait 1 s (RFC 6298 2.1),
/// and no stack in use less than 200 ms.
const SYN_COPY_NS: u64 = 100_000_000;

/// Times of the three-way handshake, whichever were seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handshake {
    pub first_syn_ns: Option<u64>,
    last_syn_ns: u64,
    last_syn_timestamp: Option<u32>,
    pub syn_retransmissions: u16,
    pub syn_ack_ns: Option<u64>,
    last_syn_ack_ns: u64,
    last_syn_ack_timestamp: Option<u32>,
    syn_ack_retransmissions: u16,
    /// The other side sent a bare SYN too.
    crossed: bool,
    /// In a simultaneous open, the initiator has acknowledged the other's SYN.
    crossing_acknowledged: bool,
    pub established_ns: Option<u64>,
    /// SYN to SYN-ACK: between the tap and the responder. Null where a retransmission makes it
    /// ambiguous and timestamps do not tell, and where it is no time at all: then the capture's
    /// clock is too coarse, or the capture shows the answer first.
    pub responder_us: Option<u32>,
    /// SYN-ACK to ACK: between the tap and the initiator. Null as above, and where the tap missed
    /// what the initiator sent first.
    pub initiator_us: Option<u32>,
    /// First SYN to the final ACK.
    pub setup_us: Option<u32>,
}

impl Handshake {
    /// Keeps it, or gives it back. `last_ns` is the time of the flow's last packet. Of a handshake that
    /// was over long ago the times do not matter any more, but whether there are any; its round trips
    /// matter until they are told.
    pub fn keep(
        &mut self,
        keeper: &mut impl Keeper,
        last_ns: u64,
        is_long_ago: bool,
        is_told: bool,
    ) {
        let mut is_over = is_long_ago && self.established_ns.is_some();
        let mut was_asked = self.first_syn_ns.is_some();
        let mut was_answered = self.syn_ack_ns.is_some();
        keeper.bits([
            &mut is_over,
            &mut was_asked,
            &mut was_answered,
            &mut self.crossed,
            &mut self.crossing_acknowledged,
        ]);
        keeper.option(&mut self.setup_us);
        keeper.short(&mut self.syn_retransmissions);
        if !(is_over && is_told) {
            keeper.option(&mut self.responder_us);
            keeper.option(&mut self.initiator_us);
        }
        if is_over {
            self.first_syn_ns = was_asked.then_some(last_ns);
            self.syn_ack_ns = was_answered.then_some(last_ns);
            self.established_ns = Some(last_ns);
            return;
        }
        keeper.short(&mut self.syn_ack_retransmissions);
        let times = [
            &mut self.first_syn_ns,
            &mut self.syn_ack_ns,
            &mut self.established_ns,
        ];
        times
            .into_iter()
            .for_each(|time_ns| keeper.optional_time(last_ns, time_ns));
        keeper.time(last_ns, &mut self.last_syn_ns);
        keeper.time(last_ns, &mut self.last_syn_ack_ns);
        keeper.option(&mut self.last_syn_timestamp);
        keeper.option(&mut self.last_syn_ack_timestamp);
    }

    pub fn on_syn(&mut self, time_ns: u64, timestamp: Option<u32>) {
        if self.is_copy_of_syn(time_ns) {
            return;
        }
        if self.first_syn_ns.is_some() {
            self.syn_retransmissions = self.syn_retransmissions.saturating_add(1);
        }
        self.first_syn_ns.get_or_insert(time_ns);
        self.last_syn_ns = time_ns;
        self.last_syn_timestamp = timestamp;
    }

    pub fn on_syn_ack(&mut self, time_ns: u64, timestamp: Option<u32>, echo: Option<u32>) {
        if self.syn_ack_ns.is_some() && is_copy(self.last_syn_ack_ns, time_ns) {
            return;
        }
        if self.syn_ack_ns.is_some() {
            self.syn_ack_retransmissions = self.syn_ack_retransmissions.saturating_add(1);
        } else if self.first_syn_ns.is_some() {
            let unambiguous = self.syn_retransmissions == 0
                || (echo.is_some() && echo == self.last_syn_timestamp);
            self.responder_us = elapsed_us(self.last_syn_ns, time_ns).filter(|_| unambiguous);
        }
        self.syn_ack_ns.get_or_insert(time_ns);
        if self.crossed {
            self.settle_crossing(time_ns);
            return;
        }
        self.last_syn_ack_ns = time_ns;
        self.last_syn_ack_timestamp = timestamp;
    }

    /// The ACK that ends the handshake. `is_next`: nothing that the initiator sent before it was
    /// missed, so it is the answer to the SYN-ACK.
    pub fn on_final_ack(&mut self, time_ns: u64, echo: Option<u32>, is_next: bool) {
        self.establish(time_ns);
        if self.syn_ack_ns.is_some() && is_next && !self.crossed {
            self.time_initiator(time_ns, echo);
        }
    }

    /// A bare SYN from the other side: both open at once (RFC 9293 3.5, figure 8). The initiator
    /// answers it as it would a SYN-ACK.
    pub fn on_crossing_syn(&mut self, time_ns: u64, timestamp: Option<u32>) {
        if self.crossed && is_copy(self.last_syn_ack_ns, time_ns) {
            return;
        }
        self.syn_ack_retransmissions = self
            .syn_ack_retransmissions
            .saturating_add(self.crossed.into());
        self.crossed = true;
        self.last_syn_ack_ns = time_ns;
        self.last_syn_ack_timestamp = timestamp;
    }

    /// The initiator's SYN-ACK, which answers the crossing SYN. Returns the round trip between the
    /// tap and the initiator, once.
    pub fn on_crossing_syn_ack(&mut self, time_ns: u64, echo: Option<u32>) -> Option<u32> {
        if !self.crossed || self.crossing_acknowledged {
            return None;
        }
        self.crossing_acknowledged = true;
        self.time_initiator(time_ns, echo);
        self.settle_crossing(time_ns);
        self.initiator_us
    }

    fn settle_crossing(&mut self, time_ns: u64) {
        if self.crossing_acknowledged && self.syn_ack_ns.is_some() && self.established_ns.is_none()
        {
            self.establish(time_ns);
        }
    }

    fn establish(&mut self, time_ns: u64) {
        self.established_ns = Some(time_ns);
        self.setup_us = self.first_syn_ns.map(|first| micros(first, time_ns));
    }

    fn time_initiator(&mut self, time_ns: u64, echo: Option<u32>) {
        let unambiguous = self.syn_ack_retransmissions == 0
            || (echo.is_some() && echo == self.last_syn_ack_timestamp);
        self.initiator_us = elapsed_us(self.last_syn_ack_ns, time_ns).filter(|_| unambiguous);
    }

    /// Whether a SYN at `time_ns` is the last one again, shown by the mirror.
    pub fn is_copy_of_syn(&self, time_ns: u64) -> bool {
        self.first_syn_ns.is_some() && is_copy(self.last_syn_ns, time_ns)
    }
}

fn elapsed_us(from_ns: u64, to_ns: u64) -> Option<u32> {
    Some(micros(from_ns, to_ns)).filter(|&us| us > 0)
}

fn is_copy(first_ns: u64, second_ns: u64) -> bool {
    second_ns.saturating_sub(first_ns) < SYN_COPY_NS
}
