//! TLS on one connection: from segments to what its handshake said.

use super::{Report, reassemblers};
use crate::app::tls::farewell::Rejection;
use crate::app::tls::hello::Version;
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
        sent.push(piece, |bytes| tracker.feed(by_opener, bytes, piece.time_ns));
    }

    /// The opener ends the connection with a FIN or a reset behind its byte `sequence`.
    pub fn on_opener_leaving(&mut self, sequence: u32, time_ns: u64) {
        let [sent, received] = &self.streams;
        let is_ahead = |from: u32, to: u32| to.wrapping_sub(from).cast_signed() >= 0;
        let has_read_all = match (received.next(), self.read_up_to) {
            (Some(next), Some(read)) => is_ahead(next, read) && !received.waits(),
            _ => false,
        };
        if sent.next() == Some(sequence) {
            self.tracker.on_client_leaving(has_read_all, time_ns);
        }
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
    name_server(info, report);
    report.alpn = info.alpn();
    report.tls_version = info.version.map(|version| version.as_str());
    report.ech = info.client_hello_time_ns.map(|_| info.ech);
    report.certificate_not_after_ns = info.certificate_not_after_ns;
}

/// The name that the client asked for; else that which a proxy was asked for; else the certificate's.
fn name_server<'a>(info: &'a TlsInfo, report: &mut Report<'a>) {
    let names = [
        (info.server_name.as_deref(), "sni"),
        (report.server_name, "host"),
        (info.certificate_name.as_deref(), "certificate"),
    ];
    let known = names.into_iter().find(|(name, _)| name.is_some());
    (report.server_name, report.server_name_source) =
        known.map_or((None, None), |(name, source)| (name, Some(source)));
}

/// The failure that the handshake shows, if it shows one.
pub fn failure(info: &TlsInfo) -> Option<Failure> {
    if info.client_rejected {
        let (cause, side) = (FailureCause::TlsClientRejected, Some(FailureSide::Server));
        let evidence = "client_alert_after_server_flight";
        return Some(Failure::new(cause, FailureStage::Tls, side, evidence));
    }
    if let Some((rejection, time_ns)) = info.rejection {
        return rejected(info, rejection, time_ns);
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

/// A client that left without an alert. Up to TLS 1.2 clients that reject a certificate send one, so
/// only a certificate that was expired for all to see tells why; else it may be the user who left.
fn rejected(info: &TlsInfo, rejection: Rejection, time_ns: u64) -> Option<Failure> {
    let (cause, evidence) = match rejection {
        Rejection::Version => (
            FailureCause::TlsVersionUnsupported,
            "unwanted_version_chosen,client_left",
        ),
        Rejection::ServerFlight if info.version == Some(Version::Tls13) => (
            FailureCause::TlsClientRejected,
            "server_flight_read,client_left",
        ),
        Rejection::ServerFlight if is_expired(info, time_ns) => (
            FailureCause::TlsCertificate,
            "certificate_expired,client_left",
        ),
        Rejection::ServerFlight => return None,
    };
    let side = Some(FailureSide::Server);
    Some(Failure::new(cause, FailureStage::Tls, side, evidence))
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
