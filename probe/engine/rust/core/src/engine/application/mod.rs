//! What a session carries: the application protocol, its names, its waiting times, its failures.

mod dns;
mod dtls;
pub mod encrypted_dns;
mod http;
mod median;
mod quic;
mod shed;
mod tls;

use crate::app::dns::PORT as DNS_PORT;
use crate::app::dtls::begins_client_hello as begins_dtls;
use crate::app::http::{Opening, Switch, Upgrade};
use crate::app::quic::looks_like_quic;
use crate::app::tls::hello::Version;
use crate::app::tls::{TlsTracker, begins_client_hello, looks_like_tls};
use crate::engine::failure::Failure;
use crate::engine::shared::Texts;
use crate::flow::keeper::Keeper;
use crate::tcp::Segment;
use crate::tcp::micros;
use crate::tcp::stream::{self, Reassembler};
use dns::Dns;
pub use dns::DnsEvent;
use dtls::Dtls;
pub use http::Http;
pub use quic::Quic;
use tls::{Course, Tls, TlsSummary};

/// What a record says about the application; texts are borrowed from the session.
#[derive(Debug, Default)]
pub struct Report<'a> {
    pub app_protocol: Option<&'static str>,
    pub server_name: Option<&'a str>,
    /// `sni`, `host`, `certificate` or `dns`.
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
    pub http_status: Option<u16>,
    pub requests: Option<u32>,
    pub requests_failed: Option<u32>,
}

/// The application of a session, as far as its first bytes told.
#[derive(Debug, Default)]
pub struct Application {
    protocol: Protocol,
    /// The sequence number of each side's first byte, opener first, from its SYN. Of two servers
    /// that answered one SYN, of the one with which the opener goes on.
    starts: [Option<u32>; 2],
    request: FirstRequest,
    server_port: u16,
    /// It began under overload, so certificates are left unread.
    leaves_certificates: bool,
    /// What a proxy, or an upgrade, had to say before the protocol at hand began.
    before: Option<Box<Http>>,
}

/// Which it is, and what is known of it.
#[derive(Debug, Default)]
pub enum Protocol {
    #[default]
    Undecided,
    Tls(Box<Tls>),
    /// The handshake is over; only its findings are kept.
    TlsRead(Box<TlsSummary>),
    Dtls(Box<Dtls>),
    Dns(Box<Dns>),
    Http(Box<Http>),
    Quic(Box<Quic>),
    /// Known by name only.
    Named(Name),
    Other,
}

/// A protocol that is known by name only.
#[derive(Debug, Clone, Copy)]
pub enum Name {
    Http2,
    Rtsp,
    WebSocket,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http2 => "http2",
            Self::Rtsp => "rtsp",
            Self::WebSocket => "websocket",
        }
    }
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
    /// What is large of it, apart from the rest.
    pub fn protocol_mut(&mut self) -> (&mut Protocol, &mut Option<Box<Http>>) {
        (&mut self.protocol, &mut self.before)
    }

    /// Keeps the rest, or gives it back; `last_ns` is the time of the flow's last packet. Where a
    /// connection begins is asked only until its protocol is known.
    pub fn keep(&mut self, keeper: &mut impl Keeper, last_ns: u64) {
        let [client, server] = &mut self.starts;
        let is_decided = matches!(self.protocol, Protocol::TlsRead(_) | Protocol::Named(_));
        let mut is_from_start = client.is_some() && !is_decided;
        let mut is_answered_from_start = server.is_some() && !is_decided;
        keeper.bits([
            &mut is_from_start,
            &mut is_answered_from_start,
            &mut self.request.answered,
            &mut self.leaves_certificates,
        ]);
        if is_from_start {
            keeper.word(client.get_or_insert_default());
        }
        if is_answered_from_start {
            keeper.word(server.get_or_insert_default());
        }
        if !self.request.answered {
            keeper.optional_time(last_ns, &mut self.request.sent_ns);
        }
        keeper.option(&mut self.request.time_to_first_byte_us);
        keeper.short(&mut self.server_port);
    }

    /// Texts that many sessions have are kept once.
    pub fn share(&mut self, texts: &mut Texts) {
        if let Protocol::TlsRead(summary) = &mut self.protocol {
            summary.share(texts);
        }
    }

    /// Takes in what a handshake told of the numbers with which both sides begin, opener first.
    pub fn begins_at(&mut self, starts: [Option<u32>; 2]) {
        for (known, start) in self.starts.iter_mut().zip(starts) {
            *known = start.or(*known);
        }
    }

    /// Whether a segment with so much payload, which ends nothing, changes nothing of what is known.
    #[inline]
    pub fn is_settled(&self, payload_len: u32) -> bool {
        match self.protocol {
            Protocol::Undecided | Protocol::Other => payload_len == 0,
            Protocol::TlsRead(_) | Protocol::Named(_) => payload_len == 0 || self.request.answered,
            _ => false,
        }
    }

    /// Takes in a segment. `by_opener`: it was sent by the side that opened the connection.
    pub fn on_segment(
        &mut self,
        by_opener: bool,
        server_port: u16,
        segment: &Segment<'_>,
        time_ns: u64,
    ) {
        let side = usize::from(!by_opener);
        self.server_port = server_port;
        if segment.payload_len > 0 {
            match self.protocol {
                Protocol::Undecided => {
                    self.protocol = self.first_payload(side, server_port, segment);
                }
                Protocol::Tls(_) => self.reconsider(side, segment),
                Protocol::Other => self.begin_late(side, segment),
                _ => {}
            }
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
                if by_opener && segment.has_fin() {
                    let fin = piece.sequence.wrapping_add(segment.payload_len);
                    tls.on_opener_leaving(fin);
                }
                self.settle_tls();
            }
            Protocol::Http(http) => {
                let acknowledged = segment.has_ack().then_some(segment.acknowledgment);
                http.on_segment(by_opener, piece, acknowledged);
                self.settle_http(by_opener);
            }
            Protocol::Dns(dns) => dns.on_segment(by_opener, piece),
            _ => {}
        }
        if segment.payload_len > 0 {
            self.time_first_answer(by_opener, time_ns);
        }
    }

    /// Takes in a reset, whose payload is none of the stream (RFC 9293 3.5.3).
    pub fn on_reset(&mut self, by_opener: bool, segment: &Segment<'_>) {
        if let (Protocol::Tls(tls), true) = (&mut self.protocol, by_opener) {
            tls.on_opener_leaving(segment.sequence);
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
            Protocol::Tls(Box::new(self.tls()))
        } else {
            self.by_first_line(side, segment.payload)
        }
    }

    fn tls(&self) -> Tls {
        let mut tls = Tls::new(self.starts);
        if self.leaves_certificates {
            tls.tracker = TlsTracker::without_certificates();
        }
        tls
    }

    /// What was taken for TLS while its first bytes were missing turns out to be HTTP.
    fn reconsider(&mut self, side: usize, segment: &Segment<'_>) {
        if let Protocol::Tls(tls) = &mut self.protocol
            && http::begins_message(side == 0, segment.payload)
            && let Some(streams) = tls.give_up_at(side, segment.sequence)
        {
            self.protocol = Protocol::Http(Box::new(Http::taking_over(streams)));
        }
    }

    /// What begins behind bytes of another protocol, or behind bytes that were missed: TLS after
    /// STARTTLS or within SOCKS, a request where the first one was not seen, and the answer to
    /// what was no request.
    fn begin_late(&mut self, side: usize, segment: &Segment<'_>) {
        let began_unseen = self.starts[0].is_none();
        let is_first = self.starts[side] == Some(segment.sequence);
        if side == 0 && begins_client_hello(segment.payload) {
            let answers_at = segment.has_ack().then_some(segment.acknowledgment);
            self.starts = [Some(segment.sequence), answers_at];
            self.request = FirstRequest::default();
            self.protocol = Protocol::Tls(Box::new(self.tls()));
        } else if (began_unseen || is_first) && http::begins_message(side == 0, segment.payload) {
            self.protocol = Protocol::Http(Box::new(Http::under_way()));
        }
    }

    fn by_first_line(&self, side: usize, payload: &[u8]) -> Protocol {
        match (Opening::of(payload), side) {
            (Some(Opening::Request), 0) | (Some(Opening::Response), 1) => {
                Protocol::Http(Box::new(Http::new(self.starts)))
            }
            (Some(Opening::Http2), 0) => Protocol::Named(Name::Http2),
            (Some(Opening::Rtsp), _) => Protocol::Named(Name::Rtsp),
            _ => Protocol::Other,
        }
    }

    /// Hands the connection on to what follows behind a tunnel's beginning, or an upgrade.
    fn settle_http(&mut self, by_opener: bool) {
        let Protocol::Http(http) = &mut self.protocol else {
            return;
        };
        if http.is_something_else() {
            self.protocol = Protocol::Other;
            return;
        }
        let Some((switch, starts)) = http.switch(by_opener) else {
            return;
        };
        let next = match switch {
            Switch::Tunnel | Switch::Upgrade(Upgrade::Tls) => Protocol::Undecided,
            Switch::Upgrade(Upgrade::WebSocket) => Protocol::Named(Name::WebSocket),
            Switch::Upgrade(Upgrade::Http2) => Protocol::Named(Name::Http2),
            Switch::Upgrade(Upgrade::Other) => Protocol::Other,
        };
        if let Protocol::Http(http) = std::mem::replace(&mut self.protocol, next) {
            self.before.get_or_insert(http);
        }
        self.starts = starts;
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
        let after_setup = match self.course() {
            Some(course) => course
                .client_application_time_ns
                .is_some_and(|start| start.get() <= time_ns),
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
        // Media sessions check their path first, and begin with DTLS then (RFC 5764, RFC 7983).
        if matches!(self.protocol, Protocol::Other) && begins_dtls(payload) {
            self.protocol = Protocol::Dtls(Box::new(Dtls::begun_by(by_client)));
        }
        match &mut self.protocol {
            Protocol::Dns(dns) => {
                dns.on_message(payload, time_ns);
                if dns.is_something_else() {
                    self.protocol = Protocol::Other;
                }
            }
            Protocol::Quic(quic) => quic.tracker.on_datagram(by_client, payload, time_ns),
            Protocol::Dtls(dtls) => dtls.on_datagram(by_client, payload, time_ns),
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

    /// A DNS query that may still be answered.
    pub fn awaits_dns(&self) -> bool {
        self.dns().is_some_and(Dns::is_waiting)
    }

    fn dns(&self) -> Option<&Dns> {
        match &self.protocol {
            Protocol::Dns(dns) => Some(dns),
            _ => None,
        }
    }

    /// The last packet told something that the client's other sessions are to know.
    #[inline]
    pub fn has_word(&self) -> bool {
        match &self.protocol {
            Protocol::Dns(dns) => dns.has_events(),
            Protocol::Quic(quic) => quic.tracker.has_news(),
            _ => false,
        }
    }

    /// What the last packet's DNS messages asked and answered.
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

    fn course(&self) -> Option<Course> {
        match &self.protocol {
            Protocol::Tls(tls) => Some(Course::of(tls.tracker.info())),
            Protocol::TlsRead(summary) => Some(summary.course),
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

    fn http(&self) -> Option<&Http> {
        match &self.protocol {
            Protocol::Http(http) => Some(http),
            _ => None,
        }
    }

    /// What the client's last record says where the handshake came to no end and nothing follows.
    pub fn tls_last_word(&self) -> Option<Failure> {
        let is_rejected = match &self.protocol {
            Protocol::Tls(tls) => tls.tracker.info().is_rejected_by_client(),
            Protocol::TlsRead(summary) => summary.is_rejected_by_client,
            _ => false,
        };
        tls::last_word(is_rejected && self.is_in_tls_handshake())
    }

    /// A request whose answer has not begun, of a protocol in which every request has one.
    pub fn expects_answer(&self) -> bool {
        self.http().is_some_and(Http::is_waiting)
    }

    /// The server said how long its answer is, and has not sent all of it.
    pub fn owes_bytes(&self) -> bool {
        self.http().is_some_and(Http::owes_bytes)
    }

    /// An answer has begun, and its end was not seen.
    pub fn is_answer_incomplete(&self) -> bool {
        self.http().is_some_and(Http::is_answer_incomplete)
    }

    /// The first request was sent and nothing has come back, in a protocol in which the client's
    /// first data is a request. In TLS 1.3 it may be the end of the handshake.
    pub fn awaits_first_answer(&self) -> bool {
        let is_request = match self.course() {
            Some(course) => course
                .version
                .is_some_and(|version| version < Version::Tls13),
            None => matches!(self.protocol, Protocol::Http(_)),
        };
        is_request && self.request.sent_ns.is_some() && !self.request.answered
    }

    /// The TLS handshake is over and the client has sent nothing under its protection.
    pub fn is_tls_unused(&self) -> bool {
        let is_silent = |tls: &Course| tls.client_application_time_ns.is_none() && !tls.early_data;
        !self.is_in_tls_handshake()
            && self
                .course()
                .is_some_and(|tls| tls.has_begun && is_silent(&tls) && !tls.server_application)
    }

    pub fn server_name(&self) -> Option<&str> {
        match &self.protocol {
            Protocol::Quic(quic) => quic.tracker.identity()?.server_name.as_deref(),
            Protocol::Tls(tls) => tls.tracker.info().server_name.as_deref(),
            Protocol::TlsRead(summary) => summary.server_name(),
            _ => None,
        }
    }

    /// A failure that the bytes themselves show.
    pub fn failure(&self) -> Option<Failure> {
        match &self.protocol {
            Protocol::Dns(dns) => dns.failure(),
            Protocol::Quic(quic) => quic.failure(),
            Protocol::Http(http) => http.failure(),
            Protocol::Dtls(dtls) => dtls.failure(),
            Protocol::Tls(tls) => tls::failure(tls.tracker.info()),
            Protocol::TlsRead(summary) => summary.failure(),
            _ => None,
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
        let mut report = Report::default();
        let (port, waited_us) = (self.server_port, self.request.time_to_first_byte_us.take());
        if self.course().is_none() {
            report.time_to_first_byte_us = waited_us;
        }
        if let Some(http) = &mut self.before {
            http.take_report(&mut report);
        }
        match &mut self.protocol {
            Protocol::Tls(tls) => tls.take_report(port, &mut report),
            Protocol::TlsRead(summary) => summary.take_report(port, &mut report),
            Protocol::Dtls(dtls) => dtls.take_report(&mut report),
            Protocol::Dns(dns) => dns.take_report(&mut report),
            Protocol::Quic(quic) => quic.describe(&mut report),
            Protocol::Http(http) => http.take_report(&mut report),
            Protocol::Named(name) => report.app_protocol = Some(name.as_str()),
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
