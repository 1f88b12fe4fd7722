//! TCP connections that did not come up (RFC 9293 3.5).

use super::{Case, FailureCause, FailureSide, FailureStage, SECOND_NS, settle};
use crate::engine::failure::{Failure, Verdict};

/// A connection attempt counts as unanswered only if the client waited this long for an answer.
const CONNECT_PATIENCE_NS: u64 = 3 * SECOND_NS;
/// So many SYNs after the SYN-ACK tell that it did not arrive; one may have crossed it.
const DEAF_SYNS: u8 = 2;

const REFUSED: Failure = Failure::new(
    FailureCause::ConnectRefused,
    FailureStage::Connect,
    Some(FailureSide::Server),
    "syn,reset_before_syn_ack",
);
const TIMEOUT: Failure = Failure::new(
    FailureCause::ConnectTimeout,
    FailureStage::Connect,
    Some(FailureSide::Server),
    "syn_unanswered,client_reached",
);
/// The answer passed the tap and the client goes on asking: it was lost on the way to the client.
const UNHEARD: Failure = Failure::new(
    FailureCause::ConnectTimeout,
    FailureStage::Connect,
    Some(FailureSide::Access),
    "syn_ack_seen,syn_repeated",
);

/// Judges a connection whose SYN was seen and whose handshake did not end.
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    if case.tcp.handshake.first_syn_ns.is_none() || case.tcp.is_established() {
        return None;
    }
    let refused = case.tcp.reset.is_some_and(|r| case.tcp.is_refused(r.by));
    Some(if refused {
        refusal(case)
    } else if case.around.is_scan {
        Verdict::unknown("scan")
    } else if case.tcp.syn_ack_seen() {
        half_open(case)
    } else {
        unanswered(case)
    })
}

fn refusal(case: &Case<'_>) -> Verdict {
    match settle(REFUSED, case.around) {
        Verdict::Failed(failure) => case.failed(failure),
        settled => settled,
    }
}

fn unanswered(case: &Case<'_>) -> Verdict {
    if case.around.winners.any() {
        return Verdict::unknown("race_lost");
    }
    let only_syns = case.session.is_one_way()
        && case.session.exchange.last_speaker.is_none()
        && case.tcp.reset.is_none();
    if !case.around.client_reached || !only_syns {
        return Verdict::unknown("syn_unanswered,one_way");
    }
    let by_client = case.asker == case.session.up;
    if by_client && is_patient(case) && case.tcp.handshake.syn_retransmissions > 0 {
        Verdict::Failed(TIMEOUT)
    } else {
        Verdict::unknown("syn_unanswered")
    }
}

/// A SYN-ACK was seen, the ACK that ends the handshake was not.
fn half_open(case: &Case<'_>) -> Verdict {
    let left = case.is_left_by_asker();
    match (case.around.winners.any(), left) {
        (true, true) => return Verdict::good("race_lost"),
        (true, false) => return Verdict::unknown("race_lost"),
        (false, true) => return Verdict::unknown("half_open,reset_by_client"),
        (false, false) => {}
    }
    let is_deaf = case.session.exchange.deaf_syns >= DEAF_SYNS && is_patient(case);
    if is_deaf && case.asker == case.session.up && case.tcp.reset.is_none() {
        Verdict::Failed(UNHEARD)
    } else {
        Verdict::unknown("half_open")
    }
}

fn is_patient(case: &Case<'_>) -> bool {
    let waited_ns = case
        .around
        .now_ns
        .saturating_sub(case.session.flow_start_ns);
    waited_ns >= CONNECT_PATIENCE_NS && !case.around.is_cut_short
}
