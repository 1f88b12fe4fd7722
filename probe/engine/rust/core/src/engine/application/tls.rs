//! TLS on one connection: from segments to what its handshake said.

use super::{Report, reassemblers};
use crate::app::tls::{TlsInfo, TlsTracker, alert};
use crate::engine::failure::Failure;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::stream::{self, Reassembler, Status};

/// A TLS handshake under way.
#[derive(Debug)]
pub struct Tls {
    pub tracker: TlsTracker,
    /// The opener's bytes, then the other side's.
    streams: [Reassembler; 2],
    pub setup_said: bool,
}

/// What is left of a handshake that was read.
#[derive(Debug)]
pub struct TlsSummary {
    pub info: TlsInfo,
    pub handshake_done: bool,
    pub setup_said: bool,
}

impl Tls {
    pub fn new(starts: [Option<u32>; 2]) -> Self {
        Self {
            tracker: TlsTracker::new(),
            streams: reassemblers(starts),
            setup_said: false,
        }
    }

    pub fn on_segment(
        &mut self,
        by_opener: bool,
        piece: stream::Segment<'_>,
        acknowledgment: u32,
        has_ack: bool,
    ) {
        let Self {
            tracker,
            streams: [opener, other],
            ..
        } = self;
        let (sent, received) = if by_opener {
            (opener, other)
        } else {
            (other, opener)
        };
        if has_ack {
            received.acknowledge(acknowledgment, piece.time_ns);
        }
        sent.push(piece, |bytes| tracker.feed(by_opener, bytes, piece.time_ns));
    }

    pub fn is_something_else(&self) -> bool {
        let info = self.tracker.info();
        let nothing = info.client_hello_time_ns.is_none() && info.server_hello_time_ns.is_none();
        let unreadable = |side: usize| {
            self.tracker.is_malformed(side == 0)
                || matches!(self.streams[side].status(), Status::Lost(_))
        };
        nothing && (self.tracker.is_malformed(true) || (unreadable(0) && unreadable(1)))
    }

    /// Nothing more can be learnt from either side.
    pub fn is_over(&self) -> bool {
        (0..2).all(|side| {
            !self.tracker.wants_more(side == 0) || self.streams[side].status() != Status::Open
        })
    }

    pub fn summary(&self) -> TlsSummary {
        // Where bytes are missing the handshake may well have ended: say nothing of its failure.
        let lost = self
            .streams
            .iter()
            .any(|stream| stream.status() != Status::Open);
        TlsSummary {
            info: self.tracker.info().clone(),
            handshake_done: lost || self.tracker.handshake_done(),
            setup_said: self.setup_said,
        }
    }
}

pub fn describe<'a>(info: &'a TlsInfo, report: &mut Report<'a>) {
    report.app_protocol = Some("tls");
    report.server_name = info.server_name.as_deref().or(report.server_name);
    report.alpn = info.alpn();
    report.tls_version = info.version.map(|version| version.as_str());
    report.ech = info.client_hello_time_ns.map(|_| info.ech);
    report.certificate_not_after_ns = info.certificate_not_after_ns;
}

/// The failure that the handshake shows, if it shows one.
pub fn failure(info: &TlsInfo) -> Option<Failure> {
    if info.client_rejected {
        let (cause, side) = (FailureCause::TlsClientRejected, Some(FailureSide::Server));
        let evidence = "client_alert_after_server_flight";
        return Some(Failure::new(cause, FailureStage::Tls, side, evidence));
    }
    let failure = alert::failure(info)?;
    let cause = FailureCause::from_text(failure.cause).unwrap_or(FailureCause::TlsOtherAlert);
    let by_client = info.alert.is_some_and(|alert| alert.from_client);
    let evidence = if by_client {
        "fatal_alert_by_client"
    } else {
        "fatal_alert_by_server"
    };
    Some(Failure::new(
        cause,
        FailureStage::Tls,
        FailureSide::from_text(failure.side),
        evidence,
    ))
}
