//! What the tracker leaves out of sessions and packets while it is overloaded, told and counted.

use std::sync::Arc;

use crate::app::quic::Budget;
use crate::engine::application::Application;
use crate::engine::notes::Note;
use crate::engine::overload::Shedding;
use crate::engine::session::Session;
use crate::engine::transport::Payload;
use crate::flow::{Direction, FlowKey};

/// Handshakes that are kept aside take no more bytes than this; others are read as ever.
const KEPT_ASIDE: usize = 32 << 20;

/// Packets of which something was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Content was left unread; in the packet that decided it several may be.
    pub content: u32,
    /// Round trips were left unmeasured.
    pub round_trips: u32,
}

impl Unseen {
    #[inline]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What is left out now.
#[derive(Debug)]
pub struct Overloaded {
    shedding: Shedding,
    /// Something may have been left unread in sessions that live.
    has_begun: bool,
    budget: Arc<Budget>,
    unseen: Unseen,
}

impl Overloaded {
    pub fn new(shedding: Shedding) -> Self {
        Self {
            shedding,
            has_begun: shedding.sheds_content(),
            budget: Budget::new(KEPT_ASIDE),
            unseen: Unseen::default(),
        }
    }

    pub fn set(&mut self, shedding: Shedding) {
        self.shedding = shedding;
        self.has_begun |= shedding.sheds_content();
    }

    #[inline]
    pub fn take(&mut self) -> Unseen {
        std::mem::take(&mut self.unseen)
    }

    /// Marks a segment as one that no round trip is taken from.
    #[inline]
    pub fn mark(&self, payload: &mut Payload<'_>) {
        if self.shedding.sheds_round_trips()
            && let Payload::Segment(segment) = payload
        {
            segment.is_unsampled = true;
        }
    }

    /// Decides what is read of a session that begins.
    #[inline]
    pub fn begin(
        &self,
        session: &mut Session,
        key: &FlowKey,
        direction: Direction,
        payload: &Payload<'_>,
    ) {
        if self.shedding.sheds_content() {
            self.begin_unread(session, key, direction, payload);
        }
    }

    #[cold]
    fn begin_unread(
        &self,
        session: &mut Session,
        key: &FlowKey,
        direction: Direction,
        payload: &Payload<'_>,
    ) {
        match payload {
            Payload::Segment(_) => session.application = Application::without_certificates(),
            // Who opened a connection from the far side only its keys can prove.
            Payload::Datagram(datagram) if direction == session.up => {
                let server_port = key.sender(direction.opposite()).1;
                session.application =
                    Application::with_unread_handshake(server_port, datagram, &self.budget);
            }
            _ => {}
        }
    }

    /// Whether a datagram can only tell a round trip that nobody measures now.
    #[inline]
    pub fn passes_over(&mut self, session: &mut Session, datagram: &[u8]) -> bool {
        let passes = self.shedding.sheds_round_trips() && session.application.pass_over(datagram);
        if passes {
            session.notes.add(Note::RoundTripsUnsampled);
            self.unseen.round_trips += 1;
        }
        passes
    }

    /// Takes down what was left out of a packet.
    #[inline]
    pub fn note(&mut self, session: &mut Session, payload: &Payload<'_>) {
        if self.has_begun {
            self.note_unseen(session, payload);
        }
    }

    #[cold]
    fn note_unseen(&mut self, session: &mut Session, payload: &Payload<'_>) {
        let unread = session.application.take_unread();
        if unread > 0 {
            session.notes.add(Note::ContentUnread);
            self.unseen.content = self.unseen.content.saturating_add(unread);
        }
        if let Payload::Segment(segment) = payload
            && segment.is_unsampled
        {
            session.notes.add(Note::RoundTripsUnsampled);
            self.unseen.round_trips += 1;
        }
    }
}
