//! TLS on one connection: from segments to what its handshake said.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::{Report, first_time, reassemblers};
use crate::app::tls::hello::Version;
use crate::app::tls::{TlsInfo, TlsTracker, alert};
use crate::engine::failure::Failure;
use crate::engine::shared::Texts;
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

/// What is left of a handshake that was read: as little as can be, for as long as the connection lives.
#[derive(Debug)]
pub struct TlsSummary {
    pub course: Course,
    name: Option<Arc<str>>,
    /// What few have.
    more: Option<Box<More>>,
    setup: Lasted,
    first_byte: Lasted,
    offer: Option<Offer>,
    ech: Option<bool>,
    /// The name is that of the certificate: the client named none.
    is_of_certificate: bool,
    pub is_rejected_by_client: bool,
    pub handshake_done: bool,
    /// A certificate was left unread, and nobody has asked for it yet.
    is_unread: bool,
}

#[derive(Debug, Default)]
struct More {
    /// Other than the usual ones.
    alpn: Option<Arc<str>>,
    failure: Option<Failure>,
    certificate_not_after_ns: Option<u64>,
}

/// Application protocols as nearly all clients offer them, or servers choose them.
#[derive(Debug, Clone, Copy)]
enum Offer {
    Http2,
    Http1,
    Http2Or1,
}

impl Offer {
    const ALL: [Self; 3] = [Self::Http2, Self::Http1, Self::Http2Or1];

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|offer| offer.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http2 => "h2",
            Self::Http1 => "http/1.1",
            Self::Http2Or1 => "h2,http/1.1",
        }
    }
}

/// A time that is told once, in microseconds; the largest stands for none.
#[derive(Debug, Clone, Copy)]
struct Lasted(u32);

impl Lasted {
    const NONE: u32 = u32::MAX;

    fn untold(us: Option<u32>, is_told: bool) -> Self {
        Self(us.filter(|_| !is_told).unwrap_or(Self::NONE))
    }

    fn take(&mut self) -> Option<u32> {
        let us = std::mem::replace(&mut self.0, Self::NONE);
        (us != Self::NONE).then_some(us)
    }
}

/// How far a handshake came.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// See `TlsInfo`.
    pub client_application_time_ns: Option<NonZeroU64>,
    pub version: Option<Version>,
    pub has_begun: bool,
    pub early_data: bool,
    pub server_application: bool,
}

impl Course {
    pub fn of(info: &TlsInfo) -> Self {
        Self {
            client_application_time_ns: info.client_application_time_ns.and_then(NonZeroU64::new),
            version: info.version,
            has_begun: info.client_hello_time_ns.is_some(),
            early_data: info.early_data,
            server_application: info.server_application,
        }
    }
}

impl More {
    fn of(info: &TlsInfo) -> Option<Self> {
        let alpn = info.alpn().filter(|text| Offer::of(text).is_none());
        let more = Self {
            alpn: alpn.map(Arc::from),
            failure: failure(info),
            certificate_not_after_ns: info.certificate_not_after_ns,
        };
        let is_some = more.alpn.is_some()
            || more.failure.is_some()
            || more.certificate_not_after_ns.is_some();
        is_some.then_some(more)
    }
}

impl TlsSummary {
    pub fn server_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| !self.is_of_certificate)
    }

    pub fn failure(&self) -> Option<Failure> {
        self.more.as_ref()?.failure
    }

    /// Whether a certificate was left unread since the last call.
    pub fn take_unread(&mut self) -> bool {
        std::mem::take(&mut self.is_unread)
    }

    /// Texts that many sessions have are kept once.
    pub fn share(&mut self, texts: &mut Texts) {
        let alpn = self.more.as_mut().and_then(|more| more.alpn.as_mut());
        for text in self.name.as_mut().into_iter().chain(alpn) {
            texts.share(text);
        }
    }

    pub fn take_report<'a>(&'a mut self, server_port: u16, report: &mut Report<'a>) {
        report.tls_setup_us = self.setup.take();
        report.time_to_first_byte_us = self.first_byte.take().or(report.time_to_first_byte_us);
        let more = self.more.as_deref();
        let offer = self.offer.map(Offer::as_str);
        report.alpn = offer.or(more.and_then(|more| more.alpn.as_deref()));
        report.app_protocol = Some(protocol_name(report.alpn, server_port));
        let (sni, certificate) = match self.is_of_certificate {
            true => (None, self.name.as_deref()),
            false => (self.name.as_deref(), None),
        };
        (report.server_name, report.server_name_source) =
            name_of(sni, report.server_name, certificate);
        report.tls_version = self.course.version.map(Version::as_str);
        report.ech = self.ech;
        report.certificate_not_after_ns = more.and_then(|more| more.certificate_not_after_ns);
    }
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
        let info = self.tracker.info();
        let name = info.server_name.as_deref();
        TlsSummary {
            course: Course::of(info),
            name: name.or(info.certificate_name.as_deref()).map(Arc::from),
            more: More::of(info).map(Box::new),
            setup: Lasted::untold(info.setup_us(), self.setup_said),
            first_byte: Lasted::untold(info.exchange.first_byte_us(), self.first_byte_said),
            offer: info.alpn().and_then(Offer::of),
            ech: info.client_hello_time_ns.map(|_| info.ech),
            is_of_certificate: name.is_none(),
            is_rejected_by_client: info.is_rejected_by_client(),
            handshake_done: lost || self.tracker.handshake_done(),
            is_unread: info.is_unread(),
        }
    }

    pub fn take_report<'a>(&'a mut self, server_port: u16, report: &mut Report<'a>) {
        let info = self.tracker.info();
        report.tls_setup_us = first_time(&mut self.setup_said, info.setup_us());
        let waited_us = first_time(&mut self.first_byte_said, info.exchange.first_byte_us());
        report.time_to_first_byte_us = waited_us.or(report.time_to_first_byte_us);
        describe(info, protocol_name(info.alpn(), server_port), report);
    }
}

/// Whether `to` is at `from` or behind it in the stream (RFC 9293 3.4).
fn is_ahead(from: u32, to: u32) -> bool {
    to.wrapping_sub(from).cast_signed() >= 0
}

/// DNS over TLS has a port (RFC 7858 3.1) and a protocol name (RFC 7858 8.1) of its own.
fn protocol_name(alpn: Option<&str>, server_port: u16) -> &'static str {
    const DOT_PORT: u16 = 853;
    if server_port == DOT_PORT || alpn == Some("dot") {
        "dot"
    } else {
        "tls"
    }
}

pub fn describe<'a>(info: &'a TlsInfo, name: &'static str, report: &mut Report<'a>) {
    report.app_protocol = Some(name);
    let (sni, certificate) = (
        info.server_name.as_deref(),
        info.certificate_name.as_deref(),
    );
    (report.server_name, report.server_name_source) = name_of(sni, report.server_name, certificate);
    report.alpn = info.alpn();
    report.tls_version = info.version.map(|version| version.as_str());
    report.ech = info.client_hello_time_ns.map(|_| info.ech);
    report.certificate_not_after_ns = info.certificate_not_after_ns;
}

/// The server's name and where it comes from; `asked` is the host that a proxy was asked for.
fn name_of<'a>(
    sni: Option<&'a str>,
    asked: Option<&'a str>,
    certificate: Option<&'a str>,
) -> (Option<&'a str>, Option<&'static str>) {
    let sources = [(sni, "sni"), (asked, "host"), (certificate, "certificate")];
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

/// The failure that shows once nothing follows a handshake that the client rejected.
pub fn last_word(is_rejected_by_client: bool) -> Option<Failure> {
    is_rejected_by_client.then_some(REJECTED_BY_CLIENT)
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
