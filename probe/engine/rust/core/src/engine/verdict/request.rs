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
const HUNG_UP: Failure = Failure::new(
    FailureCause::ResetByServer,
    FailureStage::Transfer,
    Some(FailureSide::Server),
    "fin_by_server,request_unanswered",
);

pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    if is_unused(case) {
        return Some(unused(case));
    }
    let application = &case.session.application;
    let left = case.is_left_by_asker();
    // Long polls are silent too: of what cannot be read only a client that gives up tells.
    let expects = application.expects_answer() || (left && application.awaits_first_answer());
    if !expects || !case.hears_all() {
        return None;
    }
    if case.asker_waited_long() {
        let gave_up = TIMEOUT.and("client_gave_up");
        return Some(case.failed(if left { gave_up } else { TIMEOUT }));
    }
    hung_up(case)
}

/// The server closed where it owed an answer.
fn hung_up(case: &Case<'_>) -> Option<Verdict> {
    let farewell = case.session.exchange.farewell?;
    if farewell.by == case.asker || farewell.is_reset {
        return None;
    }
    Some(if case.session.exchange.pause_ns >= IDLE_NS {
        Verdict::unknown("keep_alive_expired")
    } else {
        case.failed(HUNG_UP)
    })
}

/// Established, perhaps with TLS, and no request was made.
fn is_unused(case: &Case<'_>) -> bool {
    let silent = case.session.exchange.last_speaker.is_none();
    case.tcp.is_established() && (silent || case.session.application.is_tls_unused())
}

fn unused(case: &Case<'_>) -> Verdict {
    if case.around.is_scan {
        Verdict::unknown("scan")
    } else {
        Verdict::good("preconnection_unused")
    }
}
