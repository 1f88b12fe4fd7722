//! The verdict on a session: facts in, outcome and cause out.
//!
//! Facts are the session's own (its connection, who spoke last, what its application carries) and
//! what is known of its client beyond it (`Around`). They are judged in the order in which a session
//! goes on: what was shown by bytes, then connect, tls, request, transfer. The first that has an
//! answer gives it; a later cause would only follow from it. `docs/failures.md` states the rules.

mod connect;
mod quic;
mod request;
mod reset;
mod sight;
mod stop;
mod tls;
mod transfer;

use crate::engine::clients::Winners;
use crate::engine::evidence::Evidence;
use crate::engine::failure::{Failure, Verdict};
use crate::engine::session::Session;
use crate::flow::Direction;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::Connection;

const SECOND_NS: u64 = 1_000_000_000;
/// Silence counts as a missing answer only if the client waited this long for it.
const PATIENCE_NS: u64 = 10 * SECOND_NS;
/// A connection that came up later than this was up to no good use: two SYNs were lost.
const SLOW_SETUP_US: u32 = 3_000_000;

/// What is known beyond the session when it is judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around {
    pub now_ns: u64,
    /// A packet to this client was seen lately, so silence is the server's.
    pub client_reached: bool,
    /// The attempt is one of many in vain by the same client.
    pub is_scan: bool,
    /// How the client connected to the same server around this attempt.
    pub winners: Winners,
    /// The probe gave the session up: what did not come may still come.
    pub is_cut_short: bool,
}

/// What the last record says of the outcome.
pub fn judge(session: &mut Session, around: &Around) -> Verdict {
    let awaited_until_ns = session.awaited_until_ns(around.now_ns);
    let shown = session.failure.as_deref().copied();
    let shown = shown.or_else(|| session.unanswered_refusal());
    let silent = || {
        let silence = session
            .application
            .silence(awaited_until_ns, around.client_reached);
        silence.filter(|_| !around.is_cut_short)
    };
    if let Some(failure) = shown.or_else(silent) {
        return settle(failure, around);
    }
    let Some(case) = Case::of(session, around) else {
        return quic::judge(session, around).unwrap_or_else(|| calm(session));
    };
    reset::injected(&case)
        .or_else(|| connect::judge(&case))
        .or_else(|| one_way(session))
        .or_else(|| sight::lost(&case))
        .or_else(|| tls::judge(&case))
        .or_else(|| request::unused(&case))
        .or_else(|| transfer::stopped(&case))
        .or_else(|| request::judge(&case))
        .or_else(|| transfer::judge(&case))
        .unwrap_or_else(|| calm(session))
}

/// A failure to connect is none if the client scans, or reached the server another way.
fn settle(failure: Failure, around: &Around) -> Verdict {
    if failure.stage != FailureStage::Connect {
        return Verdict::Failed(failure);
    }
    match (around.is_scan, failure.cause) {
        (true, _) => Verdict::unknown("scan"),
        (false, FailureCause::QuicTimeout) => quic::settle(failure, around.winners),
        (false, FailureCause::ConnectTimeout) if around.winners.any() => {
            Verdict::unknown("race_lost")
        }
        _ if around.winners.another_way => Verdict::good("race_lost"),
        _ => Verdict::Failed(failure),
    }
}

/// Where one direction is not seen, what is missing says nothing.
fn one_way(session: &Session) -> Option<Verdict> {
    session.is_one_way().then_some(Verdict::unknown("one_way"))
}

/// Nothing speaks of a failure.
fn calm(session: &Session) -> Verdict {
    if let Some(verdict) = one_way(session) {
        return verdict;
    }
    if session.application.is_in_tls_handshake() {
        return Verdict::unknown("tls_unfinished");
    }
    let handshake = session.connection.as_ref().map(|tcp| &tcp.handshake);
    match handshake {
        Some(shaken) if shaken.setup_us.is_some_and(|us| us >= SLOW_SETUP_US) => {
            let syns = u32::from(shaken.syn_retransmissions);
            let evidence = Evidence::of("connect_slow").and_number("syn_retransmissions", syns);
            Verdict::Degraded(evidence)
        }
        _ => Verdict::Good(Evidence::NONE),
    }
}

/// A TCP connection before the judge. Who opened it asks, the other side answers, whichever of
/// them is the subscriber.
struct Case<'a> {
    session: &'a Session,
    tcp: &'a Connection,
    around: &'a Around,
    asker: Direction,
}

impl<'a> Case<'a> {
    fn of(session: &'a Session, around: &'a Around) -> Option<Self> {
        Some(Self {
            session,
            tcp: session.connection.as_ref()?,
            around,
            asker: session.initiator.unwrap_or(session.up),
        })
    }

    /// A failure told from the asker's point of view.
    fn failed(&self, failure: Failure) -> Verdict {
        Verdict::Failed(if self.asker == self.session.up {
            failure
        } else {
            failure.seen_from_far_end()
        })
    }

    /// The asker spoke last.
    fn asked_last(&self) -> bool {
        self.session.exchange.last_speaker == Some(self.asker)
    }

    fn is_left_by_asker(&self) -> bool {
        let farewell = self.session.exchange.farewell();
        farewell.is_some_and(|farewell| farewell.by == self.asker)
    }

    fn is_left_by_answerer(&self) -> bool {
        let farewell = self.session.exchange.farewell();
        farewell.is_some_and(|farewell| farewell.by != self.asker)
    }

    /// The asker spoke last, and heard nothing for long until somebody left, or until now.
    fn asker_waited_long(&self) -> bool {
        let exchange = &self.session.exchange;
        let (speaker, silence_ns) = match exchange.farewell() {
            Some(farewell) => (farewell.last_speaker, farewell.silence_ns),
            None => {
                let silence_ns = exchange.silence_ns(self.around.now_ns);
                (exchange.last_speaker, silence_ns)
            }
        };
        speaker == Some(self.asker) && silence_ns >= PATIENCE_NS
    }

    /// Silence says something: nothing is missing, and the start was seen.
    fn hears_all(&self) -> bool {
        let session = self.session;
        !session.missed_start && !self.tcp.capture_loss() && !self.around.is_cut_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::names::Outcome;

    fn settled(cause: FailureCause, stage: FailureStage, around: &Around) -> Option<Outcome> {
        settle(Failure::new(cause, stage, None, "seen"), around).outcome()
    }

    fn around(is_scan: bool, any: bool, another_way: bool) -> Around {
        let winners = Winners {
            tcp: any,
            quic: false,
            another_way,
        };
        Around {
            is_scan,
            winners,
            ..Around::default()
        }
    }

    #[test]
    fn only_failures_to_connect_are_excused() {
        let excused = around(true, true, true);
        for (cause, stage) in [
            (FailureCause::DnsTimeout, FailureStage::Dns),
            (FailureCause::TlsTimeout, FailureStage::Tls),
            (FailureCause::HttpServerError, FailureStage::Request),
            (FailureCause::NetworkInjectedReset, FailureStage::Transfer),
        ] {
            assert_eq!(settled(cause, stage, &excused), Some(Outcome::Failed));
        }
    }

    #[test]
    fn an_attempt_that_was_answered_no_needs_another_way_to_be_excused() {
        use FailureCause::{ConnectProhibited, ConnectRefused, ConnectUnreachable};
        for cause in [ConnectRefused, ConnectUnreachable, ConnectProhibited] {
            let outcome = |around| settled(cause, FailureStage::Connect, &around);
            assert_eq!(outcome(around(false, false, false)), Some(Outcome::Failed));
            assert_eq!(outcome(around(false, true, false)), Some(Outcome::Failed));
            assert_eq!(outcome(around(false, true, true)), Some(Outcome::Ok));
            assert_eq!(outcome(around(true, false, false)), Some(Outcome::Unknown));
        }
    }
}
