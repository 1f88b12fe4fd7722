//! Requests that were not answered, and connections that never carried one.

use super::{Case, FailureCause, FailureSide, FailureStage, SECOND_NS};
use crate::engine::failure::{Failure, Verdict};

/// Servers close connections that are idle for so long; a request may cross their farewell
/// (RFC 9112 9.3.1), and the client then sends it again on another connection.
pub const IDLE_NS: u64 = 5 * SECOND_NS;

const TIMEOUT: Failure = Failure::new(
    FailureCause::RequestTimeout,
    FailureStage::Request,
    Some(FailureSide::Server),
    "request_unanswered",
);
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    let application = &case.session.application;
    let left = case.is_left_by_asker();
    // Long polls are silent too: of what cannot be read only a client that gives up tells.
    let expects = application.expects_answer() || (left && application.awaits_first_answer());
    if !expects || !case.hears_all() {
        return None;
    }
    let failure = if left {
        TIMEOUT.and("client_gave_up")
    } else {
        TIMEOUT
    };
    case.asker_waited_long().then_some(case.failed(failure))
}

/// Judges a connection, perhaps with TLS, on which no request was made.
pub fn unused(case: &Case<'_>) -> Option<Verdict> {
    let silent = case.session.exchange.last_speaker.is_none();
    let is_unused =
        case.tcp.is_established() && (silent || case.session.application.is_tls_unused());
    is_unused.then_some(if case.around.is_scan {
        Verdict::unknown("scan")
    } else {
        Verdict::good("preconnection_unused")
    })
}
