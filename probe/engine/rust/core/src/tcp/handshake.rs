//! The three-way handshake (RFC 9293 3.5) as a bystander times it.

use super::micros;

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
    pub established_ns: Option<u64>,
    /// SYN to SYN-ACK: between the tap and the responder. Null where a retransmission makes it
    /// ambiguous and timestamps do not tell.
    pub responder_us: Option<u32>,
    /// SYN-ACK to ACK: between the tap and the initiator.
    pub initiator_us: Option<u32>,
    /// First SYN to the final ACK.
    pub setup_us: Option<u32>,
}

impl Handshake {
    pub fn on_syn(&mut self, time_ns: u64, timestamp: Option<u32>) {
        if self.first_syn_ns.is_some() && is_copy(self.last_syn_ns, time_ns) {
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
            self.responder_us = unambiguous.then(|| micros(self.last_syn_ns, time_ns));
        }
        self.syn_ack_ns.get_or_insert(time_ns);
        self.last_syn_ack_ns = time_ns;
        self.last_syn_ack_timestamp = timestamp;
    }

    pub fn on_final_ack(&mut self, time_ns: u64, echo: Option<u32>) {
        self.established_ns = Some(time_ns);
        let unambiguous = self.syn_ack_ns.is_some()
            && (self.syn_ack_retransmissions == 0
                || (echo.is_some() && echo == self.last_syn_ack_timestamp));
        self.initiator_us = unambiguous.then(|| micros(self.last_syn_ack_ns, time_ns));
        self.setup_us = self.first_syn_ns.map(|first| micros(first, time_ns));
    }
}

fn is_copy(first_ns: u64, second_ns: u64) -> bool {
    second_ns.saturating_sub(first_ns) < SYN_COPY_NS
}
