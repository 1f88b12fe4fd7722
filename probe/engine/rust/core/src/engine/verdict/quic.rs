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
    } else if around.client_reached {
        Verdict::unknown("initial_unanswered")
    } else {
        Verdict::unknown("initial_unanswered,one_way")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::evidence::Evidence;
    use crate::record::names::Outcome;

    const TIMEOUT: Failure = Failure::new(
        FailureCause::QuicTimeout,
        FailureStage::Connect,
        Some(FailureSide::Server),
        "initial_unanswered",
    );

    fn settled(tcp: bool, quic: bool) -> (Option<Outcome>, Option<FailureCause>) {
        let winners = Winners {
            tcp,
            quic,
            another_way: tcp,
        };
        let verdict = settle(TIMEOUT, winners);
        (
            verdict.outcome(),
            verdict.failure().map(|failure| failure.cause),
        )
    }

    #[test]
    fn silence_is_told_by_what_else_worked() {
        use FailureCause::{QuicBlocked, QuicTimeout};
        let failed = |cause| (Some(Outcome::Failed), Some(cause));
        assert_eq!(settled(false, false), failed(QuicTimeout));
        assert_eq!(settled(true, false), failed(QuicBlocked));
        assert_eq!(settled(false, true), (Some(Outcome::Unknown), None));
        assert_eq!(settled(true, true), (Some(Outcome::Unknown), None));
    }

    #[test]
    fn a_blocked_path_is_the_networks() {
        assert_eq!(BLOCKED.side, Some(FailureSide::Network));
        let evidence = Evidence::of("initial_unanswered,tcp_connected");
        assert_eq!(BLOCKED.evidence, evidence);
    }
}
