//! What a session carries: the application protocol, its names, its waiting times, its failures.

use crate::app::dns::{self, DnsMessage, DnsTcpFramer, DnsTracker, Transaction};
use crate::app::tls::{TlsInfo, TlsTracker, alert, looks_like_tls};
use crate::engine::failure::Failure;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::Segment;
use crate::tcp::micros;
use crate::tcp::stream::{self, Reassembler, Status};

/// What a record says about the application; texts are borrowed from the session.
#[derive(Debug, Default)]
pub struct Report<'a> {
    pub app_protocol: Option<&'static str>,
    pub server_name: Option<&'a str>,
    pub alpn: Option<&'a str>,
    pub tls_version: Option<&'static str>,
    pub ech: Option<bool>,
    pub certificate_not_after_ns: Option<u64>,
    pub tls_setup_us: Option<u32>,
    pub time_to_first_byte_us: Option<u32>,
    pub dns_query: Option<&'a str>,
    pub dns_response_us: Option<u32>,
    pub dns_rcode: Option<u16>,
    pub requests: Option<u32>,
    pub requests_failed: Option<u32>,
}

/// The application of a session, as far as its first bytes told.
#[derive(Debug, Default)]
pub struct Application {
    protocol: Protocol,
    /// The sequence number of each side's first byte, opener first, from its SYN.
    starts: [Option<u32>; 2],
    request: FirstRequest,
}

#[derive(Debug, Default)]
enum Protocol {
    #[default]
    Undecided,
    Tls(Box<Tls>),
    /// The handshake is over; only its findings are kept.
    TlsRead(Box<TlsSummary>),
    Dns(Box<Dns>),
    Http,
    Quic,
    Other,
}

/// The wait for the first answer: first request byte after set-up to first response byte.
#[derive(Debug, Default, Clone, Copy)]
struct FirstRequest {
    sent_ns: Option<u64>,
    answered: bool,
    /// Decided, and not yet in a record.
    time_to_first_byte_us: Option<u32>,
}

impl FirstRequest {
    fn on_request(&mut self, time_ns: u64) {
        if !self.answered {
            self.sent_ns.get_or_insert(time_ns);
        }
    }

    /// A response before any request (the server speaks first) leaves nothing to measure.
    fn on_response(&mut self, time_ns: u64) {
        if !self.answered {
            self.answered = true;
            self.time_to_first_byte_us = self.sent_ns.map(|sent_ns| micros(sent_ns, time_ns));
        }
    }
}

impl Application {
    /// Takes in a segment. `by_opener`: it was sent by the side that opened the connection.
    pub fn on_segment(
        &mut self,
        by_opener: bool,
        server_port: u16,
        segment: &Segment<'_>,
        time_ns: u64,
    ) {
        let side = usize::from(!by_opener);
        if segment.has_syn() {
            self.starts[side] = Some(segment.sequence.wrapping_add(1));
        }
        if segment.payload_len > 0 && matches!(self.protocol, Protocol::Undecided) {
            self.protocol = self.first_payload(side, server_port, segment);
        }
        let piece = stream::Segment {
            sequence: segment.sequence.wrapping_add(u32::from(segment.has_syn())),
            data: segment.payload,
            wire_len: segment.payload_len,
            time_ns,
        };
        match &mut self.protocol {
            Protocol::Tls(tls) => {
                tls.on_segment(by_opener, piece, segment.acknowledgment, segment.has_ack());
                self.settle_tls();
            }
            Protocol::Dns(dns) => dns.on_segment(by_opener, piece),
            _ => {}
        }
        if segment.payload_len > 0 {
            self.time_first_answer(by_opener, time_ns);
        }
    }

    /// Decides by the first payload. Bytes ahead of a hole are taken for TLS until they prove not
    /// to be: only its reader can wait for the missing ones.
    fn first_payload(&self, side: usize, server_port: u16, segment: &Segment<'_>) -> Protocol {
        let first_byte = segment.sequence.wrapping_add(u32::from(segment.has_syn()));
        let in_order = self.starts[side].is_none_or(|start| start == first_byte);
        if server_port == dns::PORT {
            Protocol::Dns(Box::new(Dns::over_tcp(self.starts)))
        } else if !in_order || looks_like_tls(segment.payload) {
            Protocol::Tls(Box::new(Tls::new(self.starts)))
        } else if side == 0 && is_http_request(segment.payload) {
            Protocol::Http
        } else {
            Protocol::Other
        }
    }

    fn settle_tls(&mut self) {
        let Protocol::Tls(tls) = &self.protocol else {
            return;
        };
        if tls.is_something_else() {
            self.protocol = Protocol::Other;
        } else if tls.is_over() {
            self.protocol = Protocol::TlsRead(Box::new(tls.summary()));
        }
    }

    fn time_first_answer(&mut self, by_opener: bool, time_ns: u64) {
        let after_setup = match self.tls_info() {
            Some(info) => info
                .client_application_time_ns
                .is_some_and(|start| start <= time_ns),
            None => !matches!(self.protocol, Protocol::Dns(_)),
        };
        match (after_setup, by_opener) {
            (true, true) => self.request.on_request(time_ns),
            (true, false) => self.request.on_response(time_ns),
            (false, _) => {}
        }
    }

    /// Takes in the payload of a UDP datagram.
    pub fn on_datagram(&mut self, by_client: bool, server_port: u16, payload: &[u8], time_ns: u64) {
        if matches!(self.protocol, Protocol::Undecided) {
            self.protocol = if server_port == dns::PORT {
                Protocol::Dns(Box::default())
            } else if by_client && is_quic(payload) {
                Protocol::Quic
            } else {
                Protocol::Other
            };
        }
        if let Protocol::Dns(dns) = &mut self.protocol {
            dns.on_message(payload, time_ns);
        }
    }

    pub fn is_dns(&self) -> bool {
        matches!(self.protocol, Protocol::Dns(_))
    }

    fn tls_info(&self) -> Option<&TlsInfo> {
        match &self.protocol {
            Protocol::Tls(tls) => Some(tls.tracker.info()),
            Protocol::TlsRead(summary) => Some(&summary.info),
            _ => None,
        }
    }

    /// A ClientHello was sent and the handshake has not come to its end.
    pub fn is_in_tls_handshake(&self) -> bool {
        match &self.protocol {
            Protocol::Tls(tls) => {
                tls.tracker.info().client_hello_time_ns.is_some() && !tls.tracker.handshake_done()
            }
            Protocol::TlsRead(summary) => !summary.handshake_done,
            _ => false,
        }
    }

    /// A request whose answer has not begun, of a protocol in which every request has one.
    pub fn expects_answer(&self) -> bool {
        let pending = self.request.sent_ns.is_some() && !self.request.answered;
        pending && matches!(self.protocol, Protocol::Http)
    }

    /// A failure that the bytes themselves show.
    pub fn failure(&self) -> Option<Failure> {
        match &self.protocol {
            Protocol::Dns(dns) => dns.failure,
            _ => tls_failure(self.tls_info()?),
        }
    }

    /// A failure that shows by silence up to `now_ns`. `client_reached`: the way back to the client
    /// is visible.
    pub fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        match &mut self.protocol {
            Protocol::Dns(dns) => dns.silence(now_ns, client_reached),
            _ => None,
        }
    }

    /// What this interval's record says; what is said once is not said again.
    pub fn take_report(&mut self) -> Report<'_> {
        let mut report = Report {
            time_to_first_byte_us: self.request.time_to_first_byte_us.take(),
            ..Report::default()
        };
        match &mut self.protocol {
            Protocol::Tls(tls) => {
                let info = tls.tracker.info();
                report.tls_setup_us = first_time(&mut tls.setup_said, info.setup_us());
                describe_tls(info, &mut report);
            }
            Protocol::TlsRead(summary) => {
                let info = &summary.info;
                report.tls_setup_us = first_time(&mut summary.setup_said, info.setup_us());
                describe_tls(info, &mut report);
            }
            Protocol::Dns(dns) => dns.take_report(&mut report),
            Protocol::Http => report.app_protocol = Some("http"),
            Protocol::Quic => report.app_protocol = Some("quic"),
            Protocol::Undecided | Protocol::Other => {}
        }
        report
    }
}

fn first_time<T>(said: &mut bool, value: Option<T>) -> Option<T> {
    let value = value.filter(|_| !*said)?;
    *said = true;
    Some(value)
}

fn describe_tls<'a>(info: &'a TlsInfo, report: &mut Report<'a>) {
    report.app_protocol = Some("tls");
    report.server_name = info.server_name.as_deref();
    report.alpn = info.alpn();
    report.tls_version = info.version.map(|version| version.as_str());
    report.ech = info.client_hello_time_ns.map(|_| info.ech);
    report.certificate_not_after_ns = info.certificate_not_after_ns;
}

fn tls_failure(info: &TlsInfo) -> Option<Failure> {
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

/// HTTP/1.x request methods in use (RFC 9110 9, RFC 5789), each followed by a space.
const HTTP_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PATCH ",
    b"TRACE ",
];

/// A request line names its version at the end (RFC 9112 3), unless it goes on in the next segment.
fn is_http_request(payload: &[u8]) -> bool {
    let line_end = payload
        .iter()
        .position(|&byte| byte == b'\r' || byte == b'\n');
    let names_version = line_end.is_none_or(|end| {
        let line = &payload[..end];
        line.windows(b" HTTP/".len())
            .any(|window| window == b" HTTP/")
    });
    names_version
        && HTTP_METHODS
            .iter()
            .any(|method| payload.starts_with(method))
}

/// A QUIC long header (RFC 9000 17.2) of version 1, 2 (RFC 9369) or an IETF draft.
fn is_quic(payload: &[u8]) -> bool {
    match payload {
        [first, a, b, c, d, ..] if first & 0xc0 == 0xc0 => {
            let version = u32::from_be_bytes([*a, *b, *c, *d]);
            matches!(version, 1 | 0x6b33_43cf | 0xff00_0000..=0xff00_00ff)
        }
        _ => false,
    }
}

// ------------------------------------------------------------------------------------------ TLS

/// A TLS handshake under way.
#[derive(Debug)]
struct Tls {
    tracker: TlsTracker,
    /// The opener's bytes, then the other side's.
    streams: [Reassembler; 2],
    setup_said: bool,
}

/// What is left of a handshake that was read.
#[derive(Debug)]
struct TlsSummary {
    info: TlsInfo,
    handshake_done: bool,
    setup_said: bool,
}

fn reassemblers(starts: [Option<u32>; 2]) -> [Reassembler; 2] {
    starts.map(|start| {
        let mut reassembler = Reassembler::default();
        if let Some(start) = start {
            reassembler.start_at(start);
        }
        reassembler
    })
}

impl Tls {
    fn new(starts: [Option<u32>; 2]) -> Self {
        Self {
            tracker: TlsTracker::new(),
            streams: reassemblers(starts),
            setup_said: false,
        }
    }

    fn on_segment(
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

    fn is_something_else(&self) -> bool {
        let info = self.tracker.info();
        let nothing = info.client_hello_time_ns.is_none() && info.server_hello_time_ns.is_none();
        let unreadable = |side: usize| {
            self.tracker.is_malformed(side == 0)
                || matches!(self.streams[side].status(), Status::Lost(_))
        };
        nothing && (self.tracker.is_malformed(true) || (unreadable(0) && unreadable(1)))
    }

    /// Nothing more can be learnt from either side.
    fn is_over(&self) -> bool {
        (0..2).all(|side| {
            !self.tracker.wants_more(side == 0) || self.streams[side].status() != Status::Open
        })
    }

    fn summary(&self) -> TlsSummary {
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

// ------------------------------------------------------------------------------------------ DNS

/// DNS on one flow.
#[derive(Debug, Default)]
struct Dns {
    tracker: DnsTracker,
    /// Over TCP: the bytes of each side, opener first.
    tcp: Option<[(Reassembler, DnsTcpFramer); 2]>,
    query: Option<Box<str>>,
    failure: Option<Failure>,
    answered: bool,
    /// Queries that went unanswered before any answer was seen on this flow.
    silent: u32,
    interval: DnsInterval,
}

/// The answers of one interval.
#[derive(Debug, Default)]
struct DnsInterval {
    requests: u32,
    failed: u32,
    worst_rcode: Option<u16>,
    slowest_us: Option<u32>,
}

impl Dns {
    fn over_tcp(starts: [Option<u32>; 2]) -> Self {
        let tcp = reassemblers(starts).map(|stream| (stream, DnsTcpFramer::default()));
        Self {
            tcp: Some(tcp),
            ..Self::default()
        }
    }

    fn on_segment(&mut self, by_opener: bool, piece: stream::Segment<'_>) {
        // The sides are taken out while their messages are read.
        let Some(mut sides) = self.tcp.take() else {
            return;
        };
        let (stream, framer) = &mut sides[usize::from(!by_opener)];
        stream.push(piece, |bytes| {
            framer.feed(bytes, |message| self.on_message(message, piece.time_ns));
        });
        self.tcp = Some(sides);
    }

    fn on_message(&mut self, bytes: &[u8], time_ns: u64) {
        while let Some(overdue) = self.tracker.expire(time_ns) {
            self.on_transaction(overdue);
        }
        let Ok(message) = DnsMessage::parse(bytes) else {
            return;
        };
        if let (false, Some(question)) = (message.is_response, &message.question) {
            self.query.get_or_insert_with(|| question.name.to_text());
        }
        self.answered |= message.is_response;
        if let Some(transaction) = self.tracker.on_message(&message, time_ns) {
            self.on_transaction(transaction);
        }
    }

    fn on_transaction(&mut self, transaction: Transaction) {
        let interval = &mut self.interval;
        interval.requests += 1;
        interval.worst_rcode = worse_rcode(interval.worst_rcode, transaction.rcode);
        interval.slowest_us = interval.slowest_us.max(transaction.response_us);
        match transaction
            .failure_cause()
            .and_then(FailureCause::from_text)
        {
            Some(FailureCause::DnsTimeout) if !self.answered => self.silent += 1,
            Some(cause) => {
                interval.failed += 1;
                self.failure.get_or_insert(dns_failure(cause));
            }
            None => {}
        }
        self.query = Some(transaction.name);
    }

    fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        while let Some(overdue) = self.tracker.expire(now_ns) {
            self.on_transaction(overdue);
        }
        if client_reached && self.silent > 0 {
            self.interval.failed += std::mem::take(&mut self.silent);
            self.failure
                .get_or_insert(dns_failure(FailureCause::DnsTimeout));
        }
        self.failure
    }

    fn take_report<'a>(&'a mut self, report: &mut Report<'a>) {
        let interval = std::mem::take(&mut self.interval);
        report.app_protocol = Some("dns");
        report.dns_query = self.query.as_deref();
        report.dns_rcode = interval.worst_rcode;
        report.dns_response_us = interval.slowest_us;
        report.requests = Some(interval.requests);
        report.requests_failed = Some(interval.failed);
    }
}

fn dns_failure(cause: FailureCause) -> Failure {
    let evidence = match cause {
        FailureCause::DnsServfail => "rcode_servfail",
        FailureCause::DnsRefused => "rcode_refused",
        _ => "query_unanswered",
    };
    Failure::new(
        cause,
        FailureStage::Dns,
        Some(FailureSide::Server),
        evidence,
    )
}

/// The worse of two answers: a failure before NXDOMAIN, that before any other, NOERROR last.
fn worse_rcode(known: Option<u16>, new: Option<u16>) -> Option<u16> {
    let badness = |rcode: u16| match rcode {
        dns::RCODE_SERVFAIL | dns::RCODE_REFUSED => 3,
        3 => 1,
        0 => 0,
        _ => 2,
    };
    match (known, new) {
        (Some(known), Some(new)) if badness(new) <= badness(known) => Some(known),
        (known, new) => new.or(known),
    }
}
