//! QUIC connections that were not answered, and whether TCP was.

use super::{Around, FailureCause, FailureSide, FailureStage};
use crate::engine::clients::Winners;
use crate::engine::failure::{Failure, Verdict};
use crate::engine::session::Session;

const BLOCKED: Failure = Failure::new(
    FailureCause::QuicBlocked,
    FailureStage::Connect,
    Some(FailureSide::Network),
    "initial_unanswered,tcp_connected",
);

/// A client that waited in vain for QUIC: for a path that holds UDP back, for the other QUIC
/// connection that won, or for a dead server.
pub fn settle(timeout: Failure, winners: Winners) -> Verdict {
    match (winners.quic, winners.tcp) {
        (true, _) => Verdict::unknown("race_lost"),
        (false, true) => Verdict::Failed(BLOCKED),
        (false, false) => Verdict::Failed(timeout),
    }
}

/// A QUIC flow that shows no failure: unanswered, and the client did not wait for it.
pub fn judge(session: &Session, around: &Around) -> Option<Verdict> {
    if !session.is_unanswered_quic() {
        return None;
    }
    Some(if around.winners.any() {
        Verdict::unknown("race_lost")
    } else {
        Verdict::unknown("initial_unanswered,one_way")
    })
}
