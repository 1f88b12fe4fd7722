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
    /// The opener's highest acknowledgment.
    read_up_to: Option<u32>,
    /// Where the segment ends that brought the first request.
    request_end: Option<u32>,
    pub setup_said: bool,
    pub first_byte_said: bool,
}

/// What is left of a handshake that was read.
#[derive(Debug)]
pub struct TlsSummary {
    pub info: TlsInfo,
    pub handshake_done: bool,
    pub setup_said: bool,
    pub first_byte_said: bool,
}

impl Tls {
    pub fn new(starts: [Option<u32>; 2]) -> Self {
        Self {
            tracker: TlsTracker::new(),
            streams: reassemblers(starts),
            read_up_to: None,
            request_end: None,
            setup_said: false,
            first_byte_said: false,
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
        if has_ack && by_opener {
            self.read_up_to = Some(acknowledgment);
        }
        if let (Some(end), false) = (self.request_end, by_opener) {
            tracker.note_request_read(has_ack && is_ahead(end, acknowledgment));
        }
        sent.push(piece, |bytes| tracker.feed(by_opener, bytes, piece.time_ns));
        if by_opener && tracker.info().exchange.request_ns().is_some() {
            self.request_end = self.request_end.or(sent.next());
        }
    }

    /// The opener ends the connection with a FIN or a reset behind its byte `sequence`. It says
    /// something if nothing is missing, and the opener has acknowledged all that the other side sent.
    pub fn on_opener_leaving(&mut self, sequence: u32) {
        let [sent, received] = &self.streams;
        let has_read_all = match (received.next(), self.read_up_to) {
            (Some(next), Some(read)) => is_ahead(next, read) && !received.waits(),
            _ => false,
        };
        if has_read_all && sent.next() == Some(sequence) {
            self.tracker.on_client_leaving();
        }
    }

    /// What waits for the first byte of a side, if that is at `sequence` and nothing was read yet.
    pub fn give_up_at(&mut self, side: usize, sequence: u32) -> Option<[Reassembler; 2]> {
        let is_next = self.streams[side].next() == Some(sequence);
        (is_next && self.tracker.is_untouched()).then(|| std::mem::take(&mut self.streams))
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
            first_byte_said: self.first_byte_said,
        }
    }
}

/// Whether `to` is at `from` or behind it in the stream (RFC 9293 3.4).
fn is_ahead(from: u32, to: u32) -> bool {
    to.wrapping_sub(from).cast_signed() >= 0
}

/// DNS over TLS has a port (RFC 7858 3.1) and a protocol name (RFC 7858 8.1) of its own.
pub fn protocol_name(info: &TlsInfo, server_port: u16) -> &'static str {
    const DOT_PORT: u16 = 853;
    if server_port == DOT_PORT || info.alpn() == Some("dot") {
        "dot"
    } else {
        "tls"
    }
}

pub fn describe<'a>(info: &'a TlsInfo, name: &'static str, report: &mut Report<'a>) {
    report.app_protocol = Some(name);
    (report.server_name, report.server_name_source) = name_of(info, report.server_name);
    report.alpn = info.alpn();
    report.tls_version = info.version.map(|version| version.as_str());
    report.ech = info.client_hello_time_ns.map(|_| info.ech);
    report.certificate_not_after_ns = info.certificate_not_after_ns;
}

/// The server's name and where it comes from; `asked` is the host that a proxy was asked for.
fn name_of<'a>(
    info: &'a TlsInfo,
    asked: Option<&'a str>,
) -> (Option<&'a str>, Option<&'static str>) {
    let sources = [
        (info.server_name.as_deref(), "sni"),
        (asked, "host"),
        (info.certificate_name.as_deref(), "certificate"),
    ];
    let known = sources.into_iter().find(|(name, _)| name.is_some());
    known.map_or((None, None), |(name, source)| (name, Some(source)))
}

const UNWANTED_VERSION: Failure = Failure::new(
    FailureCause::TlsVersionUnsupported,
    FailureStage::Tls,
    Some(FailureSide::Server),
    "version_not_offered,client_left",
);
const REJECTED_BY_CLIENT: Failure = Failure::new(
    FailureCause::TlsClientRejected,
    FailureStage::Tls,
    Some(FailureSide::Server),
    "client_alert_after_server_flight",
);

/// The failure that shows once nothing follows.
pub fn last_word(info: &TlsInfo) -> Option<Failure> {
    info.is_rejected_by_client().then_some(REJECTED_BY_CLIENT)
}

/// The failure that the handshake shows, if it shows one.
pub fn failure(info: &TlsInfo) -> Option<Failure> {
    if info.left_at_version {
        return Some(UNWANTED_VERSION);
    }
    let failure = alert::failure(info)?;
    let alert = info.alert?;
    let cause = FailureCause::from_text(failure.cause).unwrap_or(FailureCause::TlsOtherAlert);
    let evidence = if is_expired(info, alert.time_ns) && cause == FailureCause::TlsCertificate {
        alert_on_expired_certificate(alert.description)
    } else {
        alert_evidence(alert.description, alert.from_client)
    };
    Some(Failure::new(
        cause,
        FailureStage::Tls,
        FailureSide::from_text(failure.side),
        evidence,
    ))
}

fn is_expired(info: &TlsInfo, time_ns: u64) -> bool {
    info.certificate_not_after_ns
        .is_some_and(|end_ns| end_ns < time_ns)
}

/// Writes the evidence of the alerts listed, and a common one for all others.
macro_rules! alert_evidence {
    ($($description:literal $name:literal)+) => {
        fn alert_evidence(description: u8, from_client: bool) -> &'static str {
            match (description, from_client) {
                $(($description, true) => concat!("alert_", $name, "_by_client"),
                ($description, false) => concat!("alert_", $name, "_by_server"),)+
                (_, true) => "fatal_alert_by_client",
                (_, false) => "fatal_alert_by_server",
            }
        }

        fn alert_on_expired_certificate(description: u8) -> &'static str {
            match description {
                $($description =>
                    concat!("alert_", $name, "_by_client,certificate_expired"),)+
                _ => "fatal_alert_by_client,certificate_expired",
            }
        }
    };
}

// Names of the IANA TLS Alerts registry.
alert_evidence! {
    10 "unexpected_message" 20 "bad_record_mac" 21 "decryption_failed" 22 "record_overflow"
    30 "decompression_failure" 40 "handshake_failure" 41 "no_certificate" 42 "bad_certificate"
    43 "unsupported_certificate" 44 "certificate_revoked" 45 "certificate_expired"
    46 "certificate_unknown" 47 "illegal_parameter" 48 "unknown_ca" 49 "access_denied"
    50 "decode_error" 51 "decrypt_error" 70 "protocol_version" 71 "insufficient_security"
    80 "internal_error" 86 "inappropriate_fallback" 109 "missing_extension"
    110 "unsupported_extension" 111 "certificate_unobtainable" 112 "unrecognized_name"
    113 "bad_certificate_status_response" 114 "bad_certificate_hash_value"
    115 "unknown_psk_identity" 116 "certificate_required" 120 "no_application_protocol"
    121 "ech_required"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_said_to_come_from_where_it_was_read() {
        let name = |text: &str| Some(Box::from(text));
        for (sni, proxied, certificate, wanted) in [
            (name("a"), Some("b"), name("c"), Some(("a", "sni"))),
            (None, Some("b"), name("c"), Some(("b", "host"))),
            (None, None, name("c"), Some(("c", "certificate"))),
            (None, None, None, None),
        ] {
            let info = TlsInfo {
                server_name: sni,
                certificate_name: certificate,
                ..TlsInfo::default()
            };
            let mut report = Report {
                server_name: proxied,
                ..Report::default()
            };
            describe(&info, "tls", &mut report);
            assert_eq!(report.server_name.zip(report.server_name_source), wanted);
        }
    }
}
