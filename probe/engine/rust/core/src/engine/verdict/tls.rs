//! TLS handshakes that came to no end. Alerts speak for themselves (`application::tls`).

use super::stop::{Stop, Stuck};
use super::{Case, FailureCause, FailureSide, FailureStage, PATIENCE_NS};
use crate::engine::exchange::Farewell;
use crate::engine::failure::{Failure, Verdict};

const RESET: Failure = Failure::new(
    FailureCause::TlsReset,
    FailureStage::Tls,
    Some(FailureSide::Server),
    "client_hello,reset_by_server",
);
/// A server that hangs up in an orderly manner has ended the handshake all the same.
const HUNG_UP: Failure = Failure::new(
    FailureCause::TlsReset,
    FailureStage::Tls,
    Some(FailureSide::Server),
    "client_hello,fin_by_server",
);
/// The server's host took the ClientHello: what is silent is the service.
const SILENT_SERVICE: Failure = Failure::new(
    FailureCause::TlsTimeout,
    FailureStage::Tls,
    Some(FailureSide::Server),
    "client_hello_unanswered,acknowledged",
);
const SILENT: Failure = Failure::new(
    FailureCause::TlsTimeout,
    FailureStage::Tls,
    None,
    "client_hello_unanswered",
);

pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    if !case.session.application.is_in_tls_handshake() {
        return None;
    }
    let last_word = case.session.application.tls_last_word();
    if let Some(failure) = last_word.filter(|_| !case.around.is_cut_short) {
        return Some(case.failed(failure));
    }
    if case.is_left_by_answerer() {
        return Some(hung_up(case));
    }
    let left = case.is_left_by_asker();
    if case.asker_waited_long() && case.hears_all() {
        let failure = silence(case);
        return Some(case.failed(if left {
            failure.and("client_gave_up")
        } else {
            failure
        }));
    }
    if let Some(stop) = Stop::of(case) {
        return Some(Verdict::Failed(stuck(stop.stuck)));
    }
    left.then_some(Verdict::unknown("tls_unfinished,aborted_by_client"))
}

/// A server may end a handshake that the client let lie; else it owed the next message.
fn hung_up(case: &Case<'_>) -> Verdict {
    let farewell = case.session.exchange.farewell();
    let owes =
        |left: Farewell| left.last_speaker == Some(case.asker) || left.silence_ns < PATIENCE_NS;
    match farewell.filter(|&farewell| owes(farewell)) {
        Some(farewell) if farewell.is_reset => case.failed(RESET),
        Some(_) => case.failed(HUNG_UP),
        None => Verdict::unknown("tls_unfinished"),
    }
}

/// A message of the handshake did not get through.
fn stuck(stuck: Stuck) -> Failure {
    let (cause, stage) = (FailureCause::TlsTimeout, FailureStage::Tls);
    Failure::new(cause, stage, stuck.side(), stuck.evidence())
}

fn silence(case: &Case<'_>) -> Failure {
    if case.tcp.has_unacknowledged(case.asker) {
        SILENT
    } else {
        SILENT_SERVICE
    }
}
