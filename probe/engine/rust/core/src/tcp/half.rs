//! One direction of a connection: what its sender sent, and what became of it.

use super::holes::{Filling, Holes, Sighting};
use super::numbering::Numbering;
use super::pace::{Pace, Sent};
use super::repeats::{Answer, Losses, Repeats, Stretches, WithoutSack};
use super::reset::HopLimits;
use super::round_trip::{Echo, Marks, Moment};
use super::segment::Segment;
use super::{LEAST_TIMEOUT_US, before};
use crate::flow::keeper::Keeper;
use crate::flow::samples::Samples;

/// Reordering limit while no round trip is known yet (as Wireshark's `tcp.analysis` has it).
const DEFAULT_ROUND_TRIP_NS: u64 = 3_000_000;
/// What comes later than this is neither late nor a copy, whatever the round trips seem to be: of a
/// flow that sends little they hold the ends' own time, and may be of seconds.
const LONGEST_TOO_SOON_NS: u64 = 100_000_000;
/// No window is larger (RFC 7323 2.3): what lies further off belongs to no segment of this
/// connection.
const LARGEST_WINDOW: u32 = 1 << 30;

/// Round trips that the connection knows of when a segment arrives, in nanoseconds; 0 if unknown.
#[derive(Debug, Clone, Copy)]
pub struct RoundTrips {
    /// Least between the tap and the segment's sender.
    pub sender_ns: u64,
    /// Least between the tap and its receiver.
    pub receiver_ns: u64,
}

impl RoundTrips {
    /// The time in which no retransmission can follow its original: a round trip from end to end.
    /// An eighth is left to round trips that have become shorter.
    fn too_soon_ns(self) -> u64 {
        if self.sender_ns == 0 || self.receiver_ns == 0 {
            return DEFAULT_ROUND_TRIP_NS;
        }
        ((self.sender_ns + self.receiver_ns) / 8 * 7).min(LONGEST_TOO_SOON_NS)
    }
}

/// What is kept only of directions with losses, retransmissions or reordering.
#[derive(Debug, Default)]
pub struct Recovery {
    holes: Holes,
    repeats: Repeats,
    /// What the receiver holds out of order.
    held: Stretches,
    /// The receiver says nothing of what it holds out of order.
    no_sack: bool,
}

/// One direction: what its sender sent, and how the far end reacted.
#[derive(Debug, Default)]
pub struct Half {
    /// A sequence number was seen, so `next` is valid.
    pub started: bool,
    pub syn_seen: bool,
    pub fin_seen: bool,
    /// The peer has acknowledged something, so `acknowledged` is valid.
    pub ack_seen: bool,
    /// The SYN carried data (RFC 7413), which the receiver may have refused.
    fast_open: bool,
    /// Timeouts of the segment next to be acknowledged, each longer than the one before.
    timeouts: u8,
    /// Of what is outstanding, something was sent again.
    repeated: bool,
    /// Segments in a row from outside of any window.
    strays: u8,
    /// Its SYN says that it would send SACK blocks (RFC 2018 2).
    pub sack_permitted: bool,
    /// Shift of the windows that this direction offers, from its SYN.
    pub window_scale: Option<u8>,
    pub hop_limits: HopLimits,
    pub initial: u32,
    /// The initial number of another SYN-ACK to the same SYN.
    rival: Option<u32>,
    /// The highest sequence number sent, plus one.
    pub next: u32,
    /// The highest acknowledgement of this direction by the peer.
    pub acknowledged: u32,
    pub last_ack_sent: u32,
    pub last_window: u16,
    /// Least round trip between the tap and the receiver; 0 before the first.
    pub least_us: u32,
    largest: u32,
    last_timeout: Moment,
    timeout_us: u32,
    last_advance: Moment,
    /// When this direction was last heard.
    pub last_heard: Moment,
    /// Of its packets, where the two have agreed on no SACK.
    pub numbering: Numbering,
    marks: Marks,
    pub echo: Echo,
    pub pace: Pace,
    recovery: Option<Box<Recovery>>,
    /// Bytes were acknowledged over which the sender had gone on, and which the tap never saw.
    capture_loss: bool,
    pub interval: Interval,
}

/// Counters of one direction that restart with each interval.
#[derive(Debug, Default)]
pub struct Interval {
    /// Round trips of segments and their acknowledgments, and of the handshake.
    pub round_trips: Samples,
    /// How many of them are of the handshake.
    pub handshakes: u8,
    /// Round trips of timestamps and their echoes.
    pub echoes: Samples,
    pub retransmitted_packets: u32,
    pub retransmitted_bytes: u32,
    pub lost_before_tap: u32,
    pub lost_after_tap: u32,
    pub out_of_order_packets: u32,
    pub duplicate_acks: u32,
    pub zero_windows: u32,
}

impl Interval {
    fn keep(&mut self, keeper: &mut impl Keeper) {
        let counters = [
            &mut self.retransmitted_packets,
            &mut self.retransmitted_bytes,
            &mut self.lost_before_tap,
            &mut self.lost_after_tap,
            &mut self.out_of_order_packets,
            &mut self.duplicate_acks,
            &mut self.zero_windows,
        ];
        let mut has_counted = counters.iter().any(|counter| **counter != 0);
        let mut has_samples = self.round_trips.count().is_some() || self.echoes.count().is_some();
        keeper.bits([&mut has_counted, &mut has_samples]);
        if has_counted {
            counters
                .into_iter()
                .for_each(|counter| keeper.small(counter));
        }
        if has_samples {
            keeper.byte(&mut self.handshakes);
            self.round_trips.keep(keeper);
            self.echoes.keep(keeper);
        }
    }

    fn count(&mut self, losses: Losses) {
        // What was withdrawn may stand in an earlier record: then this one counts too few, not
        // fewer than none.
        let lost = self.lost_after_tap.saturating_add(losses.found);
        self.lost_after_tap = lost.saturating_sub(losses.withdrawn);
    }
}

impl Half {
    /// Keeps all but what is known of losses, or gives it back. `last_ns` is the time of the flow's last
    /// packet, `is_long_ago`: more than a round trip before now, so that the finer times do not matter
    /// any more.
    pub fn keep(&mut self, keeper: &mut impl Keeper, last_ns: u64, is_long_ago: bool) {
        let last = Moment::of(last_ns);
        let mut is_scaled = self.window_scale.is_some();
        let mut is_exact = !is_long_ago || !self.marks.is_empty() || self.has_unacknowledged();
        let mut is_rare = self.timeouts != 0
            || self.timeout_us != 0
            || self.strays != 0
            || self.rival.is_some()
            || self.numbering.is_used();
        keeper.bits([
            &mut self.started,
            &mut self.syn_seen,
            &mut self.fin_seen,
            &mut self.ack_seen,
            &mut self.fast_open,
            &mut self.repeated,
            &mut self.sack_permitted,
            &mut self.capture_loss,
            &mut is_scaled,
            &mut is_exact,
            &mut is_rare,
        ]);
        if is_scaled {
            keeper.byte(self.window_scale.get_or_insert_default());
        }
        self.hop_limits.keep(keeper);
        if self.syn_seen {
            keeper.word(&mut self.initial);
            keeper.near(self.initial, &mut self.next);
        } else {
            keeper.word(&mut self.next);
            keeper.near(self.next, &mut self.initial);
        }
        keeper.near(self.next, &mut self.acknowledged);
        keeper.short(&mut self.last_window);
        keeper.small(&mut self.least_us);
        keeper.small(&mut self.largest);
        if is_exact {
            self.last_advance.keep(keeper, last);
            self.marks.keep(keeper, self.next, last);
        } else {
            self.last_advance = last;
        }
        self.echo.keep(keeper, last);
        if is_rare {
            keeper.byte(&mut self.timeouts);
            keeper.small(&mut self.timeout_us);
            self.last_timeout.keep(keeper, last);
            keeper.byte(&mut self.strays);
            keeper.option(&mut self.rival);
            self.numbering.keep(keeper, last);
        }
        self.pace
            .keep(keeper, self.acknowledged, last_ns, is_long_ago);
        self.interval.keep(keeper);
    }

    /// Keeps what lies close to what `other`, the other half, knows, or gives it back. How long ago a side
    /// was heard matters no more where nothing awaits it.
    pub fn keep_beside(
        &mut self,
        other: &Self,
        keeper: &mut impl Keeper,
        last_ns: u64,
        is_long_ago: bool,
    ) {
        keeper.near(other.acknowledged, &mut self.last_ack_sent);
        let last = Moment::of(last_ns);
        if is_long_ago && !other.echo.is_awaiting() {
            self.last_heard = last;
        } else {
            self.last_heard.keep(keeper, last);
        }
    }

    /// What is known of losses and of what was sent again.
    pub fn recovery_mut(&mut self) -> &mut Option<Box<Recovery>> {
        &mut self.recovery
    }

    pub fn least_ns(&self) -> u64 {
        u64::from(self.least_us) * 1000
    }

    /// The peer acknowledged bytes that the tap never saw. Beyond a FIN there is nothing to miss.
    pub fn capture_loss(&self) -> bool {
        let unseen = self.acknowledged.wrapping_sub(self.next) as i32 > 1;
        self.capture_loss || self.started && self.ack_seen && unseen
    }

    /// Whether `acknowledgment` is of something that the tap saw this direction send.
    pub fn has_sent_up_to(&self, acknowledgment: u32) -> bool {
        before(self.initial, acknowledgment) && !before(self.next, acknowledgment)
    }

    /// Its sender has sent data that the peer has not acknowledged.
    pub fn has_unacknowledged(&self) -> bool {
        self.started && self.ack_seen && before(self.acknowledged, self.next)
    }

    /// Its sender goes on trying: it sends again what is outstanding, or probes a closed window.
    pub fn is_trying(&self) -> bool {
        self.repeated || self.pace.is_probed()
    }

    /// The sender's timeouts grow longer and longer, and nothing comes back.
    pub fn retransmits_in_vain(&self) -> bool {
        const AGAIN_AND_AGAIN: u8 = 3;
        self.has_unacknowledged() && self.timeouts >= AGAIN_AND_AGAIN
    }

    /// Takes in a round trip between the tap and the receiver. None is of no time at all: then the
    /// capture's clock is too coarse, or made up.
    #[inline]
    fn on_round_trip(&mut self, us: u32, sampled: bool) {
        if us > 0 {
            // What is lost and what is late is told by the least, under overload too.
            self.note_least(us);
            if sampled {
                self.interval.round_trips.add(us);
            }
        }
    }

    #[inline]
    fn note_least(&mut self, us: u32) {
        if self.least_us == 0 || us < self.least_us {
            self.least_us = us;
        }
    }

    pub fn on_handshake(&mut self, us: u32) {
        self.on_round_trip(us, true);
        self.interval.handshakes = self.interval.handshakes.saturating_add((us > 0).into());
    }

    /// The peer echoes a timestamp of this direction, `gap_us` after its packet before.
    #[inline]
    pub fn on_echo(&mut self, echo: u32, now: Moment, gap_us: Option<u32>, sampled: bool) {
        if let Some(us) = self.echo.echoed(echo, now, gap_us).filter(|&us| us > 0) {
            self.note_least(us);
            if sampled {
                self.interval.echoes.add(us);
            }
        }
    }

    /// Takes in an acknowledgment of this direction by the peer; `round_trip_ns` is the least from
    /// end to end. `misses_one` is known where the two have agreed on no SACK (see [`Numbering`]).
    #[inline]
    pub fn on_acknowledgment(
        &mut self,
        segment: &Segment<'_>,
        time_ns: u64,
        round_trip_ns: u64,
        misses_one: Option<bool>,
    ) {
        let up_to = segment.acknowledgment;
        if self.started && up_to.wrapping_sub(self.next) as i32 > LARGEST_WINDOW as i32 {
            return;
        }
        if up_to == self.next.wrapping_add(1) && self.may_lack_a_byte() {
            self.next = up_to;
        }
        let echo = segment.timestamps.map(|(_, echo)| echo);
        let from = self.acknowledged;
        if !self.ack_seen || before(self.acknowledged, up_to) {
            self.ack_seen = true;
            self.acknowledged = up_to;
            self.timeouts = 0;
            self.timeout_us = 0;
            self.repeated = false;
            if self.started {
                let data_end = self.next.wrapping_sub(self.fin_seen.into());
                let all = !before(up_to, data_end);
                self.pace.on_progress(time_ns, all, round_trip_ns);
            }
            if let Some(us) = self.marks.acknowledged(up_to, echo, Moment::of(time_ns)) {
                self.on_round_trip(us, !segment.is_unsampled);
            }
        }
        if self.recovery.is_some() || !segment.sack.is_empty() {
            let without_sack = misses_one.map(|misses_one| WithoutSack { from, misses_one });
            self.on_report(segment, time_ns, round_trip_ns, without_sack);
        }
    }

    /// One byte ahead of what was seen is no loss of the capture where a probe of a closed window
    /// was taken in after all, or where all that was seen so far is a keep-alive without a byte.
    #[cold]
    fn may_lack_a_byte(&self) -> bool {
        let only_bare = !self.syn_seen && self.largest == 0;
        self.started && !self.fin_seen && (self.pace.is_probed() || only_bare)
    }

    /// What an acknowledgment says of holes and of retransmissions.
    #[cold]
    fn on_report(
        &mut self,
        segment: &Segment<'_>,
        time_ns: u64,
        round_trip_ns: u64,
        without_sack: Option<WithoutSack>,
    ) {
        let answer = Answer {
            up_to: self.acknowledged,
            without_sack,
            echo: segment.timestamps.map(|(_, echo)| echo),
            time_ns,
            least_round_trip_ns: self.least_ns() / 16 * 15,
        };
        let recovery = self.recovery.get_or_insert_default();
        recovery.no_sack |= without_sack.is_some();
        for (position, (start, end)) in segment.sack.blocks().enumerate() {
            let is_duplicate = position == 0 && is_duplicate(segment, start, end);
            if is_duplicate {
                self.interval.count(recovery.repeats.duplicated(start, end));
            } else if before(start, end)
                && before(answer.up_to, end)
                && !recovery.held.holds(start, end)
            {
                self.pace.on_progress(time_ns, false, round_trip_ns);
                self.capture_loss |= recovery.holes.received(start, end);
                recovery.repeats.received(start, end, &answer);
                recovery.held.add(start, end);
            }
        }
        self.capture_loss |= recovery.holes.acknowledged(answer.up_to);
        recovery.held.acknowledged(answer.up_to);
        self.interval.count(recovery.repeats.acknowledged(&answer));
    }

    /// Takes in what a segment of this direction carries; `window_closed`: by the receiver.
    #[inline]
    pub fn on_sequence(
        &mut self,
        segment: &Segment<'_>,
        time_ns: u64,
        trips: RoundTrips,
        window_closed: bool,
    ) {
        self.start(segment);
        if segment.has_syn() && segment.sequence != self.initial {
            self.rival = Some(segment.sequence);
            return;
        }
        let far = segment.sequence.wrapping_sub(self.next) as i32;
        if far.unsigned_abs() > LARGEST_WINDOW {
            self.on_stray(segment);
            return;
        }
        self.strays = 0;
        self.fin_seen |= segment.has_fin();
        if window_closed && self.is_window_probe(segment) {
            self.pace.on_probe();
            return;
        }
        if !segment.takes_sequence() || self.is_keep_alive(segment) {
            return;
        }
        if before(self.next, segment.sequence_end()) {
            self.advance(segment, time_ns, trips);
        } else if !segment.has_syn() {
            self.repeat(segment, time_ns, trips);
        }
    }

    #[inline]
    fn start(&mut self, segment: &Segment<'_>) {
        if segment.has_syn() && !self.syn_seen {
            self.syn_seen = true;
            self.fast_open = segment.payload_len > 0;
            self.initial = segment.sequence;
            let options = segment.syn_options();
            self.window_scale = options.window_scale;
            self.sack_permitted = options.sack_permitted;
        }
        if !self.started {
            self.started = true;
            self.next = segment.sequence;
            if !segment.has_syn() && self.may_be_keep_alive(segment) {
                self.next = segment.sequence_end();
            }
        }
    }

    /// Behind a load balancer two servers may answer one SYN: the one that the initiator
    /// acknowledges first counts.
    #[cold]
    pub fn settle_initial(&mut self, acknowledgment: u32) {
        let chosen = self.rival.take().filter(|_| !self.ack_seen);
        if let Some(rival) = chosen.filter(|rival| rival.wrapping_add(1) == acknowledgment) {
            self.initial = rival;
            self.next = acknowledgment;
        }
    }

    /// A single byte with which a connection is first seen, in its middle, was sent before as far
    /// as anyone can tell.
    #[cold]
    fn may_be_keep_alive(&self, segment: &Segment<'_>) -> bool {
        let is_new = self.ack_seen && before(self.acknowledged, segment.sequence_end());
        segment.payload_len == 1 && !segment.has_fin() && !is_new
    }

    /// A segment from outside of any window: of another connection, made up, or from behind a gap
    /// in the capture of a gigabyte and more. After several in a row it is taken for the latter.
    #[cold]
    fn on_stray(&mut self, segment: &Segment<'_>) {
        const GAP_AFTER: u8 = 8;
        self.strays += 1;
        if self.strays < GAP_AFTER {
            return;
        }
        self.close();
        self.recovery = None;
        self.strays = 0;
        self.next = segment.sequence_end();
        self.ack_seen = false;
        self.capture_loss = true;
        self.marks = Marks::default();
        self.pace.lose_track();
    }

    /// A probe of a closed window (RFC 9293 3.8.6.1): an old number without data, or the byte
    /// next in line, alone. The receiver drops it, so nothing was sent yet.
    #[cold]
    fn is_window_probe(&self, segment: &Segment<'_>) -> bool {
        let is_next = segment.sequence == self.next
            && segment.payload_len == 1
            && self.ack_seen
            && !before(self.acknowledged, self.next);
        let is_tiny = segment.payload_len <= 1 && !segment.has_fin();
        is_tiny && (is_next || before(segment.sequence, self.next))
    }

    /// A keep-alive repeats the last acknowledged byte, with or without it (RFC 9293 3.8.4). Where
    /// no acknowledgments are seen, one byte sent again is taken for it.
    #[inline]
    fn is_keep_alive(&self, segment: &Segment<'_>) -> bool {
        segment.sequence == self.next.wrapping_sub(1)
            && segment.payload_len <= 1
            && !segment.has_syn()
            && !segment.has_fin()
            && !(self.ack_seen && before(self.acknowledged, self.next))
    }

    /// A segment with bytes not sent before.
    #[inline]
    fn advance(&mut self, segment: &Segment<'_>, time_ns: u64, trips: RoundTrips) {
        let now = Moment::of(time_ns);
        if segment.sequence != self.next {
            self.out_of_step(segment, time_ns, trips);
        }
        let end = segment.sequence_end();
        let len = end.wrapping_sub(self.next);
        self.next = end;
        self.last_advance = now;
        if self.ack_seen && !before(self.acknowledged, end) {
            // The capture shows the acknowledgment before the data.
            return;
        }
        let flight = if self.ack_seen {
            end.wrapping_sub(self.acknowledged)
        } else {
            len
        };
        if !segment.has_syn() {
            let timestamp = segment.timestamps.map(|(value, _)| value);
            self.marks.sent(end, timestamp, now, flight, len);
        }
        if segment.payload_len == 0 {
            return;
        }
        self.largest = self.largest.max(segment.payload_len);
        self.pace.on_data(&Sent {
            time_ns,
            next: end,
            payload_len: segment.payload_len,
            largest: self.largest,
            sender_round_trip_ns: trips.sender_ns,
        });
    }

    /// A segment with new bytes that does not start at `next`: behind a hole, or with old bytes too.
    #[cold]
    fn out_of_step(&mut self, segment: &Segment<'_>, time_ns: u64, trips: RoundTrips) {
        let seen = sighting(segment, segment.sequence, time_ns);
        if !before(self.next, segment.sequence) {
            let overlap = Sighting {
                end: self.next,
                ..seen
            };
            self.judge_old(&overlap, segment.payload_len, trips);
            return;
        }
        let mut from = self.next;
        if self.ack_seen && before(from, self.acknowledged) {
            from = self.acknowledged;
            self.capture_loss = true;
        }
        if before(from, segment.sequence) {
            let recovery = self.recovery.get_or_insert_default();
            recovery.holes.open(from, segment.sequence, &seen);
        }
    }

    /// A segment all of whose bytes lie before `next`.
    #[cold]
    fn repeat(&mut self, segment: &Segment<'_>, time_ns: u64, trips: RoundTrips) {
        let seen = sighting(segment, segment.sequence_end(), time_ns);
        self.judge_old(&seen, segment.payload_len, trips);
    }

    fn judge_old(&mut self, seen: &Sighting, payload_len: u32, trips: RoundTrips) {
        let too_soon_ns = trips.too_soon_ns();
        let recovery = self.recovery.get_or_insert_default();
        match recovery.holes.fill(seen, too_soon_ns) {
            Some(Filling::Reordered) => {
                self.interval.out_of_order_packets += 1;
                self.marks.overtook(seen.start);
            }
            Some(Filling::LostBeforeTap) => {
                self.interval.lost_before_tap += 1;
                self.count_retransmission(seen, payload_len);
            }
            None if self.is_copy(seen, too_soon_ns) => {}
            None => {
                self.watch(seen);
                self.count_retransmission(seen, payload_len);
            }
        }
    }

    /// The same segment so soon after itself that no sender can have asked for it: the network or
    /// the mirror made two of it.
    fn is_copy(&self, seen: &Sighting, too_soon_ns: u64) -> bool {
        let now = Moment::of(seen.time_ns);
        let age_us = if seen.end == self.next {
            now.since(self.last_advance)
        } else {
            self.marks.age_us(seen.end, now)
        };
        age_us.is_some_and(|age_us| u64::from(age_us) * 1000 < too_soon_ns)
    }

    /// Decides, now or when it is answered, whether a retransmission makes good a loss. What the
    /// receiver is known to hold already was not lost; nor is what a fast open sends twice.
    fn watch(&mut self, seen: &Sighting) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        let refused_at_open = self.fast_open && seen.start == self.initial.wrapping_add(1);
        let arrived = self.ack_seen && !before(self.acknowledged, seen.end);
        if refused_at_open || arrived || recovery.held.holds(seen.start, seen.end) {
            return;
        }
        if self.ack_seen {
            self.interval.count(recovery.repeats.watch(*seen));
        } else {
            self.interval.lost_after_tap += 1;
        }
    }

    /// FIN takes a sequence number and is no payload: of `seen`, `payload_len` at the most is.
    fn count_retransmission(&mut self, seen: &Sighting, payload_len: u32) {
        let bytes = seen.end.wrapping_sub(seen.start).min(payload_len);
        self.interval.retransmitted_packets += 1;
        self.interval.retransmitted_bytes = self.interval.retransmitted_bytes.saturating_add(bytes);
        self.marks.retransmitted(seen.timestamp);
        self.repeated |= before(self.acknowledged, seen.end);
        if self.ack_seen && seen.start == self.acknowledged {
            self.count_timeout(Moment::of(seen.time_ns));
        }
    }

    /// Retransmission timeouts double (RFC 6298 5.5); a fifth is left to jitter and fast recovery.
    fn count_timeout(&mut self, now: Moment) {
        let last = if self.timeouts == 0 {
            self.last_advance
        } else {
            self.last_timeout
        };
        let waited_us = now.since(last).unwrap_or(0);
        if waited_us < LEAST_TIMEOUT_US.max(self.timeout_us / 5 * 6) {
            return;
        }
        self.timeouts = self.timeouts.saturating_add(1);
        self.timeout_us = waited_us;
        self.last_timeout = now;
    }

    /// Gives back what room a burst has taken.
    pub fn shrink(&mut self) {
        self.marks.shrink();
    }

    /// Nothing more will be heard of this direction.
    pub fn close(&mut self) {
        if let Some(recovery) = &mut self.recovery {
            let up_to = recovery.no_sack.then_some(self.acknowledged);
            self.interval.count(recovery.repeats.close(up_to));
        }
    }
}

fn sighting(segment: &Segment<'_>, end: u32, time_ns: u64) -> Sighting {
    Sighting {
        start: segment.sequence,
        end,
        timestamp: segment.timestamps.map(|(value, _)| value),
        time_ns,
    }
}

/// Whether the first SACK block reports bytes received twice: it lies below the acknowledgment, or
/// within the second block (RFC 2883 4).
fn is_duplicate(segment: &Segment<'_>, start: u32, end: u32) -> bool {
    let within = |&(low, high): &(u32, u32)| !before(start, low) && !before(high, end);
    !before(segment.acknowledgment, end)
        || segment.sack.blocks().nth(1).as_ref().is_some_and(within)
}
