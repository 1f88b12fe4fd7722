//! One TCP connection: handshake, round trips, loss and end, from segments of both directions.

use super::before;
use super::half::{Half, Recovery, RoundTrips};
use super::handshake::Handshake;
use super::pace::PaceReport;
use super::reset::{self, Reset, Sender};
use super::round_trip::Moment;
use super::segment::Segment;
use crate::flow::Direction;
use crate::flow::keeper::Keeper;
use crate::flow::samples::Samples;

/// Echoes replace the samples of segments where those are a handful and the echoes are many.
const FEW_SAMPLES: u32 = 3;
const MANY_ECHOES: u32 = 16;

/// How round trips were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Timestamps told which copy was acknowledged, or gave the sample by themselves.
    Timestamp,
    Sequence,
    /// There is nothing but the handshake.
    Handshake,
}

/// What one direction did in an interval.
#[derive(Debug, Clone)]
pub struct HalfReport {
    /// Round trips from the tap to this direction's receiver and back.
    ///
    /// From segments with data or FIN and the acknowledgment of exactly their end, from the
    /// handshake, and from timestamps and their echoes where that is all there is (see
    /// `round_trip`). Bias: a delayed acknowledgement (RFC 9293 3.8.6.3, up to 500 ms, commonly
    /// 40 ms) is part of a lone segment's sample, so the minimum is the better estimate of the path.
    pub round_trips: Samples,
    pub method: Method,
    pub retransmitted_packets: u32,
    pub retransmitted_bytes: u32,
    pub lost_before_tap: u32,
    pub lost_after_tap: u32,
    pub out_of_order_packets: u32,
    /// Sent by this direction.
    pub duplicate_acks: u32,
    /// Sent by this direction.
    pub zero_windows: u32,
    pub pace: PaceReport,
}

/// Data that does not get through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    pub for_ns: u64,
    /// The sender sent it again, or probed the closed window.
    pub sender_tries: bool,
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
    /// How each side's data had been blocked when a side ended the connection.
    blocked_at_end: [Blocked; 2],
    last_payload: Option<Direction>,
    timestamps: bool,
}

impl Connection {
    /// Keeps all but what is known of losses, or gives it back (see [`Half::keep`]). None of a connection
    /// that was reset: it has its end before it. `is_told`: the handshake's round trips are in a record.
    pub fn keep(
        &mut self,
        keeper: &mut impl Keeper,
        last_ns: u64,
        is_long_ago: bool,
        is_told: bool,
    ) {
        let mut was_blocked = self.blocked_at_end != [Blocked::default(); 2];
        keeper.bits([&mut self.timestamps, &mut was_blocked]);
        keeper.direction(&mut self.initiator);
        keeper.direction(&mut self.last_payload);
        self.handshake.keep(keeper, last_ns, is_long_ago, is_told);
        for half in &mut self.halves {
            half.keep(keeper, last_ns, is_long_ago);
        }
        let [one, other] = &mut self.halves;
        one.keep_beside(other, keeper, last_ns, is_long_ago);
        other.keep_beside(one, keeper, last_ns, is_long_ago);
        if was_blocked {
            for blocked in &mut self.blocked_at_end {
                keeper.number(&mut blocked.for_ns);
                keeper.bits([&mut blocked.sender_tries]);
            }
        }
    }

    /// What is known of losses and of what was sent again, by direction.
    pub fn recoveries_mut(&mut self) -> [&mut Option<Box<Recovery>>; 2] {
        self.halves.each_mut().map(Half::recovery_mut)
    }

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

    /// The number of the first byte of `direction`, if its SYN was seen.
    pub fn first_byte(&self, direction: Direction) -> Option<u32> {
        let half = &self.halves[direction.index()];
        half.syn_seen.then_some(half.initial.wrapping_add(1))
    }

    /// Both sides have sent their FIN.
    pub fn is_finished(&self) -> bool {
        self.halves.iter().all(|half| half.fin_seen)
    }

    pub fn any_fin(&self) -> bool {
        self.halves.iter().any(|half| half.fin_seen)
    }

    /// The peer acknowledged bytes that the tap never saw.
    pub fn capture_loss(&self) -> bool {
        self.halves.iter().any(Half::capture_loss)
    }

    /// Whether `direction` has sent data that its peer has not acknowledged.
    pub fn has_unacknowledged(&self, direction: Direction) -> bool {
        self.halves[direction.index()].has_unacknowledged()
    }

    /// Whether `direction` sends its data again and again and nothing comes back.
    pub fn retransmits_in_vain(&self, direction: Direction) -> bool {
        self.halves[direction.index()].retransmits_in_vain()
    }

    /// Whether nothing of what `direction` sent, or wants to send, got through: up to `now_ns`, or
    /// up to when a side left.
    pub fn blocked(&self, direction: Direction, now_ns: u64) -> Blocked {
        if self.any_fin() || self.reset.is_some() {
            return self.blocked_at_end[direction.index()];
        }
        let half = &self.halves[direction.index()];
        let since_ns = half.pace.blocked_since_ns().filter(|_| half.ack_seen);
        Blocked {
            for_ns: now_ns.saturating_sub(since_ns.unwrap_or(now_ns)),
            sender_tries: half.is_trying(),
        }
    }

    /// Whether the receiver of `direction` keeps its window closed, and nothing else is in the way.
    pub fn is_shut_out(&self, direction: Direction) -> bool {
        let half = &self.halves[direction.index()];
        half.pace.is_shut_out() && !half.has_unacknowledged()
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

    /// The interval's figures by direction; they start again from zero. `last`: there is no more.
    pub fn take_report(&mut self, now_ns: u64, last: bool) -> [HalfReport; 2] {
        let round_trip_ns = self.least_round_trip_ns();
        let timestamps = self.timestamps;
        std::array::from_fn(|index| {
            let half = &mut self.halves[index];
            if last {
                half.close();
            }
            report(half, timestamps, now_ns, round_trip_ns)
        })
    }

    /// The least round trip from end to end; 0 while one part is not known.
    fn least_round_trip_ns(&self) -> u64 {
        match self.halves.each_ref().map(Half::least_ns) {
            [0, _] | [_, 0] => 0,
            [forth, back] => forth + back,
        }
    }

    /// Takes in one segment, in the order of capture. Returns false if it belongs to an earlier
    /// connection of the same five-tuple, and says nothing of this one.
    pub fn on_segment(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        time_ns: u64,
    ) -> bool {
        if self.is_under_way() && segment.is_ordinary() {
            self.on_ordinary(direction, segment, time_ns);
            return true;
        }
        self.on_turn(direction, segment, time_ns)
    }

    /// The handshake is over, and no reset was seen.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.is_established() && self.reset.is_none()
    }

    /// Takes in a segment that neither opens nor ends anything, of a connection that is under way.
    #[inline]
    pub fn on_ordinary(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        self.on_timestamps(direction, segment, time_ns);
        if segment.has_ack() {
            self.on_acknowledgement(direction, segment, time_ns);
        }
        self.on_sequence(direction, segment, time_ns);
    }

    /// A segment that opens or ends a connection, or one of a connection that is not open.
    #[inline(never)]
    fn on_turn(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) -> bool {
        if !self.is_established() && self.is_of_earlier(direction, segment) {
            return false;
        }
        if segment.is_reset() {
            self.on_reset(direction, segment, time_ns);
            return true;
        }
        if segment.has_syn() {
            self.on_syn(direction, segment, time_ns);
        } else {
            self.on_timestamps(direction, segment, time_ns);
        }
        if segment.has_ack() {
            if !segment.has_syn() && !self.is_established() {
                self.on_final_ack(direction, segment, time_ns);
            }
            self.on_acknowledgement(direction, segment, time_ns);
        }
        if segment.has_fin() {
            self.note_leaving(time_ns);
        }
        self.on_sequence(direction, segment, time_ns);
        if self.reset.is_some() {
            self.on_sequel(direction, segment, time_ns);
        }
        true
    }

    /// The half of `direction`, and that of the other side.
    #[inline]
    fn halves(&mut self, direction: Direction) -> (&mut Half, &mut Half) {
        let [forward, reverse] = &mut self.halves;
        match direction {
            Direction::Forward => (forward, reverse),
            Direction::Reverse => (reverse, forward),
        }
    }

    /// Where one side has lost its state or uses a port again, the other answers the SYN with an
    /// acknowledgment of the old connection (half-open, RFC 9293 3.5.1; challenge ACK, RFC 5961 4),
    /// and the initiator resets that one. Then it sends its SYN again.
    #[cold]
    fn is_of_earlier(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let responder = if segment.is_reset() {
            direction.opposite()
        } else {
            direction
        };
        let initiator = &self.halves[responder.opposite().index()];
        if self.initiator != Some(responder.opposite())
            || !initiator.syn_seen
            || self.halves[responder.index()].started
        {
            return false;
        }
        if segment.is_reset() {
            return segment.sequence != initiator.next;
        }
        let is_bare = segment.has_ack() && !segment.takes_sequence();
        is_bare && !initiator.has_sent_up_to(segment.acknowledgment)
    }

    #[cold]
    fn on_reset(&mut self, by: Direction, segment: &Segment<'_>, time_ns: u64) {
        if let Some(reset) = &mut self.reset {
            if reset.by == by && !self.halves[by.index()].capture_loss() {
                reset.on_another(segment.sequence);
            }
            return;
        }
        self.note_leaving(time_ns);
        let unanswered = self.last_payload == Some(by.opposite());
        let in_flight = self.has_unacknowledged(by);
        let half = &self.halves[by.index()];
        let known = half.started && half.ack_seen;
        self.reset = Some(Reset {
            by,
            unfinished: !self.any_fin() && (unanswered || in_flight),
            time_ns,
            sequence: segment.sequence,
            sender: Sender {
                next: half.next,
                acknowledgment: half.last_ack_sent,
            },
            hop_limit: segment.hop_limit,
            ttl_mismatch: half.hop_limits.exclude(segment.hop_limit),
            sequence_mismatch: known
                && !reset::is_plausible(segment.sequence, half.acknowledged, half.next),
            sequence_guessed: false,
            sender_continues: false,
        });
    }

    /// A segment after a reset: shows perhaps that another made it. Where what its sender sent since
    /// is acknowledged, the reset missed its mark (RFC 5961 3.2), and the connection goes on.
    #[cold]
    fn on_sequel(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let hop_limits = self.halves[direction.index()].hop_limits;
        let Some(reset) = &mut self.reset else {
            return;
        };
        if reset.by == direction {
            if reset.is_unknown_to(segment, time_ns) {
                reset.sender_continues = true;
                reset.ttl_mismatch |= hop_limits.exclude(reset.hop_limit);
            }
        } else if reset.sender_continues
            && segment.has_ack()
            && before(reset.sender.next, segment.acknowledgment)
        {
            self.reset = None;
        }
    }

    /// The first side ends the connection.
    #[cold]
    fn note_leaving(&mut self, time_ns: u64) {
        if !self.any_fin() {
            self.blocked_at_end = Direction::BOTH.map(|direction| self.blocked(direction, time_ns));
        }
    }

    #[cold]
    fn on_syn(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let timestamp = segment.timestamps.map(|(value, _)| value);
        if segment.is_syn() {
            self.initiator.get_or_insert(direction);
            if self.initiator == Some(direction) {
                self.try_again(time_ns);
                self.handshake.on_syn(time_ns, timestamp);
            } else {
                self.handshake.on_crossing_syn(time_ns, timestamp);
            }
            return;
        }
        self.initiator.get_or_insert(direction.opposite());
        let echo = segment.timestamps.map(|(_, echo)| echo);
        if self.initiator == Some(direction) {
            if let Some(us) = self.handshake.on_crossing_syn_ack(time_ns, echo) {
                self.halves[direction.opposite().index()].on_handshake(us);
            }
        } else {
            let first = self.handshake.syn_ack_ns.is_none();
            self.handshake.on_syn_ack(time_ns, timestamp, echo);
            if let Some(us) = self.handshake.responder_us.filter(|_| first) {
                self.halves[direction.opposite().index()].on_handshake(us);
            }
        }
    }

    /// The initiator was refused and asks again with the same number: what counts is the answer to
    /// come.
    fn try_again(&mut self, time_ns: u64) {
        if !self.is_established() && !self.handshake.is_copy_of_syn(time_ns) {
            self.reset = None;
        }
    }

    #[cold]
    fn on_final_ack(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        if self.initiator != Some(direction) {
            return;
        }
        self.halves[direction.opposite().index()].settle_initial(segment.acknowledgment);
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
            let is_next = !initiator.started || !before(initiator.next, segment.sequence);
            let echo = segment.timestamps.map(|(_, echo)| echo);
            let known = self.handshake.initiator_us.is_some();
            self.handshake.on_final_ack(time_ns, echo, is_next);
            if let Some(us) = self.handshake.initiator_us.filter(|_| !known) {
                self.halves[direction.opposite().index()].on_handshake(us);
            }
        }
    }

    #[inline]
    fn on_timestamps(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let now = Moment::of(time_ns);
        let (half, other) = self.halves(direction);
        let gap_us = now.since(half.last_heard).filter(|_| half.started);
        half.last_heard = now;
        let Some((value, echo)) = segment.timestamps else {
            return;
        };
        half.echo.sent(value, now);
        if segment.has_ack() {
            other.on_echo(echo, now, gap_us, !segment.is_unsampled);
        }
        self.timestamps = true;
    }

    /// An acknowledgement sent by `direction`: judges the data of the opposite direction.
    #[inline]
    fn on_acknowledgement(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        let round_trip_ns = self.least_round_trip_ns();
        let (receiver, sender) = self.halves(direction);
        let window = window(receiver, sender, segment);
        count_windows(receiver, sender, segment);
        let misses_one = has_no_sack(receiver, sender).then(|| {
            let numbering = &mut receiver.numbering;
            numbering.misses_one(segment.identification, Moment::of(time_ns))
        });
        sender.on_acknowledgment(segment, time_ns, round_trip_ns, misses_one);
        let closed = segment.window == 0 && !segment.has_syn();
        let pace = &mut sender.pace;
        pace.on_window(segment.acknowledgment, window, closed, time_ns);
    }

    #[inline]
    fn on_sequence(&mut self, direction: Direction, segment: &Segment<'_>, time_ns: u64) {
        if segment.payload_len > 0 {
            self.last_payload = Some(direction);
        }
        let (sender, receiver) = self.halves(direction);
        let window_closed = receiver.started && receiver.last_window == 0;
        sender.hop_limits.add(segment.hop_limit);
        let trips = RoundTrips {
            sender_ns: receiver.least_ns(),
            receiver_ns: sender.least_ns(),
        };
        sender.on_sequence(segment, time_ns, trips, window_closed);
    }
}

/// Both SYNs were seen, and not both of them offer SACK.
#[inline]
fn has_no_sack(one: &Half, other: &Half) -> bool {
    let both_syns = one.syn_seen & other.syn_seen;
    both_syns & !(one.sack_permitted & other.sack_permitted)
}

/// The window that a segment of `own` offers, in bytes; None where the scale is not known.
#[inline]
fn window(own: &Half, other: &Half, segment: &Segment<'_>) -> Option<u32> {
    if !own.syn_seen || !other.syn_seen || segment.has_syn() {
        return None;
    }
    let shift = own.window_scale.filter(|_| other.window_scale.is_some());
    Some(u32::from(segment.window) << shift.unwrap_or(0))
}

#[inline]
fn count_windows(receiver: &mut Half, sender: &Half, segment: &Segment<'_>) {
    if segment.window == 0 && !segment.has_syn() && !segment.has_fin() {
        receiver.interval.zero_windows += 1;
    }
    let repeated = receiver.started
        && receiver.last_ack_sent == segment.acknowledgment
        && receiver.last_window == segment.window;
    if repeated && !segment.takes_sequence() && sender.has_unacknowledged() {
        receiver.interval.duplicate_acks += 1;
    }
    receiver.last_ack_sent = segment.acknowledgment;
    receiver.last_window = segment.window;
}

fn report(half: &mut Half, timestamps: bool, now_ns: u64, round_trip_ns: u64) -> HalfReport {
    let pace = half.pace.take_report(now_ns, round_trip_ns);
    half.shrink();
    let interval = std::mem::take(&mut half.interval);
    let (sampled, echoes) = (interval.round_trips, interval.echoes);
    let of_segments = sampled.count().unwrap_or(0) - u32::from(interval.handshakes);
    let many_echoes = echoes.count().is_some_and(|count| count >= MANY_ECHOES);
    let by_echo =
        of_segments == 0 && echoes.count().is_some() || of_segments < FEW_SAMPLES && many_echoes;
    let method = if of_segments == 0 && !by_echo {
        Method::Handshake
    } else if timestamps {
        Method::Timestamp
    } else {
        Method::Sequence
    };
    HalfReport {
        round_trips: if by_echo { echoes } else { sampled },
        method,
        retransmitted_packets: interval.retransmitted_packets,
        retransmitted_bytes: interval.retransmitted_bytes,
        lost_before_tap: interval.lost_before_tap,
        lost_after_tap: interval.lost_after_tap,
        out_of_order_packets: interval.out_of_order_packets,
        duplicate_acks: interval.duplicate_acks,
        zero_windows: interval.zero_windows,
        pace,
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
