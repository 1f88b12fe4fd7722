//! Connections that broke while they carried data.

use super::request::IDLE_NS;
use super::stop::{End, Stop, Stuck, end, is_long};
use super::{Case, FailureCause, FailureSide, FailureStage, PATIENCE_NS};
use crate::engine::failure::{Failure, Verdict};

/// Judges data that stopped in the middle and never went on.
pub fn stopped(case: &Case<'_>) -> Option<Verdict> {
    let Stop { stuck, end } = Stop::of(case)?;
    if stuck == Stuck::ShutOut {
        // A customer may let a video stand before leaving it.
        return Some(Verdict::unknown(stuck.evidence()));
    }
    let by_client = end == End::ResetByAsker && case.asker == case.session.up;
    let cause = match stuck {
        // An app that does not wait for what it wants; a sender gives up on what it sends.
        _ if by_client && stuck.is_awaited_by_client() => FailureCause::ResetByClient,
        Stuck::InVain { .. } => FailureCause::RetransmissionTimeout,
        _ => FailureCause::TransferStalled,
    };
    let stage = FailureStage::Transfer;
    let failure = Failure::new(cause, stage, stuck.side(), stuck.evidence());
    let failure = match end {
        End::Silence => failure,
        End::ResetByAsker | End::Left => failure.and("given_up"),
    };
    Some(if stuck == Stuck::Missing {
        case.failed(failure)
    } else {
        Verdict::Failed(failure)
    })
}

/// Judges what was left undone by who left first.
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    if let Some(owed) = owed(case) {
        let verdict = doubt(case).unwrap_or_else(|| case.failed(broken_off(case, owed)));
        return Some(verdict);
    }
    if !case.is_left_by_asker() || !leaves_something(case) {
        return None;
    }
    Some(if may_have_given_up(case) {
        Verdict::unknown("aborted_by_client,capture_loss")
    } else {
        Verdict::good("aborted_by_client")
    })
}

/// The asker left after a silence in which the tap missed what may have been the rest of the
/// answer, or may not have come.
fn may_have_given_up(case: &Case<'_>) -> bool {
    let silence_ns = case
        .session
        .exchange
        .farewell()
        .map_or(0, |left| left.silence_ns);
    case.tcp.capture_loss() && is_long(silence_ns, end(case))
}

/// The asker left while its request was unanswered, or the answer under way.
fn leaves_something(case: &Case<'_>) -> bool {
    let exchange = &case.session.exchange;
    let asked_last = exchange.farewell().is_some_and(|farewell| {
        let asked = farewell.last_speaker == Some(case.asker);
        asked && farewell.is_reset && farewell.silence_ns < PATIENCE_NS
    });
    let application = &case.session.application;
    let refuses_rest = case.tcp.reset.is_some()
        && (exchange.spoken_after_farewell || case.tcp.has_unacknowledged(case.asker.opposite()));
    asked_last
        || refuses_rest
        || application.expects_answer()
        || application.is_answer_incomplete()
        || application.awaits_dns()
}

/// What the answerer left undone, if it left first.
fn owed(case: &Case<'_>) -> Option<&'static str> {
    if !case.is_left_by_answerer() {
        return None;
    }
    let (application, hears_all) = (&case.session.application, case.hears_all());
    if case.tcp.reset.is_some_and(|reset| reset.unfinished) {
        Some(if case.asked_last() {
            "request_outstanding"
        } else {
            "data_in_flight"
        })
    } else if hears_all && application.expects_answer() {
        Some("request_unanswered")
    } else if hears_all && application.is_answer_incomplete() {
        Some("answer_incomplete")
    } else {
        None
    }
}

/// What else may have happened than that the answerer broke off.
fn doubt(case: &Case<'_>) -> Option<Verdict> {
    let exchange = &case.session.exchange;
    if !case.asked_last() {
        return None;
    }
    if case.tcp.capture_loss() {
        return Some(Verdict::unknown("reset_by_server,capture_loss"));
    }
    if case.session.missed_start && !exchange.answered {
        // The connection may have been idle until then.
        return Some(Verdict::unknown("reset_by_server,missed_start"));
    }
    if exchange.answered && exchange.pause_ns >= IDLE_NS {
        return Some(Verdict::unknown("keep_alive_expired"));
    }
    // What cannot be read may have been no request.
    let silence_ns = exchange
        .farewell()
        .map_or(0, |farewell| farewell.silence_ns);
    let is_request = case.session.application.expects_answer();
    (exchange.answered && !is_request && silence_ns >= PATIENCE_NS)
        .then_some(Verdict::unknown("reset_when_idle"))
}

/// Who serves, and breaks off amid its work, has failed its customer. Where the subscriber serves,
/// that is a reset by the client.
fn broken_off(case: &Case<'_>, owed: &'static str) -> Failure {
    let is_reset = case.tcp.reset.is_some();
    let (cause, evidence) = match (case.asker == case.session.up, is_reset) {
        (true, true) => (FailureCause::ResetByServer, "reset_by_server"),
        (true, false) => (FailureCause::ResetByServer, "fin_by_server"),
        (false, true) => (FailureCause::ResetByClient, "reset_by_client"),
        (false, false) => (FailureCause::ResetByClient, "fin_by_client"),
    };
    let side = Some(FailureSide::Server);
    Failure::new(cause, FailureStage::Transfer, side, evidence).and(owed)
}
