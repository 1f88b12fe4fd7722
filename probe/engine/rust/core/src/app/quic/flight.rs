//! Initial packets whose acknowledgment is awaited: round trips of the handshake.

/// Most packets remembered; a ClientHello with post-quantum key shares takes two or three.
const MAX_SENT: usize = 8;

/// The Initial packets that one side sent.
///
/// QUIC never uses a packet number twice, so an acknowledgment says which packet it answers, also
/// after a retransmission: what Karn's rule has to leave out in TCP can be measured here. As in
/// RFC 9002 5.1, a sample is taken where the largest number acknowledged is newly so and its packet
/// asked for an acknowledgment. Initial packets are acknowledged at once (RFC 9000 13.2.1), so there
/// is no delay to subtract; the time that a server takes to make its first flight, with which it
/// mostly sends the acknowledgment, is part of the sample.
#[derive(Debug, Default)]
pub struct Flight {
    sent: [Option<Sent>; MAX_SENT],
    /// Packets that asked for an acknowledgment.
    eliciting: u32,
    highest: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    time_ns: u64,
    is_eliciting: bool,
}

impl Flight {
    /// The packet number after the highest one seen.
    pub fn expected(&self) -> u64 {
        self.highest.map_or(0, |number| number.saturating_add(1))
    }

    /// Notes a packet; false if the mirror has shown it before.
    pub fn on_sent(&mut self, number: u64, time_ns: u64, is_eliciting: bool) -> bool {
        if self.sent.iter().flatten().any(|sent| sent.number == number) {
            return false;
        }
        self.highest = self.highest.max(Some(number));
        self.eliciting = self.eliciting.saturating_add(u32::from(is_eliciting));
        let sent = Sent {
            number,
            time_ns,
            is_eliciting,
        };
        // The oldest makes room.
        self.sent.rotate_right(1);
        self.sent[0] = Some(sent);
        true
    }

    /// When the packet that `largest` acknowledges was sent, if it tells a round trip. What is
    /// acknowledged is forgotten.
    pub fn on_acknowledgment(&mut self, largest: u64) -> Option<u64> {
        let is_largest = |sent: &&Sent| sent.number == largest && sent.is_eliciting;
        let sent_ns = self.sent.iter().flatten().find(is_largest)?.time_ns;
        for sent in self.sent.iter_mut().flatten() {
            sent.is_eliciting &= sent.number > largest;
        }
        Some(sent_ns)
    }

    /// When the only packet was sent that asked for an acknowledgment and has none: whatever shows
    /// that it arrived answers it and no other.
    pub fn take_sole(&mut self) -> Option<u64> {
        let only_one = self.eliciting == 1;
        let sent = self
            .sent
            .iter_mut()
            .flatten()
            .find(|sent| sent.is_eliciting);
        let sent = sent.filter(|_| only_one)?;
        sent.is_eliciting = false;
        Some(sent.time_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgment_answers_the_packet_that_it_names() {
        let mut flight = Flight::default();
        flight.on_sent(0, 100, true);
        flight.on_sent(1, 1_000, true); // sent again, under a number of its own
        assert_eq!(flight.on_acknowledgment(1), Some(1_000));
        assert_eq!(flight.on_acknowledgment(1), None, "nothing new");
        assert_eq!(flight.on_acknowledgment(0), None, "older than the largest");
    }

    #[test]
    fn a_packet_that_asks_for_nothing_gives_no_sample() {
        let mut flight = Flight::default();
        flight.on_sent(7, 100, false);
        assert_eq!(flight.on_acknowledgment(7), None);
        assert_eq!(flight.take_sole(), None);
    }

    #[test]
    fn a_copy_made_by_the_mirror_keeps_the_first_time() {
        let mut flight = Flight::default();
        assert!(flight.on_sent(0, 100, true));
        assert!(!flight.on_sent(0, 200, true));
        assert_eq!(flight.on_acknowledgment(0), Some(100));
    }

    #[test]
    fn of_two_unacknowledged_packets_none_is_the_sole_one() {
        let mut flight = Flight::default();
        flight.on_sent(0, 100, true);
        assert_eq!(flight.take_sole(), Some(100));
        flight.on_sent(1, 200, true);
        assert_eq!(flight.take_sole(), None);
    }
}
