//! One TCP connection: handshake, round trips, loss and end, from segments of both directions.

use super::before;
use super::loss::{Holes, OldSegment};
use super::segment::Segment;
use crate::flow::Direction;
use crate::flow::samples::Samples;

/// Reordering limit while no round trip is known yet (as Wireshark's `tcp.analysis` has it).
const DEFAULT_ROUND_TRIP_NS: u64 = 3_000_000;

/// A SYN seen again sooner than this is a copy made by the mirror: senders wait 1 s (RFC 6298 2.1),
/// and no stack in use less than 200 ms.
const SYN_COPY_NS: u64 = 100_000_000;

/// A segment whose acknowledgement is awaited.
#[derive(Debug, Clone, Copy, Default)]
struct Probe {
    sequence_end: u32,
    timestamp: u32,
    sent_ns: u64,
    armed: bool,
}

/// One direction: what its sender sent, and how the far end reacted.
#[derive(Debug, Default)]
struct Half {
    /// A sequence number was seen, so `next` is valid.
    started: bool,
    syn_seen: bool,
    fin_seen: bool,
    /// The peer has acknowledged something, so `acknowledged` is valid.
    ack_seen: bool,
    initial: u32,
    /// The highest sequence number sent, plus one.
    next: u32,
    /// The highest acknowledgement of this direction by the peer.
    acknowledged: u32,
    last_ack_sent: u32,
    last_window: u16,
    /// Retransmissions since the peer's acknowledgement last moved.
    vain_retransmissions: u8,
    probe: Probe,
    holes: Option<Box<Holes>>,
    interval: Interval,
}

/// Counters of one direction that restart with each interval.
#[derive(Debug, Default)]
struct Interval {
    /// Round trips between the tap and the receiver of this direction.
    round_trips: Samples,
    retransmitted_packets: u32,
    retransmitted_bytes: u32,
    lost_before_tap: u32,
    lost_after_tap: u32,
    out_of_order_packets: u32,
    duplicate_acks: u32,
    zero_windows: u32,
}

/// What one direction did in an interval.
#[derive(Debug, Clone, Copy)]
pub struct HalfReport {
    /// Round trips from the tap to this direction's receiver and back.
    ///
    /// Taken from data segments and their first acknowledgement, one at a time. With timestamps the
    /// echo tells which copy was acknowledged; without them a retransmission voids the sample
    /// (Karn's rule, RFC 6298 3). Bias: a delayed acknowledgement (RFC 9293 3.8.6.3, up to 500 ms,
    /// commonly 40 ms) is part of the sample, so the minimum is the better estimate of the path.
    pub round_trips: Samples,
    pub retransmitted_packets: u32,
    pub retransmitted_bytes: u32,
    pub lost_before_tap: u32,
    pub lost_after_tap: u32,
    pub out_of_order_packets: u32,
    /// Sent by this direction.
    pub duplicate_acks: u32,
    /// Sent by this direction.
    pub zero_windows: u32,
}

/// Times of the three-way handshake, whichever were seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handshake {
    pub first_syn_ns: Option<u64>,
    last_syn_ns: u64,
    last_syn_timestamp: Option<u32>,
    pub syn_retransmissions: u16,
    syn_ack_ns: Option<u64>,
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

/// A TCP connection seen from the tap.
#[derive(Debug, Default)]
pub struct Connection {
    halves: [Half; 2],
    pub handshake: Handshake,
    /// Who sent the first SYN, or was sent the first SYN-ACK.
    pub initiator: Option<Direction>,
    /// Who sent a reset, and whether it left something unfinished.
    pub reset: Option<Reset>,
    last_payload: Option<Direction>,
    timestamps: bool,
    /// The peer acknowledged bytes that the tap never saw.
    pub capture_loss: bool,
}

/// The reset that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    pub by: Direction,
    /// Neither side had sent a FIN, and data of the other side was unanswered or the resetting
    /// side's own data was in flight.
    pub unfinished: bool,
}

impl Connection {
    /// Whether a segment starts another connection on the same five-tuple: a SYN with a sequence
    /// number that is not the one seen before (RFC 9293 3.6.1; TIME-WAIT reuse).
    pub fn is_reuse(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let half = &self.halves[direction.index()];
        let other = &self.halves[direction.opposite().index()];
        segment.is_syn()
            && if half.syn_seen {
                half.initial != segment.sequence
            } else {
                // A SYN after a bare SYN from the other side is a simultaneous open.
                half.started || (other.started && !other.syn_seen) || self.reset.is_some()
            }
    }

    pub fn is_established(&self) -> bool {
        self.handshake.established_ns.is_some()
    }

    /// Whether a segment of `direction` that begins at `sequence` was sent and is not acknowledged
    /// yet, as far as the tap saw: only such a segment can an ICMP error be about (RFC 5927 4.1).
    pub fn is_in_flight(&self, direction: Direction, sequence: u32) -> bool {
        let half = &self.halves[direction.index()];
        let oldest = if half.ack_seen {
            half.acknowledged
        } else {
            half.initial
        };
        half.started && !before(sequence, oldest) && before(sequence, half.next)
    }

    pub fn syn_ack_seen(&self) -> bool {
        self.handshake.syn_ack_ns.is_some()
    }

    /// Both sides have sent their FIN.
    pub fn is_finished(&self) -> bool {
        self.halves.iter().all(|half| half.fin_seen)
    }

    pub fn any_fin(&self) -> bool {
        self.halves.iter().any(|half| half.fin_seen)
    }

    /// Whether `direction` has sent data that its peer has not acknowledged.
    pub fn has_unacknowledged(&self, direction: Direction) -> bool {
        let half = &self.halves[direction.index()];
        half.started && half.ack_seen && before(half.acknowledged, half.next)
    }

    /// Whether `direction` sends its data again and again and nothing comes back.
    pub fn retransmits_in_vain(&self, direction: Direction) -> bool {
        const AGAIN_AND_AGAIN: u8 = 3;
        self.has_unacknowledged(direction)
            && self.halves[direction.index()].vain_retransmissions >= AGAIN_AND_AGAIN
    }

    /// Whether a reset by `by` refused the connection: all that the SYN was answered with.
    pub fn is_refused(&self, by: Direction) -> bool {
        self.initiator == Some(by.opposite())
            && self.handshake.first_syn_ns.is_some()
            && !self.is_established()
            && !self.halves[by.index()].started
    }

    /// Who sent payload last.
    pub fn last_payload(&self) -> Option<Direction> {
        self.last_payload
    }

    /// Whether round trips come from timestamps (else from sequence numbers).
    pub fn uses_timestamps(&self) -> bool {
        self.timestamps
    }

    /// The interval's figures of `direction`; they start again from zero.
    pub fn take_report(&mut self, direction: Direction) -> HalfReport {
        let interval = std::mem::take(&mut self.halves[direction.index()].interval);
        HalfReport {
            round_trips: interval.round_trips,
            retransmitted_packets: interval.retransmitted_packets,
            retransmitted_bytes: interval.retransmitted_bytes,
            lost_before_tap: interval.lost_before_tap,
            lost_after_tap: interval.lost_after_tap,
            out_of_order_packets: interval.out_of_order_packets,
            duplicate_acks: interval.duplicate_acks,
            zero_windows: interval.zero_windows,
        }
    }

    /// Takes in one segment, in the order of capture.
    pub fn on_segment(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        if segment.is_reset() {
            self.on_reset(direction);
            return;
        }
        if segment.has_syn() {
            self.on_syn(direction, segment, time_ns);
        }
        if segment.has_ack() {
            if !segment.has_syn() {
                self.on_final_ack(direction, segment, time_ns);
            }
            self.on_acknowledgement(direction, segment, time_ns);
        }
        self.on_sequence(direction, segment, time_ns);
    }

    fn on_reset(&mut self, by: Direction) {
        if self.reset.is_some() {
            return;
        }
        let unanswered = self.last_payload == Some(by.opposite());
        let in_flight = self.has_unacknowledged(by);
        self.reset = Some(Reset {
            by,
            unfinished: !self.any_fin() && (unanswered || in_flight),
        });
    }

    fn on_syn(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let timestamp = segment.timestamps.map(|(value, _)| value);
        if segment.is_syn() {
            self.initiator.get_or_insert(direction);
            if self.initiator == Some(direction) {
                self.handshake.on_syn(time_ns, timestamp);
            }
            return;
        }
        self.initiator.get_or_insert(direction.opposite());
        if self.initiator == Some(direction.opposite()) {
            let echo = segment.timestamps.map(|(_, echo)| echo);
            self.handshake.on_syn_ack(time_ns, timestamp, echo);
        }
    }

    fn on_final_ack(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        if self.handshake.established_ns.is_some() || self.initiator != Some(direction) {
            return;
        }
        let initiator = &self.halves[direction.index()];
        let responder = &self.halves[direction.opposite().index()];
        let covers_syn_ack = if responder.syn_seen {
            before(responder.initial, segment.acknowledgment)
        } else {
            // The SYN-ACK was not seen: it shows in that the initiator goes on.
            let first = initiator.initial.wrapping_add(1);
            initiator.syn_seen && !before(segment.sequence, first)
        };
        if covers_syn_ack {
            self.handshake
                .on_final_ack(time_ns, segment.timestamps.map(|(_, echo)| echo));
        }
    }

    /// An acknowledgement sent by `direction`: judges the data of the opposite direction.
    fn on_acknowledgement(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let acknowledgment = segment.acknowledgment;
        self.count_windows(direction, segment);
        let data = &mut self.halves[direction.opposite().index()];
        if !data.ack_seen || before(data.acknowledged, acknowledgment) {
            data.ack_seen = true;
            data.acknowledged = acknowledgment;
            data.vain_retransmissions = 0;
            if let Some(holes) = &mut data.holes {
                self.capture_loss |= holes.acknowledged(acknowledgment);
            }
            if data.started && before(data.next, acknowledgment) {
                self.capture_loss = true;
                data.next = acknowledgment;
            }
        }
        if data.probe.armed && !before(acknowledgment, data.probe.sequence_end) {
            data.probe.armed = false;
            let echoed = segment.timestamps.map(|(_, echo)| echo);
            // An echo of a later copy says nothing about this one.
            if !self.timestamps || echoed == Some(data.probe.timestamp) {
                data.interval
                    .round_trips
                    .add(micros(data.probe.sent_ns, time_ns));
            }
        }
    }

    fn count_windows(&mut self, direction: Direction, segment: &Segment<'_>) {
        let outstanding = self.has_unacknowledged(direction.opposite());
        let half = &mut self.halves[direction.index()];
        if segment.window == 0 && !segment.has_syn() {
            half.interval.zero_windows += 1;
        }
        let bare = segment.payload_len == 0 && !segment.has_syn() && !segment.has_fin();
        let repeated = half.started
            && half.last_ack_sent == segment.acknowledgment
            && half.last_window == segment.window;
        if bare && repeated && outstanding {
            half.interval.duplicate_acks += 1;
        }
        half.last_ack_sent = segment.acknowledgment;
        half.last_window = segment.window;
    }

    fn on_sequence(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let round_trip_ns = self.round_trip_ns();
        self.timestamps |= segment.timestamps.is_some() && !segment.has_syn();
        let half = &mut self.halves[direction.index()];
        half.start(segment);
        half.fin_seen |= segment.has_fin();
        if segment.payload_len > 0 {
            self.last_payload = Some(direction);
        }
        let end = segment.sequence_end();
        if end == segment.sequence || half.is_keep_alive(segment) {
            return;
        }
        if before(half.next, end) {
            half.advance(segment, time_ns);
        } else if segment.payload_len > 0 {
            half.repeat(segment, time_ns, round_trip_ns);
        }
    }

    /// The shortest time in which a retransmission can follow its original.
    fn round_trip_ns(&self) -> u64 {
        match (self.handshake.initiator_us, self.handshake.responder_us) {
            (Some(initiator), Some(responder)) => {
                (u64::from(initiator) + u64::from(responder)) * 1000
            }
            _ => DEFAULT_ROUND_TRIP_NS,
        }
    }
}

impl Half {
    fn start(&mut self, segment: &Segment<'_>) {
        if segment.has_syn() && !self.syn_seen {
            self.syn_seen = true;
            self.initial = segment.sequence;
        }
        if !self.started {
            self.started = true;
            self.next = segment.sequence;
        }
    }

    /// A keep-alive repeats the last acknowledged byte, with or without it (RFC 9293 3.8.4).
    fn is_keep_alive(&self, segment: &Segment<'_>) -> bool {
        segment.payload_len <= 1
            && !segment.has_syn()
            && !segment.has_fin()
            && segment.sequence == self.next.wrapping_sub(1)
            && self.ack_seen
            && self.acknowledged == self.next
    }

    /// A segment with bytes not sent before.
    fn advance(&mut self, segment: &Segment<'_>, time_ns: u64) {
        if before(self.next, segment.sequence) {
            let holes = self.holes.get_or_insert_default();
            holes.open(self.next, segment.sequence, time_ns);
        } else if segment.sequence != self.next {
            self.count_retransmission(self.next.wrapping_sub(segment.sequence));
            self.interval.lost_after_tap += 1;
        }
        self.next = segment.sequence_end();
        if !self.probe.armed && segment.payload_len > 0 {
            self.probe = Probe {
                sequence_end: self.next,
                timestamp: segment.timestamps.map_or(0, |(value, _)| value),
                sent_ns: time_ns,
                armed: true,
            };
        }
    }

    /// A segment all of whose bytes lie before `next`.
    fn repeat(&mut self, segment: &Segment<'_>, time_ns: u64, round_trip_ns: u64) {
        let (start, end) = (segment.sequence, segment.sequence_end());
        let verdict = match &mut self.holes {
            Some(holes) => holes.classify(start, end, time_ns, round_trip_ns),
            None => OldSegment::LostAfterTap,
        };
        match verdict {
            OldSegment::OutOfOrder => {
                self.interval.out_of_order_packets += 1;
                return;
            }
            OldSegment::LostBeforeTap => self.interval.lost_before_tap += 1,
            OldSegment::LostAfterTap => self.interval.lost_after_tap += 1,
        }
        self.count_retransmission(segment.payload_len);
    }

    fn count_retransmission(&mut self, bytes: u32) {
        self.interval.retransmitted_packets += 1;
        self.vain_retransmissions = self.vain_retransmissions.saturating_add(1);
        self.interval.retransmitted_bytes = self.interval.retransmitted_bytes.saturating_add(bytes);
        // Karn's rule; with timestamps too, since copies sent within one tick carry the same value.
        self.probe.armed = false;
    }
}

impl Handshake {
    fn on_syn(&mut self, time_ns: u64, timestamp: Option<u32>) {
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

    fn on_syn_ack(&mut self, time_ns: u64, timestamp: Option<u32>, echo: Option<u32>) {
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

    fn on_final_ack(&mut self, time_ns: u64, echo: Option<u32>) {
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

/// The time between two moments in whole microseconds, 0 where the clock went back.
pub(crate) fn micros(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns) / 1000).unwrap_or(u32::MAX)
}
