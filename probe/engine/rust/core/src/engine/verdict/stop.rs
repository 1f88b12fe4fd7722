//! Data that stopped in the middle and never went on.

use super::{Case, SECOND_NS};
use crate::flow::Direction;
use crate::record::names::FailureSide;

/// Data that makes no progress for so long has stalled for good, if it never goes on.
const STALLED_NS: u64 = 10 * SECOND_NS;
/// A program that resets a connection on which nothing has moved for so long has given up on it.
const GIVEN_UP_NS: u64 = 5 * SECOND_NS;

/// Where the data got stuck, and how that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// It was sent again and again, and not acknowledged.
    InVain { down: bool },
    /// It was sent, and not acknowledged.
    Unacknowledged { down: bool },
    /// The rest of an answer whose length is known never came to the tap.
    Missing,
    /// The client keeps it out.
    ShutOut,
}

impl Stuck {
    /// What passed the tap towards the client is lost behind it. Towards the server the evidence
    /// does not tell a dead server from a broken path.
    pub fn side(self) -> Option<FailureSide> {
        match self {
            Self::InVain { down: true } | Self::Unacknowledged { down: true } => {
                Some(FailureSide::Access)
            }
            Self::InVain { down: false } | Self::Unacknowledged { down: false } => None,
            Self::Missing => Some(FailureSide::Server),
            Self::ShutOut => Some(FailureSide::Device),
        }
    }

    /// What the client waits for is stuck, rather than what it sends.
    pub fn is_awaited_by_client(self) -> bool {
        !matches!(
            self,
            Self::InVain { down: false } | Self::Unacknowledged { down: false }
        )
    }

    pub fn evidence(self) -> &'static str {
        match self {
            Self::InVain { down: true } => "data_down_retransmitted,unacknowledged",
            Self::InVain { down: false } => "data_up_retransmitted,unacknowledged",
            Self::Unacknowledged { down: true } => "data_down_outstanding",
            Self::Unacknowledged { down: false } => "data_up_outstanding",
            Self::Missing => "answer_incomplete",
            Self::ShutOut => "window_closed_by_client",
        }
    }
}

/// How the customer's transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The asker reset the connection on which nothing moved.
    ResetByAsker,
    /// Somebody left otherwise.
    Left,
    /// Nobody did.
    Silence,
}

/// A transfer that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    pub stuck: Stuck,
    pub end: End,
}

impl Stop {
    /// Finds what stopped in a connection that is up; None where the tap cannot tell.
    pub fn of(case: &Case<'_>) -> Option<Self> {
        if !case.tcp.is_established() || !case.hears_all() {
            return None;
        }
        let up = case.session.up;
        let end = end(case);
        [up.opposite(), up]
            .into_iter()
            .find_map(|sender| stuck_data(case, sender, end))
            .or_else(|| stuck_answer(case, end))
            .map(|stuck| Self { stuck, end })
    }
}

pub fn end(case: &Case<'_>) -> End {
    match case.session.exchange.farewell() {
        Some(farewell) if farewell.is_reset && farewell.by == case.asker => End::ResetByAsker,
        Some(_) => End::Left,
        None => End::Silence,
    }
}

pub fn is_long(blocked_ns: u64, end: End) -> bool {
    let least_ns = if end == End::ResetByAsker {
        GIVEN_UP_NS
    } else {
        STALLED_NS
    };
    blocked_ns >= least_ns
}

fn stuck_data(case: &Case<'_>, sender: Direction, end: End) -> Option<Stuck> {
    let down = sender != case.session.up;
    let in_vain = case.tcp.retransmits_in_vain(sender);
    let farewell = case.session.exchange.farewell();
    let sender_gave_up = farewell.is_some_and(|left| left.is_reset && left.by == sender);
    let blocked = case.tcp.blocked(sender, case.around.now_ns);
    if !(is_long(blocked.for_ns, end) || in_vain && sender_gave_up) {
        return None;
    }
    Some(if in_vain {
        Stuck::InVain { down }
    } else if down && case.tcp.is_shut_out(sender) {
        Stuck::ShutOut
    } else {
        Stuck::Unacknowledged { down }
    })
}

/// All that was sent has arrived, and it is not all of the answer.
fn stuck_answer(case: &Case<'_>, end: End) -> Option<Stuck> {
    let owes = case.session.application.owes_bytes();
    let silence_ns = match case.session.exchange.farewell() {
        Some(farewell) => farewell.silence_ns,
        None => case.session.exchange.silence_ns(case.around.now_ns),
    };
    (owes && !case.is_left_by_answerer() && is_long(silence_ns, end)).then_some(Stuck::Missing)
}
