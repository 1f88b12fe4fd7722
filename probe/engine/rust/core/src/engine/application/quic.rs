//! QUIC on one flow: from datagrams to what its handshake said and how it failed.

use std::sync::Arc;

use super::Report;
use crate::app::quic::{CLIENT, Close, Identity, QuicTracker, SERVER, Unanswered};
use crate::engine::failure::Failure;
use crate::flow::samples::Samples;
use crate::record::names::{FailureCause, FailureSide, FailureStage, RttMethod};

const SECOND_NS: u64 = 1_000_000_000;
/// A connection counts as unanswered only if its client waited this long (as for TCP's SYN).
const CONNECT_PATIENCE_NS: u64 = 3 * SECOND_NS;
/// A handshake counts as given up only if nothing more was seen for this long (as for a request).
const HANDSHAKE_PATIENCE_NS: u64 = 10 * SECOND_NS;
/// A client that sends its side of the handshake so often, over so long, gets no answer.
const VAIN_DATAGRAMS: u32 = 3;
const VAIN_NS: u64 = SECOND_NS;

/// Transport error codes of CONNECTION_CLOSE (RFC 9000 20.1, RFC 9368 10.2).
mod error {
    pub const CONNECTION_REFUSED: u64 = 0x02;
    pub const VERSION_NEGOTIATION_ERROR: u64 = 0x11;
}

/// QUIC on one flow. The tracker takes the subscriber for the client until a packet proves the
/// contrary: then the subscriber serves, and all pairs are turned round.
#[derive(Debug)]
pub struct Quic {
    pub tracker: QuicTracker,
}

/// Round trips of one interval, the subscriber's and the far side's, with their methods.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    pub samples: [Samples; 2],
    pub methods: [RttMethod; 2],
}

/// The handshake's times, for the one record in which they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuicSetup {
    pub client_us: Option<u32>,
    pub server_us: Option<u32>,
    pub setup_us: Option<u32>,
}

impl Quic {
    pub fn new() -> Self {
        Self {
            tracker: QuicTracker::new(),
        }
    }

    pub fn resumed(identity: Arc<Identity>) -> Self {
        Self {
            tracker: QuicTracker::resumed(identity),
        }
    }

    pub fn describe<'a>(&'a mut self, report: &mut Report<'a>) {
        self.tracker.refresh_identity();
        report.app_protocol = Some("quic");
        let Some(identity) = self.tracker.identity() else {
            return;
        };
        report.server_name = identity.server_name.as_deref();
        report.server_name_source = report.server_name.map(|_| "sni");
        report.alpn = identity.alpn.as_deref();
        report.tls_version = identity.tls_1_3.then_some("1.3");
        report.ech = identity.ech;
    }

    /// Who opened the connection; none if its beginning was not seen.
    pub fn is_opened_by_subscriber(&self) -> Option<bool> {
        let begun = self.tracker.facts().first_initial_ns.is_some();
        begun.then_some(!self.tracker.is_swapped())
    }

    /// From the client's first Initial to the last it sent.
    fn tried_for_ns(&self) -> u64 {
        let facts = self.tracker.facts();
        let first_ns = facts.first_initial_ns.unwrap_or(facts.last_client_ns);
        facts.last_client_ns.saturating_sub(first_ns)
    }

    /// The handshake is over: the client sends what the connection is for.
    pub fn is_connected(&self) -> bool {
        self.tracker.facts().one_rtt_ns[CLIENT].is_some()
    }

    /// The handshake's times once they are decided: the client has sent its first 1-RTT packet, or
    /// either side has closed.
    pub fn setup(&self) -> Option<QuicSetup> {
        let facts = self.tracker.facts();
        let is_decided = facts.one_rtt_ns[CLIENT].is_some() || facts.close.is_some();
        is_decided.then(|| self.setup_so_far())
    }

    pub fn setup_so_far(&self) -> QuicSetup {
        let facts = self.tracker.facts();
        let [client_us, server_us] = self.by_subscriber(facts.handshake_us);
        QuicSetup {
            client_us,
            server_us,
            setup_us: facts.setup_us(),
        }
    }

    /// The interval's round trips. Those of the handshake are better than the spin bit's, so a side
    /// that has both in one interval shows the former alone.
    pub fn take_round_trips(&mut self) -> RoundTrips {
        let mut spin = self.tracker.take_spin_round_trips();
        let mut samples = self.tracker.take_handshake_round_trips();
        let mut methods = [RttMethod::QuicHandshake; 2];
        for side in [CLIENT, SERVER] {
            if samples[side].count().is_none() {
                samples[side] = std::mem::take(&mut spin[side]);
                methods[side] = RttMethod::Spin;
            }
        }
        RoundTrips {
            samples: self.by_subscriber(samples),
            methods: self.by_subscriber(methods),
        }
    }

    fn by_subscriber<T>(&self, [client, server]: [T; 2]) -> [T; 2] {
        if self.tracker.is_swapped() {
            [server, client]
        } else {
            [client, server]
        }
    }

    fn seen_by_subscriber(&self, failure: Failure) -> Failure {
        if self.tracker.is_swapped() {
            failure.seen_from_far_end()
        } else {
            failure
        }
    }

    /// The failure that a CONNECTION_CLOSE in the clear shows. A client that closes before a server
    /// has accepted its version cannot mean what the server said: it has waited in vain, or changed
    /// its mind.
    pub fn failure(&self) -> Option<Failure> {
        let facts = self.tracker.facts();
        let close = facts.close?;
        let is_accepted = facts.server_heard && !facts.version_refused;
        let failure = close_failure(&close).filter(|_| is_accepted || !close.from_client);
        failure.map(|failure| self.seen_by_subscriber(failure))
    }

    /// The failure that shows by what did not come up to `now_ns`.
    pub fn silence(&self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        let facts = self.tracker.facts();
        // A client that closed waited no longer than that.
        let end_ns = facts.close.map_or(now_ns, |_| facts.last_client_ns);
        let patient = end_ns.saturating_sub(facts.first_initial_ns?) >= CONNECT_PATIENCE_NS;
        if self.tracker.is_unanswered() {
            // Where the subscriber serves, nothing tells whether the way to the far end is seen.
            let is_seen = client_reached && !self.tracker.is_swapped();
            // One Initial alone does not show that its client waited: others follow it after 1 s
            // (RFC 9002 6.2.2).
            let is_told = patient && is_seen && self.tried_for_ns() >= VAIN_NS;
            return is_told.then_some(TIMEOUT);
        }
        if facts.version_refused {
            return patient.then(|| self.seen_by_subscriber(VERSION_MISMATCH));
        }
        let in_vain = self.tracker.is_in_handshake() && is_vain(&facts.unanswered, now_ns);
        in_vain.then_some(HANDSHAKE_TIMEOUT)
    }
}

fn is_vain(unanswered: &Unanswered, now_ns: u64) -> bool {
    unanswered.datagrams >= VAIN_DATAGRAMS
        && unanswered.last_ns.saturating_sub(unanswered.first_ns) >= VAIN_NS
        && now_ns.saturating_sub(unanswered.last_ns) >= HANDSHAKE_PATIENCE_NS
}

const TIMEOUT: Failure = Failure::new(
    FailureCause::QuicTimeout,
    FailureStage::Connect,
    Some(FailureSide::Server),
    "initial_unanswered,client_reached",
);
const VERSION_MISMATCH: Failure = Failure::new(
    FailureCause::QuicVersionMismatch,
    FailureStage::Connect,
    Some(FailureSide::Server),
    "version_negotiation,no_version_accepted",
);
/// As for TLS over TCP the silence does not say whose it is.
const HANDSHAKE_TIMEOUT: Failure = Failure::new(
    FailureCause::TlsTimeout,
    FailureStage::Tls,
    None,
    "handshake_repeated,unanswered",
);

fn close_failure(close: &Close) -> Option<Failure> {
    if let Some(failure) = close.tls_failure {
        let cause = FailureCause::from_text(failure.cause).unwrap_or(FailureCause::TlsOtherAlert);
        let side = FailureSide::from_text(failure.side);
        let evidence = if close.from_client {
            "connection_close_by_client,tls_alert"
        } else {
            "connection_close_by_server,tls_alert"
        };
        return Some(Failure::new(cause, FailureStage::Tls, side, evidence));
    }
    let cause = match close.error_code {
        error::CONNECTION_REFUSED if !close.from_client => FailureCause::ConnectRefused,
        error::VERSION_NEGOTIATION_ERROR => FailureCause::QuicVersionMismatch,
        _ => return None,
    };
    let side = Some(FailureSide::Server);
    let evidence = "connection_close_in_initial";
    Some(Failure::new(cause, FailureStage::Connect, side, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from_client: bool, error_code: u64) -> Option<FailureCause> {
        let close = Close {
            from_client,
            error_code,
            tls_failure: None,
        };
        close_failure(&close).map(|failure| failure.cause)
    }

    #[test]
    fn a_server_that_refuses_is_told_from_a_client_that_changed_its_mind() {
        assert_eq!(refused(false, 2), Some(FailureCause::ConnectRefused));
        assert_eq!(refused(true, 0x11), Some(FailureCause::QuicVersionMismatch));
        assert_eq!(refused(true, 0), None);
        assert_eq!(refused(true, 0x0c), None);
    }
}
