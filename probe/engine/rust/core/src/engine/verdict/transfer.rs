//! Connections that broke while they carried data.

use super::request::IDLE_NS;
use super::{Case, FailureCause, FailureSide, FailureStage, PATIENCE_NS};
use crate::engine::failure::{Failure, Verdict};
use crate::flow::Direction;

/// What was sent towards the client again and again passed the tap: it is lost behind it.
const LOST_DOWN: Failure = Failure::new(
    FailureCause::RetransmissionTimeout,
    FailureStage::Transfer,
    Some(FailureSide::Access),
    "data_down_retransmitted,unacknowledged",
);
/// Towards the server the evidence does not tell a dead server from a broken path.
const LOST_UP: Failure = Failure::new(
    FailureCause::RetransmissionTimeout,
    FailureStage::Transfer,
    None,
    "data_up_retransmitted,unacknowledged",
);

/// Judges data that is sent again and again with nothing coming back, whoever gave up.
pub fn in_vain(case: &Case<'_>) -> Option<Verdict> {
    let up = case.session.up;
    if !case.tcp.is_established() || case.session.missed_start {
        return None;
    }
    [(up.opposite(), LOST_DOWN), (up, LOST_UP)]
        .into_iter()
        .find(|&(sender, _)| is_in_vain(case, sender))
        .map(|(_, failure)| Verdict::Failed(failure))
}

fn is_in_vain(case: &Case<'_>, sender: Direction) -> bool {
    let given_up = match case.session.exchange.farewell {
        Some(farewell) => farewell.is_reset && farewell.by == sender,
        None => {
            let waited_ns = case.around.now_ns.saturating_sub(case.session.last_ns);
            waited_ns >= PATIENCE_NS && !case.around.is_cut_short
        }
    };
    given_up && case.tcp.retransmits_in_vain(sender)
}

/// Judges what a reset left unfinished, and who left first.
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    let reset = case.tcp.reset.filter(|reset| reset.unfinished);
    if reset.is_some_and(|reset| reset.by != case.asker) {
        return Some(reset_by_answerer(case));
    }
    (case.is_left_by_asker() && leaves_something(case))
        .then_some(Verdict::good("aborted_by_client"))
}

/// The asker left while its request was unanswered, or the answer under way.
fn leaves_something(case: &Case<'_>) -> bool {
    let exchange = &case.session.exchange;
    let asked_last = exchange.farewell.is_some_and(|farewell| {
        let asked = farewell.last_speaker == Some(case.asker);
        asked && farewell.is_reset && farewell.silence_ns < PATIENCE_NS
    });
    let refuses_rest = case.tcp.reset.is_some()
        && (exchange.spoken_after_farewell || case.tcp.has_unacknowledged(case.asker.opposite()));
    asked_last || refuses_rest || case.session.application.expects_answer()
}

/// Who serves, and breaks off amid its work, has failed its customer. Where the subscriber serves,
/// that is a reset by the client.
fn reset_by_answerer(case: &Case<'_>) -> Verdict {
    let exchange = &case.session.exchange;
    let silence_ns = exchange.farewell.map_or(0, |farewell| farewell.silence_ns);
    let asked_last = exchange.last_speaker == Some(case.asker);
    if case.tcp.capture_loss && asked_last {
        return Verdict::unknown("reset_by_server,capture_loss");
    }
    let is_known_request = case.session.application.expects_answer();
    if exchange.answered && asked_last && !is_known_request {
        if exchange.pause_ns >= IDLE_NS {
            return Verdict::unknown("keep_alive_expired");
        }
        if silence_ns >= PATIENCE_NS {
            return Verdict::unknown("reset_when_idle");
        }
    }
    case.failed(broken_off(case, asked_last))
}

fn broken_off(case: &Case<'_>, asked_last: bool) -> Failure {
    let (cause, evidence) = if case.asker == case.session.up {
        (FailureCause::ResetByServer, "reset_by_server")
    } else {
        (FailureCause::ResetByClient, "reset_by_client")
    };
    let side = Some(FailureSide::Server);
    let failure = Failure::new(cause, FailureStage::Transfer, side, evidence);
    failure.and(if asked_last {
        "request_outstanding"
    } else {
        "data_in_flight"
    })
}
