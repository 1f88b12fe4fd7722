//! Who spoke last on a TCP connection, who left it first, and how long it was silent before that.

use crate::flow::Direction;
use crate::flow::keeper::Keeper;
use crate::tcp::Segment;

/// The first FIN or reset of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Farewell {
    pub by: Direction,
    pub is_reset: bool,
    pub time_ns: u64,
    /// Since the payload before it; since the first packet if there was none.
    pub silence_ns: u64,
    /// Who had sent payload last.
    pub last_speaker: Option<Direction>,
}

/// The turns of a conversation, as far as the verdict asks for them.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Most flows at hand have not left yet.
    farewell: Option<Box<Farewell>>,
    /// Who sent payload last.
    pub last_speaker: Option<Direction>,
    /// How long both sides had been silent when the last speaker began to speak.
    pub pause_ns: u64,
    /// The other side sent payload after the farewell.
    pub spoken_after_farewell: bool,
    /// Both sides have sent payload.
    pub answered: bool,
    /// SYNs that came after the SYN-ACK: the initiator has not heard it.
    pub deaf_syns: u8,
    last_payload_ns: Option<u64>,
    first_ns: Option<u64>,
}

impl Exchange {
    /// The first FIN or reset.
    pub fn farewell(&self) -> Option<Farewell> {
        self.farewell.as_deref().copied()
    }

    /// It ended nothing.
    pub fn forget_farewell(&mut self) {
        self.farewell = None;
    }

    /// Who left, apart from the rest.
    pub fn farewell_mut(&mut self) -> &mut Option<Box<Farewell>> {
        &mut self.farewell
    }

    /// Keeps all but the farewell and what is said by bits, or gives it back; its times lie between
    /// those of the flow's first and last packets.
    pub fn keep(&mut self, keeper: &mut impl Keeper, start_ns: u64, last_ns: u64) {
        keeper.direction(&mut self.last_speaker);
        keeper.byte(&mut self.deaf_syns);
        keeper.number(&mut self.pause_ns);
        keeper.optional_time(last_ns, &mut self.last_payload_ns);
        keeper.optional_time(start_ns, &mut self.first_ns);
    }

    /// `syn_ack_seen`: before this segment.
    pub fn on_segment(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        syn_ack_seen: bool,
        time_ns: u64,
    ) {
        self.first_ns.get_or_insert(time_ns);
        if segment.is_syn() && syn_ack_seen {
            self.deaf_syns = self.deaf_syns.saturating_add(1);
        }
        // What a reset carries is no payload (RFC 9293 3.5.3).
        if segment.payload_len > 0 && !segment.is_reset() {
            self.on_payload(direction, time_ns);
        }
        if self.farewell.is_none() && (segment.is_reset() || segment.has_fin()) {
            self.farewell = Some(Box::new(Farewell {
                by: direction,
                is_reset: segment.is_reset(),
                time_ns,
                silence_ns: self.silence_ns(time_ns),
                last_speaker: self.last_speaker,
            }));
        }
    }

    /// Takes in a segment with payload that neither opens nor ends the connection.
    #[inline]
    pub fn on_payload(&mut self, direction: Direction, time_ns: u64) {
        if self.last_speaker != Some(direction) {
            self.pause_ns = self.silence_ns(time_ns);
            self.answered |= self.last_speaker.is_some();
        }
        self.last_speaker = Some(direction);
        self.last_payload_ns = self.last_payload_ns.max(Some(time_ns));
        self.spoken_after_farewell |= self.farewell().is_some_and(|left| left.by != direction);
    }

    /// How long no payload has been seen.
    pub fn silence_ns(&self, now_ns: u64) -> u64 {
        let since = self.last_payload_ns.or(self.first_ns).unwrap_or(now_ns);
        now_ns.saturating_sub(since)
    }
}
