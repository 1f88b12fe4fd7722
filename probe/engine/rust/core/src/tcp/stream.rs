//! The first bytes of one direction of a TCP stream, in order (RFC 9293 3.4, 3.10.7.4).
//!
//! Only what its reader wants is put in order: the prefix that a handshake needs, or all of a stream
//! whose reader says how many bytes it [skips](Reassembler::push_skipping). Bytes that arrive in order
//! are handed through without a copy; bytes ahead of a hole wait in a store of at most
//! [`MAX_BUFFERED`] bytes. Where two copies of a byte differ, the newest copy seen before the byte is
//! handed over wins.

use std::ops::Range;

/// Most bytes ahead of a hole that are kept per direction.
pub const MAX_BUFFERED: usize = 16 * 1024;
/// Most separate stretches that those bytes may form.
pub const MAX_STRETCHES: usize = 32;
/// In-order bytes after which a handshake is over at the latest: a 16 KiB ClientHello, or a
/// certificate chain of that size with everything around it, leave room to spare.
pub const DEFAULT_PREFIX: u32 = 64 * 1024;
/// How long a hole may stand. Senders retransmit after 1 s at first (RFC 6298 2.1), then 2 s.
pub const HOLE_TIMEOUT_NS: u64 = 5_000_000_000;
/// How long a hole may stand once the receiver has acknowledged its bytes: only a capture that
/// reorders the two directions can still deliver them.
pub const ACKNOWLEDGED_HOLE_TIMEOUT_NS: u64 = 100_000_000;
/// Bytes skipped at once: half of what sequence numbers can tell apart (RFC 9293 3.4).
const SKIP_STEP: u32 = 1 << 30;

/// The payload of one TCP segment as captured.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Sequence number of the first payload byte (one more than the header's where SYN is set).
    pub sequence: u32,
    /// Payload bytes that were captured.
    pub data: &'a [u8],
    /// Payload bytes on the wire; more than `data` where the capture was cut.
    pub wire_len: u32,
    pub time_ns: u64,
}

/// Why the rest of a stream cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// More than [`MAX_BUFFERED`] bytes, or [`MAX_STRETCHES`] stretches, wait behind a hole.
    BufferFull,
    /// A hole stood for too long.
    HoleTimeout,
    /// The next byte was on the wire, but the capture cut it off.
    Cut,
}

/// What may be expected of a [`Reassembler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Open,
    /// The whole prefix has been handed over.
    Complete,
    Lost(Lost),
}

/// Puts the segments of one direction in order.
#[derive(Debug)]
pub struct Reassembler {
    /// Sequence number of the next byte to hand over; none before the start is known.
    next: Option<u32>,
    /// Bytes of the prefix not handed over yet.
    left: u64,
    /// Bytes that the reader skips, beyond those by which `next` has moved on already.
    skipping: u64,
    /// What waits behind a hole outlives it.
    resumes: bool,
    held: Held,
    /// The lowest sequence number at which the capture cut a segment off.
    cut_at: Option<u32>,
    /// The highest acknowledgement by the receiver that was ahead of `next`.
    acknowledged: Option<u32>,
    /// When the present hole is given up.
    deadline_ns: Option<u64>,
    status: Status,
}

impl Default for Reassembler {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

impl Reassembler {
    /// A reassembler that hands over the first `prefix` bytes.
    ///
    /// Without [`start_at`](Self::start_at) the first segment pushed is taken as the start, so
    /// an earlier one that arrives later counts as old.
    pub fn new(prefix: u32) -> Self {
        Self::of(u64::from(prefix))
    }

    /// A reassembler that hands over all that its reader does not skip.
    ///
    /// When a hole is given up, what waits behind it is kept for [`resume_at`](Self::resume_at).
    pub fn endless() -> Self {
        Self {
            resumes: true,
            ..Self::of(u64::MAX)
        }
    }

    /// The same stream for a reader that wants all of it; what waits is kept.
    pub fn without_end(self) -> Self {
        Self {
            left: u64::MAX,
            resumes: true,
            ..self
        }
    }

    fn of(prefix: u64) -> Self {
        Self {
            next: None,
            left: prefix,
            skipping: 0,
            resumes: false,
            held: Held::default(),
            cut_at: None,
            acknowledged: None,
            deadline_ns: None,
            status: Status::Open,
        }
    }

    /// States where the stream begins: the initial sequence number plus one.
    pub fn start_at(&mut self, sequence: u32) {
        self.next.get_or_insert(sequence);
    }

    pub fn status(&self) -> Status {
        self.status
    }

    /// Sequence number of the next byte to hand over; none before the first segment.
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// Whether bytes are missing ahead of others that wait.
    pub fn waits(&self) -> bool {
        self.status == Status::Open && !self.held.is_empty()
    }

    /// Takes a segment and hands over, in order, every byte that it makes available.
    ///
    /// Bytes that waited behind a hole are handed over when the hole is filled: the receiver
    /// could not read them earlier either.
    pub fn push(&mut self, segment: Segment<'_>, mut deliver: impl FnMut(&[u8])) -> Status {
        self.push_skipping(segment, |bytes| {
            deliver(bytes);
            0
        })
    }

    /// Like [`push`](Self::push), but `deliver` says how many bytes behind those that it was given
    /// it does not want. They are neither waited for nor looked at.
    pub fn push_skipping(
        &mut self,
        segment: Segment<'_>,
        mut deliver: impl FnMut(&[u8]) -> u64,
    ) -> Status {
        if self.status == Status::Open && segment.wire_len > 0 {
            self.skip_up_to(segment.sequence.wrapping_add(segment.wire_len));
            let next = *self.next.get_or_insert(segment.sequence);
            self.note_cut(&segment);
            self.place(next, &segment, &mut deliver);
            self.hand_over_held(&mut deliver);
            self.give_up_at_cut();
        }
        self.give_up_overdue(segment.time_ns);
        self.status
    }

    /// Goes on behind a hole that was given up, at a byte that waits there.
    pub fn resume_at(&mut self, sequence: u32, mut deliver: impl FnMut(&[u8]) -> u64) {
        let gap = self.next.map_or(0, |next| distance(next, sequence));
        let held = std::mem::take(&mut self.held);
        *self = Self {
            next: Some(sequence),
            held,
            ..Self::endless()
        };
        self.held.shift(usize::try_from(gap).unwrap_or(0));
        self.hand_over_held(&mut deliver);
    }

    /// Notes an acknowledgement by the receiver of this direction.
    pub fn acknowledge(&mut self, acknowledgement: u32, time_ns: u64) -> Status {
        if self.is_beyond(acknowledgement) {
            self.acknowledged = Some(acknowledgement);
            let soon = time_ns.saturating_add(ACKNOWLEDGED_HOLE_TIMEOUT_NS);
            self.deadline_ns = Some(self.deadline_ns.map_or(soon, |deadline| deadline.min(soon)));
        }
        self.give_up_overdue(time_ns);
        self.status
    }

    /// Whether the reader skips bytes at `sequence` or behind.
    pub fn skips_beyond(&self, sequence: u32) -> bool {
        let is_behind = |next| distance(sequence, next) > 0;
        self.status == Status::Open && (self.skipping > 0 || self.next.is_some_and(is_behind))
    }

    /// Whether a segment that begins here waits behind a hole, or would.
    pub fn is_ahead(&self, sequence: u32) -> bool {
        self.next.is_some_and(|next| distance(next, sequence) > 0)
    }

    /// Whether `acknowledgement` covers bytes not seen; a FIN takes one number and is no byte.
    fn is_beyond(&self, acknowledgement: u32) -> bool {
        self.next
            .is_some_and(|next| distance(next, acknowledgement) > 1)
    }

    fn note_cut(&mut self, segment: &Segment<'_>) {
        let Some(captured) = captured_if_cut(segment) else {
            return;
        };
        let cut = segment.sequence.wrapping_add(captured);
        let lower = self.cut_at.is_none_or(|known| distance(known, cut) < 0);
        if lower {
            self.cut_at = Some(cut);
        }
    }

    fn place(&mut self, next: u32, segment: &Segment<'_>, deliver: &mut impl FnMut(&[u8]) -> u64) {
        let offset = distance(next, segment.sequence);
        if offset > 0 {
            self.hold(offset.unsigned_abs(), segment.data);
        } else if let Some(new) = segment.data.get(offset.unsigned_abs() as usize..) {
            self.hand_over(next, new, deliver);
        }
    }

    fn hand_over(&mut self, next: u32, data: &[u8], deliver: &mut impl FnMut(&[u8]) -> u64) {
        let wanted = within(data, self.left);
        if wanted.is_empty() {
            return;
        }
        let skipped = deliver(wanted);
        self.advance(next, wanted.len());
        self.skip(skipped);
    }

    fn skip(&mut self, bytes: u64) {
        self.skipping = self.skipping.saturating_add(bytes);
        self.skip_step();
    }

    /// Goes on with a skip that is longer than sequence numbers reach, once the stream is there.
    fn skip_up_to(&mut self, end: u32) {
        let reached = |next| distance(next, end) > 0;
        while self.skipping > 0 && self.next.is_some_and(reached) {
            self.skip_step();
        }
    }

    fn skip_step(&mut self) {
        let step = self.skipping.min(u64::from(SKIP_STEP));
        if let Some(next) = self.next.filter(|_| step > 0) {
            self.skipping -= step;
            self.advance(next, step as usize);
        }
    }

    fn advance(&mut self, next: u32, bytes: usize) {
        // A segment's payload or a step of a skip: less than 2^31.
        let count = bytes as u32;
        self.next = Some(next.wrapping_add(count));
        self.left = self.left.saturating_sub(u64::from(count));
        self.held.shift(bytes);
        if self.left == 0 {
            self.finish(Status::Complete);
        }
    }

    fn hand_over_held(&mut self, deliver: &mut impl FnMut(&[u8]) -> u64) {
        while let (Status::Open, Some(next)) = (self.status, self.next) {
            let ready = self.held.ready();
            if ready.is_empty() {
                return;
            }
            let bytes = ready.len();
            let skipped = deliver(ready);
            self.advance(next, bytes);
            self.skip(skipped);
        }
    }

    fn hold(&mut self, offset: u32, data: &[u8]) {
        let wanted = within(data, self.left.saturating_sub(u64::from(offset)));
        if !wanted.is_empty() && !self.held.insert(offset as usize, wanted) {
            self.finish(Status::Lost(Lost::BufferFull));
        }
    }

    fn give_up_at_cut(&mut self) {
        let (Some(next), Some(cut)) = (self.next, self.cut_at) else {
            return;
        };
        match distance(next, cut) {
            0 if self.status == Status::Open => self.finish(Status::Lost(Lost::Cut)),
            1.. => {}
            _ => self.cut_at = None,
        }
    }

    fn give_up_overdue(&mut self, time_ns: u64) {
        if self.status != Status::Open {
            return;
        }
        if !self.has_hole() {
            self.deadline_ns = None;
            return;
        }
        let patience = time_ns.saturating_add(HOLE_TIMEOUT_NS);
        if time_ns > *self.deadline_ns.get_or_insert(patience) {
            self.finish(Status::Lost(Lost::HoleTimeout));
        }
    }

    fn has_hole(&self) -> bool {
        !self.held.is_empty()
            || self
                .acknowledged
                .is_some_and(|number| self.is_beyond(number))
    }

    fn finish(&mut self, status: Status) {
        self.status = status;
        if !self.resumes {
            self.held = Held::default();
        }
    }
}

/// Bytes ahead of the next one to hand over; offsets count from that byte.
#[derive(Debug, Default)]
struct Held {
    /// Holds up to the end of the last stretch, [`MAX_BUFFERED`] at most; holes are zero.
    bytes: Vec<u8>,
    /// In rising order, not touching each other, [`MAX_STRETCHES`] at most.
    stretches: Vec<Range<usize>>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Keeps `data` at `offset`; false where it does not fit.
    fn insert(&mut self, offset: usize, data: &[u8]) -> bool {
        let end = offset.saturating_add(data.len());
        if end > MAX_BUFFERED {
            return false;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(offset..end) {
            place.copy_from_slice(data);
        }
        self.merge(offset..end);
        self.stretches.len() <= MAX_STRETCHES
    }

    fn merge(&mut self, mut new: Range<usize>) {
        self.stretches.retain(|known| {
            let apart = known.end < new.start || new.end < known.start;
            if !apart {
                new = known.start.min(new.start)..known.end.max(new.end);
            }
            apart
        });
        let place = self
            .stretches
            .partition_point(|known| known.start < new.start);
        self.stretches.insert(place, new);
    }

    /// The bytes that follow without a hole.
    fn ready(&self) -> &[u8] {
        match self.stretches.first() {
            Some(first) if first.start == 0 => self.bytes.get(..first.end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Moves on by `count` bytes, which have been handed over.
    fn shift(&mut self, count: usize) {
        if self.is_empty() {
            return;
        }
        self.bytes.drain(..count.min(self.bytes.len()));
        for stretch in &mut self.stretches {
            *stretch = stretch.start.saturating_sub(count)..stretch.end.saturating_sub(count);
        }
        self.stretches.retain(|stretch| !stretch.is_empty());
    }
}

/// How far `to` is ahead of `from`, in sequence space (RFC 9293 3.4).
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

fn within(data: &[u8], limit: u64) -> &[u8] {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    data.get(..limit).unwrap_or(data)
}

/// The number of bytes captured of a segment that was cut.
fn captured_if_cut(segment: &Segment<'_>) -> Option<u32> {
    let captured = u32::try_from(segment.data.len()).ok()?;
    (captured < segment.wire_len).then_some(captured)
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
