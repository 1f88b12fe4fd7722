//! What a TLS handshake says in clear (RFC 8446, RFC 5246, RFC 6101).
//!
//! [`TlsTracker`] reads both directions of one connection as in-order stream bytes in chunks of
//! any size, and learns from them a [`TlsInfo`]. Per direction it keeps at most one handshake
//! message of [`message::MAX_HELLO`] bytes, and only if the message does not lie in one chunk.

pub mod alert;
pub mod certificate;
pub mod exchange;
pub mod hello;
pub mod message;
pub mod record;

pub use alert::Alert;
use exchange::{Context, FirstExchange};
use hello::{ClientHello, ServerHello, Version, Versions};
use message::{Message, MessageReader};
use record::{ContentType, Fragment, RecordReader};

/// What was learnt about one connection. Times are those of the chunk that brought the first
/// byte of the message or record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Lower-case host name of the ClientHello; none if absent or not a host name. With `ech` it
    /// is the outer, public name.
    pub server_name: Option<Box<str>>,
    /// The server's choice of application protocol, visible up to TLS 1.2.
    pub alpn_selected: Option<Box<str>>,
    /// The client's offers, joined by commas, 255 bytes at most.
    pub alpn_offered: Option<Box<str>>,
    /// The highest version that the client offers.
    pub client_version: Option<Version>,
    /// All that it offers.
    pub offered_versions: Option<Versions>,
    /// The version that the server chose.
    pub version: Option<Version>,
    /// The ClientHello carries encrypted_client_hello, be it real or grease (RFC 9849).
    pub ech: bool,
    /// The ClientHello announces 0-RTT data.
    pub early_data: bool,
    /// The server asked for a second ClientHello.
    pub hello_retry_request: bool,
    /// The client offers HTTP/2.
    pub offers_http2: bool,
    /// The server's choice.
    pub cipher_suite: Option<u16>,
    /// The first ClientHello.
    pub client_hello_time_ns: Option<u64>,
    /// The ServerHello that is not a HelloRetryRequest.
    pub server_hello_time_ns: Option<u64>,
    /// The client's first record of type application_data, 0-RTT data left out.
    ///
    /// In TLS 1.3 that record holds the client's Finished (or its certificate): the request, if
    /// the client speaks first, is in the same flight. So the time agrees with that of earlier
    /// versions, where it is the first record of the request itself, but for a client that has
    /// finished and says nothing: there it exists in TLS 1.3 only.
    pub client_application_time_ns: Option<u64>,
    /// The server has sent application data. In TLS 1.3 that is its first protected record after
    /// the client's: session tickets are taken for data, data ahead of the client's Finished is
    /// not seen.
    pub server_application: bool,
    /// The first request and the answer to it.
    pub exchange: FirstExchange,
    /// End of validity of the leaf certificate in ns since the Unix epoch, visible up to TLS 1.2.
    pub certificate_not_after_ns: Option<u64>,
    /// A name that the leaf certificate is for, where the ClientHello named none; visible up to TLS
    /// 1.2. It may begin with `*.`.
    pub certificate_name: Option<Box<str>>,
    pub certificates: Certificates,
    /// The first fatal alert sent in clear.
    pub alert: Option<Alert>,
    /// TLS 1.3: protected records of the client in place of its Finished that are as short as an
    /// alert and too short for anything else.
    pub client_alerts: u8,
    /// The client left amid the handshake, without an alert, when the server had chosen a version
    /// that it had not offered.
    pub left_at_version: bool,
}

/// Whether certificates are read. The cause of a failure is never in them, but in the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Certificates {
    #[default]
    Read,
    /// Under overload they are not.
    Leave,
    /// One was left unread.
    LeftUnread,
}

impl TlsInfo {
    /// Whether a certificate was left unread, and nobody has asked for it yet.
    pub fn is_unread(&self) -> bool {
        self.certificates == Certificates::LeftUnread
    }

    /// Whether a certificate was left unread since the last call.
    pub fn take_unread(&mut self) -> bool {
        let left = self.is_unread();
        if left {
            self.certificates = Certificates::Leave;
        }
        left
    }

    /// TLS 1.3: the client refused the server's flight, mostly its certificate: it sent one alert
    /// and nothing after it. One that was told to stop sends two, user_canceled and close_notify
    /// (RFC 8446 6.1).
    pub fn is_rejected_by_client(&self) -> bool {
        self.client_alerts == 1 && self.client_application_time_ns.is_none()
    }

    /// The server chose a version that the client cannot go on with.
    fn is_version_unwanted(&self) -> bool {
        match (self.offered_versions, self.version) {
            (Some(offered), Some(chosen)) => !offered.contains(chosen),
            _ => false,
        }
    }

    fn context(&self) -> Context {
        let http2 = match self.version {
            Some(Version::Tls13) => self.offers_http2,
            _ => self.alpn_selected.as_deref() == Some("h2"),
        };
        Context {
            early_data: self.early_data,
            http2,
            ..Context::new(self.version, self.cipher_suite)
        }
    }

    /// The server's choice of protocol if it was visible, else the client's offers.
    pub fn alpn(&self) -> Option<&str> {
        self.alpn_selected
            .as_deref()
            .or(self.alpn_offered.as_deref())
    }

    /// From the ClientHello to the client's first application record, in microseconds.
    ///
    /// Bias: includes the client's time to verify the certificate and, up to TLS 1.2, to have
    /// something to say.
    pub fn setup_us(&self) -> Option<u32> {
        let end = self.client_application_time_ns?;
        let elapsed = end.checked_sub(self.client_hello_time_ns?)?;
        Some(u32::try_from(elapsed / 1000).unwrap_or(u32::MAX))
    }
}

/// Whether a stream's first bytes can be the start of TLS: a handshake record with a hello, or a
/// ClientHello in the format of SSL 2.0.
///
/// A prefix too short to tell counts as TLS; [`TlsTracker::is_malformed`] corrects that later.
pub fn looks_like_tls(first_bytes: &[u8]) -> bool {
    !first_bytes.is_empty() && (starts_tls_record(first_bytes) || starts_ssl2_hello(first_bytes))
}

/// Whether a segment begins with a record that begins with a ClientHello, to be asked where other
/// bytes came before: more has to fit than at the start of a connection.
pub fn begins_client_hello(bytes: &[u8]) -> bool {
    let Some(&[kind, _, _, high, low, message, 0, _, _, major, minor]) = bytes.first_chunk() else {
        return false;
    };
    let hello_version = u16::from_be_bytes([major, minor]);
    kind == record::HANDSHAKE
        && message == message::CLIENT_HELLO
        && u16::from_be_bytes([high, low]) > MIN_HELLO_RECORD
        && Version::from_wire(hello_version).is_some()
        && starts_tls_record(bytes)
}

/// Message header, version, random, and empty lists (RFC 5246 7.4.1.2).
const MIN_HELLO_RECORD: u16 = 4 + 2 + 32 + 1 + 4 + 2;

fn starts_tls_record(bytes: &[u8]) -> bool {
    let fits = |at: usize, test: fn(u8) -> bool| bytes.get(at).copied().is_none_or(test);
    let length_fits = bytes
        .get(3..5)
        .is_none_or(|length| (1..=record::MAX_LENGTH).contains(&be_u16(length)));
    length_fits
        && fits(0, |kind| kind == record::HANDSHAKE)
        && fits(1, |major| major == record::MAJOR_VERSION)
        && fits(2, |minor| minor <= 4)
        && fits(5, |kind| {
            kind == message::CLIENT_HELLO || kind == message::SERVER_HELLO
        })
}

/// The whole header must be there: its first byte alone says too little.
fn starts_ssl2_hello(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|header| record::is_ssl2_hello(*header))
}

fn be_u16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u16::from(*byte))
}

/// Follows one TLS connection until its handshake is over.
#[derive(Debug, Default)]
pub struct TlsTracker {
    client: Direction,
    server: Direction,
    info: TlsInfo,
}

impl TlsTracker {
    pub fn new() -> Self {
        Self::default()
    }

    /// A handshake of which certificates are left unread.
    pub fn without_certificates() -> Self {
        let info = TlsInfo {
            certificates: Certificates::Leave,
            ..TlsInfo::default()
        };
        Self {
            info,
            ..Self::default()
        }
    }

    pub fn info(&self) -> &TlsInfo {
        &self.info
    }

    pub fn info_mut(&mut self) -> &mut TlsInfo {
        &mut self.info
    }

    /// No byte of either direction was taken.
    pub fn is_untouched(&self) -> bool {
        self.client.records.is_untouched() && self.server.records.is_untouched()
    }

    /// Takes the next in-order bytes of one direction, in chunks of any size.
    ///
    /// Bytes are ignored once [`wants_more`](Self::wants_more) says no for the direction.
    pub fn feed(&mut self, from_client: bool, bytes: &[u8], time_ns: u64) {
        let mut rest = bytes;
        while self.wants_more(from_client) {
            let direction = match from_client {
                true => &mut self.client,
                false => &mut self.server,
            };
            match direction.records.next(&mut rest, time_ns) {
                Some(fragment) => direction.read(&fragment, from_client, &mut self.info),
                None => return,
            }
        }
    }

    /// Takes the next in-order bytes of handshake messages that no record layer surrounds: those of
    /// QUIC's CRYPTO frames (RFC 9001 4.1.3). A connection has either these or records.
    pub fn feed_handshake(&mut self, from_client: bool, bytes: &[u8], time_ns: u64) {
        let direction = match from_client {
            true => &mut self.client,
            false => &mut self.server,
        };
        let info = &mut self.info;
        direction
            .messages
            .feed(bytes, time_ns, from_client, &mut |message| {
                note_message(&message, from_client, info);
            });
    }

    /// Says whether the server had the client's first request when it sent the bytes that come next.
    pub fn note_request_read(&mut self, is_read: bool) {
        self.info.exchange.note_request_read(is_read);
    }

    /// The client ends the connection, having read all that the server sent.
    pub fn on_client_leaving(&mut self) {
        let info = &mut self.info;
        let silent = info.alert.is_none() && !self.client.has_answered;
        info.left_at_version |= silent && info.is_version_unwanted();
    }

    /// Whether further bytes of the direction can add to [`TlsInfo`].
    pub fn wants_more(&self, from_client: bool) -> bool {
        let info = &self.info;
        let settled = info.exchange.is_settled();
        let direction_open = match from_client {
            true if info.client_application_time_ns.is_none() => true,
            true => !settled && info.exchange.request_ns().is_none(),
            false => !settled,
        };
        direction_open && self.info.alert.is_none() && !self.is_malformed(from_client)
    }

    /// Whether the direction turned out not to be TLS, or not to follow its record layer.
    pub fn is_malformed(&self, from_client: bool) -> bool {
        match from_client {
            true => self.client.records.is_malformed(),
            false => self.server.records.is_malformed(),
        }
    }

    /// Whether the client has ended its handshake: it sent application data or, up to TLS 1.2,
    /// both sides have switched to the negotiated keys.
    pub fn handshake_done(&self) -> bool {
        let switched = self.client.changed_cipher && self.server.changed_cipher;
        let before_1_3 = self
            .info
            .version
            .is_some_and(|version| version < Version::Tls13);
        self.info.client_application_time_ns.is_some() || (switched && before_1_3)
    }
}

/// The state of one direction.
#[derive(Debug, Default)]
struct Direction {
    records: RecordReader,
    messages: MessageReader,
    /// The first byte of a plaintext alert whose second byte is still to come.
    alert_level: Option<u8>,
    /// A ChangeCipherSpec was sent.
    changed_cipher: bool,
    /// Something of the handshake was sent behind the hello, or under protection.
    has_answered: bool,
}

impl Direction {
    fn read(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        match fragment.content_type {
            ContentType::ChangeCipherSpec => {
                self.changed_cipher = true;
                self.has_answered = true;
            }
            ContentType::Alert => self.read_alert(fragment, from_client, info),
            ContentType::Handshake => self.read_handshake(fragment, from_client, info),
            ContentType::ApplicationData if fragment.begins_record => {
                self.has_answered |= !is_early_data(info);
                note_application_data(fragment, from_client, info);
            }
            ContentType::Ssl2ClientHello(version) if fragment.begins_record && from_client => {
                info.client_hello_time_ns = Some(fragment.record_time_ns);
                info.client_version = Version::from_wire(version);
                info.offered_versions = info.client_version.map(Versions::up_to);
            }
            ContentType::ApplicationData
            | ContentType::Heartbeat
            | ContentType::Ssl2ClientHello(_) => {}
        }
    }

    /// Up to TLS 1.2 a handshake record after ChangeCipherSpec is encrypted. In TLS 1.3 none is,
    /// and the client may send a dummy ChangeCipherSpec ahead of its second ClientHello
    /// (RFC 8446 D.4).
    fn read_handshake(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        if self.changed_cipher && info.version != Some(Version::Tls13) {
            return;
        }
        let mut has_answered = false;
        self.messages.feed(
            fragment.bytes,
            fragment.time_ns,
            from_client,
            &mut |message| {
                has_answered |= message.kind != message::CLIENT_HELLO;
                note_message(&message, from_client, info);
            },
        );
        self.has_answered |= has_answered;
    }

    /// An alert in clear is two bytes; an encrypted one is longer by a MAC or a tag.
    fn read_alert(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        if fragment.record_length != alert::PLAINTEXT_LENGTH {
            return;
        }
        for &byte in fragment.bytes {
            match self.alert_level.take() {
                None => self.alert_level = Some(byte),
                Some(level) => note_alert(level, byte, fragment, from_client, info),
            }
        }
    }
}

fn note_alert(
    level: u8,
    description: u8,
    fragment: &Fragment<'_>,
    from_client: bool,
    info: &mut TlsInfo,
) {
    if level == alert::FATAL {
        info.alert = Some(Alert {
            from_client,
            level,
            description,
            time_ns: fragment.record_time_ns,
        });
    }
}

/// 0-RTT data: sent before the handshake has got anywhere.
fn is_early_data(info: &TlsInfo) -> bool {
    info.early_data && info.server_hello_time_ns.is_none()
}

fn note_application_data(fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
    if from_client {
        note_client_data(fragment, info);
    } else {
        note_server_data(fragment, info);
    }
}

fn note_client_data(fragment: &Fragment<'_>, info: &mut TlsInfo) {
    let (length, time_ns) = (fragment.record_length, fragment.record_time_ns);
    if is_early_data(info) {
        return;
    }
    let is_first = info.client_application_time_ns.is_none() && !info.early_data;
    let is_short = length <= alert::protected_length(info.cipher_suite);
    if is_first && is_short && info.version == Some(Version::Tls13) {
        info.client_alerts = info.client_alerts.saturating_add(1);
        return;
    }
    info.client_application_time_ns.get_or_insert(time_ns);
    let context = info.context();
    info.exchange.on_client_record(&context, length, time_ns);
}

fn note_server_data(fragment: &Fragment<'_>, info: &mut TlsInfo) {
    let tls_1_3 = info.version == Some(Version::Tls13);
    if tls_1_3 && info.client_application_time_ns.is_none() {
        return; // its part of the handshake
    }
    info.server_application = true;
    let context = info.context();
    let (length, time_ns) = (fragment.record_length, fragment.record_time_ns);
    info.exchange.on_server_record(&context, length, time_ns);
}

fn note_message(message: &Message<'_>, from_client: bool, info: &mut TlsInfo) {
    match (message.kind, from_client) {
        (message::CLIENT_HELLO, true) => note_client_hello(message, info),
        (message::SERVER_HELLO, false) => info.note_server_hello(message.body, message.time_ns),
        (message::CERTIFICATE, false) if info.certificates != Certificates::Read => {
            info.certificates = Certificates::LeftUnread;
        }
        (message::CERTIFICATE, false) if info.certificate_not_after_ns.is_none() => {
            note_certificate(message.body, info);
        }
        _ => {}
    }
}

fn note_certificate(message: &[u8], info: &mut TlsInfo) {
    let Some(leaf) = certificate::Leaf::parse(message) else {
        return;
    };
    info.certificate_not_after_ns = leaf.not_after_ns;
    if info.server_name.is_none() {
        info.certificate_name = leaf.name();
    }
}

/// A second ClientHello, after a HelloRetryRequest, repeats the first.
fn note_client_hello(message: &Message<'_>, info: &mut TlsInfo) {
    if info.client_hello_time_ns.is_some() {
        return;
    }
    info.client_hello_time_ns = Some(message.time_ns);
    if let Some(hello) = ClientHello::parse(message.body) {
        info.take_client_hello(&hello);
    }
}

impl TlsInfo {
    fn take_client_hello(&mut self, hello: &ClientHello<'_>) {
        self.server_name = hello.server_name();
        self.alpn_offered = hello.alpn_offered();
        self.offered_versions = hello.offered_versions();
        self.client_version = self.offered_versions.and_then(Versions::highest);
        self.ech = hello.encrypted_client_hello;
        self.early_data = hello.early_data;
        self.offers_http2 = hello.offers_http2();
    }

    fn take_server_hello(&mut self, hello: &ServerHello<'_>) {
        self.version = hello.version().or(self.version);
        self.cipher_suite = Some(hello.cipher_suite);
        self.alpn_selected = hello.alpn_selected();
    }

    /// Takes in a hello of DTLS. The one that repeats the first with a cookie adds nothing.
    pub(super) fn note_dtls_hello(&mut self, from_client: bool, body: &[u8], time_ns: u64) {
        if from_client && self.client_hello_time_ns.is_none() {
            self.client_hello_time_ns = Some(time_ns);
            if let Some(hello) = ClientHello::parse_dtls(body) {
                self.take_client_hello(&hello);
            }
        } else if !from_client {
            self.note_server_hello(body, time_ns);
        }
    }

    fn note_server_hello(&mut self, body: &[u8], time_ns: u64) {
        let hello = ServerHello::parse(body);
        if hello.as_ref().is_some_and(|hello| hello.is_retry_request) {
            self.hello_retry_request = true;
        } else {
            self.server_hello_time_ns.get_or_insert(time_ns);
        }
        if let Some(hello) = hello {
            self.take_server_hello(&hello);
        }
    }
}

#[cfg(test)]
mod tests;
