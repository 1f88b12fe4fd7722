//! What a session carries: the application protocol, its names, its waiting times, its failures.

mod dns;
pub mod encrypted_dns;
mod quic;
mod tls;

use crate::app::dns::PORT as DNS_PORT;
use crate::app::quic::looks_like_quic;
use crate::app::tls::hello::Version;
use crate::app::tls::{TlsInfo, looks_like_tls};
use crate::engine::failure::Failure;
use crate::tcp::Segment;
use crate::tcp::micros;
use crate::tcp::stream::{self, Reassembler};
use dns::Dns;
pub use dns::DnsEvent;
pub use quic::Quic;
use tls::{Tls, TlsSummary};

/// What a record says about the application; texts are borrowed from the session.
#[derive(Debug, Default)]
pub struct Report<'a> {
    pub app_protocol: Option<&'static str>,
    pub server_name: Option<&'a str>,
    /// `sni`, `host`, `certificate` or `dns`; see `settle_name`.
    pub server_name_source: Option<&'static str>,
    pub alpn: Option<&'a str>,
    pub tls_version: Option<&'static str>,
    pub ech: Option<bool>,
    pub certificate_not_after_ns: Option<u64>,
    pub tls_setup_us: Option<u32>,
    pub time_to_first_byte_us: Option<u32>,
    pub dns_query: Option<&'a str>,
    pub dns_response_us: Option<u32>,
    pub dns_rcode: Option<u16>,
    /// An answer did not fit, so that its client has to ask again over TCP.
    pub dns_truncated: bool,
    pub requests: Option<u32>,
    pub requests_failed: Option<u32>,
}

impl<'a> Report<'a> {
    /// Says where the name comes from, and takes the one that DNS gave where the flow has none.
    pub fn settle_name(&mut self, from_dns: Option<&'a str>) {
        self.server_name_source = match (self.server_name, self.app_protocol) {
            (Some(_), _) if self.server_name_source.is_some() => self.server_name_source,
            (Some(_), Some("http")) => Some("host"),
            (Some(_), _) => Some("sni"),
            (None, _) => from_dns.map(|_| "dns"),
        };
        self.server_name = self.server_name.or(from_dns);
    }
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
    Quic(Box<Quic>),
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
        if server_port == DNS_PORT {
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
            self.protocol = if let Some(dns) = Dns::over_udp(server_port, payload) {
                Protocol::Dns(Box::new(dns))
            } else if looks_like_quic(payload) {
                Protocol::Quic(Box::new(Quic::new()))
            } else {
                Protocol::Other
            };
        }
        match &mut self.protocol {
            Protocol::Dns(dns) => {
                dns.on_message(payload, time_ns);
                if dns.is_something_else() {
                    self.protocol = Protocol::Other;
                }
            }
            Protocol::Quic(quic) => quic.tracker.on_datagram(by_client, payload, time_ns),
            _ => {}
        }
    }

    /// A QUIC connection that goes on from another address of its client.
    pub fn resumed(quic: Quic) -> Self {
        Self {
            protocol: Protocol::Quic(Box::new(quic)),
            ..Self::default()
        }
    }

    pub fn quic(&self) -> Option<&Quic> {
        match &self.protocol {
            Protocol::Quic(quic) => Some(quic),
            _ => None,
        }
    }

    pub fn quic_mut(&mut self) -> Option<&mut Quic> {
        match &mut self.protocol {
            Protocol::Quic(quic) => Some(quic),
            _ => None,
        }
    }

    /// The client asked for a QUIC connection and nothing came back.
    pub fn is_unanswered_quic(&self) -> bool {
        self.quic().is_some_and(|quic| quic.tracker.is_unanswered())
    }

    /// DNS as clients and resolvers speak it: few messages, and no more for a long time.
    pub fn is_dns(&self) -> bool {
        self.dns().is_some_and(Dns::is_brief)
    }

    fn dns(&self) -> Option<&Dns> {
        match &self.protocol {
            Protocol::Dns(dns) => Some(dns),
            _ => None,
        }
    }

    /// What this packet's DNS messages asked and answered; nearly always nothing.
    pub fn take_dns_events(&mut self) -> Vec<DnsEvent> {
        match &mut self.protocol {
            Protocol::Dns(dns) => dns.take_events(),
            _ => Vec::new(),
        }
    }

    /// The first question, and its type, that this flow's client gave up.
    pub fn dns_given_up(&self) -> Option<(&str, u16)> {
        self.dns()?.given_up()
    }

    fn tls_info(&self) -> Option<&TlsInfo> {
        match &self.protocol {
            Protocol::Tls(tls) => Some(tls.tracker.info()),
            Protocol::TlsRead(summary) => Some(&summary.info),
            _ => None,
        }
    }

    /// A ClientHello was sent, be it in QUIC, and the handshake has not come to its end.
    pub fn is_in_tls_handshake(&self) -> bool {
        match &self.protocol {
            Protocol::Tls(tls) => {
                tls.tracker.info().client_hello_time_ns.is_some() && !tls.tracker.handshake_done()
            }
            Protocol::TlsRead(summary) => !summary.handshake_done,
            Protocol::Quic(quic) => quic.tracker.is_in_handshake(),
            _ => false,
        }
    }

    /// A request whose answer has not begun, of a protocol in which every request has one.
    pub fn expects_answer(&self) -> bool {
        let pending = self.request.sent_ns.is_some() && !self.request.answered;
        pending && matches!(self.protocol, Protocol::Http)
    }

    /// The first request was sent and nothing has come back, in a protocol in which the client's
    /// first data is a request. In TLS 1.3 it may be the end of the handshake.
    pub fn awaits_first_answer(&self) -> bool {
        let is_request = match self.tls_info() {
            Some(info) => info.version.is_some_and(|version| version < Version::Tls13),
            None => matches!(self.protocol, Protocol::Http),
        };
        is_request && self.request.sent_ns.is_some() && !self.request.answered
    }

    /// The TLS handshake is over and the client has sent nothing under its protection.
    pub fn is_tls_unused(&self) -> bool {
        let silent = |info: &TlsInfo| info.client_application_time_ns.is_none() && !info.early_data;
        !self.is_in_tls_handshake()
            && self.tls_info().is_some_and(|info| {
                info.client_hello_time_ns.is_some() && silent(info) && !info.server_application
            })
    }

    pub fn server_name(&self) -> Option<&str> {
        match &self.protocol {
            Protocol::Quic(quic) => quic.tracker.identity()?.server_name.as_deref(),
            _ => self.tls_info()?.server_name.as_deref(),
        }
    }

    /// A failure that the bytes themselves show.
    pub fn failure(&self) -> Option<Failure> {
        match &self.protocol {
            Protocol::Dns(dns) => dns.failure(),
            Protocol::Quic(quic) => quic.failure(),
            _ => tls::failure(self.tls_info()?),
        }
    }

    /// A failure that shows by silence up to `now_ns`. `client_reached`: the way back to the client
    /// is visible.
    pub fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        match &mut self.protocol {
            Protocol::Dns(dns) => dns.silence(now_ns, client_reached),
            Protocol::Quic(quic) => quic.silence(now_ns, client_reached),
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
                tls::describe(info, &mut report);
            }
            Protocol::TlsRead(summary) => {
                let info = &summary.info;
                report.tls_setup_us = first_time(&mut summary.setup_said, info.setup_us());
                tls::describe(info, &mut report);
            }
            Protocol::Dns(dns) => dns.take_report(&mut report),
            Protocol::Http => report.app_protocol = Some("http"),
            Protocol::Quic(quic) => quic.describe(&mut report),
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

/// Reassemblers of both sides' first bytes, opener first.
fn reassemblers(starts: [Option<u32>; 2]) -> [Reassembler; 2] {
    starts.map(|start| {
        let mut reassembler = Reassembler::default();
        if let Some(start) = start {
            reassembler.start_at(start);
        }
        reassembler
    })
}
